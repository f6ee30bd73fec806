# SPDX-License-Identifier: Apache-2.0
"""What is particular to SGX in DCAP verification: rating the TCB, and the enclave's own attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eaa.tee.dcap import rules
from eaa.tee.dcap.tcb import Rating, combine, match_level, shortfalls
from eaa.tee.sgx.evidence import FLAG_DEBUG, FLAG_INIT, EnclaveReport

if TYPE_CHECKING:
    from eaa.rats import Check
    from eaa.tee.dcap.collateral import IdentityLevel, TcbInfo
    from eaa.tee.dcap.pck import PckExtension

__all__ = ["check_enclave", "rate"]


def rate(
    pck: PckExtension, info: TcbInfo, qe_level: IdentityLevel | None, checks: list[Check]
) -> Rating | None:
    """Rate the platform: the first level that its SVNs reach, converged with the quoting enclave's."""
    level = match_level(info.levels, pck.tcb_components, pck.pce_svn)
    found = f"components {list(pck.tcb_components)}, PCE SVN {pck.pce_svn}"
    lowest = info.levels[-1]
    expected = f"at least components {list(lowest.tcb.sgx_components)}, PCE SVN {lowest.tcb.pcesvn}"
    if level is None:
        missed = shortfalls(lowest, info, pck.tcb_components, pck.pce_svn)
        checks.append(rules.TCB_LEVEL.failed(expected, "; ".join(missed)))
        return None
    checks.append(rules.TCB_LEVEL.passed(expected, f"{found}: {level.status}, level of {level.date.date()}"))
    return combine(level, [qe_level]) if qe_level is not None else None


def check_enclave(report: EnclaveReport) -> list[Check]:
    """Check the attributes and reserved fields of an enclave's report."""
    flags = report.attributes_flags
    reserved = (
        any(report.reserved_1) or any(report.reserved_2) or any(report.reserved_3) or any(report.reserved_4)
    )
    return [
        rules.SGX_RESERVED.holds(not reserved, "all zero", "not all zero" if reserved else "all zero"),
        rules.SGX_INIT.holds(bool(flags & FLAG_INIT), "INIT=1", f"INIT={flags & FLAG_INIT}"),
        rules.SGX_DEBUG.holds(not flags & FLAG_DEBUG, "DEBUG=0", f"DEBUG={(flags & FLAG_DEBUG) >> 1}"),
    ]
