# SPDX-License-Identifier: Apache-2.0
"""A chip maker in software: its own root CA, collateral in Intel's formats, machines that mint true quotes, faults on demand.

Nothing here is trusted by default. A verifier accepts this evidence only where :meth:`ChipMaker.trust_anchor` was configured,
and its verdict then says ``simulated``.
"""

from eaa.simulator.attester import SimulatedAttester
from eaa.simulator.collateral import to_common_form
from eaa.simulator.faults import FAULTS, Fault
from eaa.simulator.machine import Machine
from eaa.simulator.measure import measure
from eaa.simulator.mint import REGISTERS, Minted, mint, mint_quote
from eaa.simulator.vendor import ChipMaker

__all__ = [
    "FAULTS",
    "REGISTERS",
    "ChipMaker",
    "Fault",
    "Machine",
    "Minted",
    "SimulatedAttester",
    "measure",
    "mint",
    "mint_quote",
    "to_common_form",
]
