# SPDX-License-Identifier: Apache-2.0
"""From a measurement before the fact to the registers of a set, each with what went into it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eaa.tee.measured import inputs_of
from eaa.verdict.errors import StatementError
from eaa.verdict.reference_set import Input, RegisterValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eaa.tee.measured import LaunchMeasurement
    from eaa.verdict.envelope import Sealed
    from eaa.verdict.statement import Artifact

__all__ = ["check_provenance", "registers_of"]


def registers_of(measured: LaunchMeasurement) -> tuple[RegisterValue, ...]:
    """Return the registers that are known, with their inputs in the order of measurement."""
    inputs = inputs_of(measured.events)
    return tuple(
        RegisterValue(
            name,
            (value.hex(),),
            tuple(Input(part.value, digest.hex()) for part, digest in inputs.get(name, ())),
        )
        for name, value in measured.registers.items()
    )


def check_provenance(artifacts: Sequence[Artifact], provenance: Iterable[Sealed]) -> None:
    """Refuse provenance that is about none of the artifacts: it would prove nothing of the set. Signatures are not looked at.

    :raises StatementError: when it is, or is no statement.
    """
    ours = {digest for each in artifacts for digest in each.digests}
    for sealed in provenance:
        statement = sealed.statement()
        if not any(digest in ours for each in statement.subject for digest in each.digests):
            raise StatementError(
                f"the provenance of {statement.subject[0].name[:200]!r} is about none of the artifacts",
                hint="Give the provenance of the firmware, kernel or initrd that is measured here.",
            )
