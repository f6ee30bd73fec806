# SPDX-License-Identifier: Apache-2.0
"""What is particular to TDX in DCAP verification: the TDX module, rating launch and current TCB, and the TD's own attributes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.eventlog import check_event_log, parse_event_log
from eaa.eventlog.checks import CONTENT
from eaa.rats import EvidenceError
from eaa.tee.dcap import rules
from eaa.tee.dcap.tcb import (
    Rating,
    combine,
    match_isv_level,
    match_level,
    relaunch,
    shortfalls,
    svn_shortfall,
)
from eaa.tee.tdx import evidence as td

if TYPE_CHECKING:
    from eaa.rats import Check
    from eaa.tee.dcap.collateral import IdentityLevel, TcbInfo, TdxModule
    from eaa.tee.dcap.pck import PckExtension
    from eaa.tee.dcap.policy import AcceptancePolicy

__all__ = ["Module", "check_log", "check_td", "module_of", "rate"]

_DEBUG_GROUP: Final = 0xFF
"""TD_ATTRIBUTES bits 7:0 ("TD under debug"): with any of them set the TD is not trusted."""
_KNOWN: Final = (
    _DEBUG_GROUP
    | td.ATTR_LASS
    | td.ATTR_SEPT_VE_DISABLE
    | td.ATTR_MIGRATABLE
    | td.ATTR_PROTECTION_KEYS
    | td.ATTR_KEY_LOCKER
    | td.ATTR_PERFMON
)
_MR_SERVICE_TD_ZERO: Final = bytes(48)


class Module(NamedTuple):
    """What a TD's report says of its TDX module: at launch (``svn``) and, in TDX 1.5, now (``current_svn``; else empty)."""

    svn: bytes
    current_svn: bytes
    signer: bytes
    attributes: int


def module_of(report: td.TdReport) -> Module:
    """Return the module part of a TD report."""
    return Module(report.tee_tcb_svn, report.tee_tcb_svn_2, report.mrsigner_seam, report.seam_attributes)


def rate(
    module: Module, pck: PckExtension, info: TcbInfo, qe_level: IdentityLevel | None, checks: list[Check]
) -> Rating | None:
    """Rate platform, module and quoting enclave; for TDX 1.5 at launch and now, which may advise a relaunch."""
    _check_identity(module, info, checks)
    launch = _rate_at(module.svn, pck, info, qe_level, "at launch", checks)
    if not module.current_svn:
        return launch
    current = launch
    if module.current_svn != module.svn:
        current = _rate_at(module.current_svn, pck, info, qe_level, "now", checks)
    if launch is None or current is None:
        return None
    advisories = tuple(sorted({*launch.advisory_ids, *current.advisory_ids}))
    return Rating(relaunch(launch.status, current.status), advisories)


def _identity_for(svn: bytes, info: TcbInfo) -> TdxModule | None:
    """Return the identity of the module of this TEE_TCB_SVN; major version 0 is described by ``tdxModule``."""
    major = svn[1]
    if major == 0:
        return info.module
    name = f"TDX_{major:02X}"
    return next((each for each in info.module_identities if each.id.upper() == name), None)


def _check_identity(module: Module, info: TcbInfo, checks: list[Check]) -> None:
    """Match the module's signer and attributes (A4)."""
    identity = _identity_for(module.svn, info)
    expected = ", ".join(each.id for each in info.module_identities) or "the module without version"
    found = f"TDX_{module.svn[1]:02X}, SVN {module.svn[0]}"
    checks.append(rules.TDX_MODULE.holds(identity is not None, f"one of {expected}", found))
    if identity is None:
        return
    checks.append(
        rules.TDX_MODULE_SIGNER.holds(
            module.signer == identity.mr_signer, identity.mr_signer.hex(), module.signer.hex()
        )
    )
    attributes = module.attributes & identity.attributes_mask
    checks.append(
        rules.TDX_MODULE_ATTRIBUTES.holds(
            attributes == identity.attributes,
            f"{identity.attributes:016x} (masked)",
            f"{attributes:016x} (masked)",
        )
    )


def _rate_at(
    svn: bytes,
    pck: PckExtension,
    info: TcbInfo,
    qe_level: IdentityLevel | None,
    when: str,
    checks: list[Check],
) -> Rating | None:
    level = match_level(info.levels, pck.tcb_components, pck.pce_svn, svn)
    found = f"{when}: components {list(pck.tcb_components)}, PCE SVN {pck.pce_svn}, TEE_TCB_SVN {list(svn)}"
    lowest = info.levels[-1]
    expected = (
        f"at least components {list(lowest.tcb.sgx_components)}, PCE SVN {lowest.tcb.pcesvn}, "
        f"TDX components {list(lowest.tcb.tdx_components or ())}"
    )
    if level is None:
        missed = shortfalls(lowest, info, pck.tcb_components, pck.pce_svn, svn)
        checks.append(rules.TCB_LEVEL.failed(expected, f"{when}: {'; '.join(missed)}"))
    else:
        text = f"{found}: {level.status}, level of {level.date.date()}"
        checks.append(rules.TCB_LEVEL.passed(expected, text))
    parts = [qe_level] if qe_level is not None else []
    if svn[1] > 0:
        module_level = _rate_module(svn, info, when, checks)
        if module_level is None:
            return None
        parts.insert(0, module_level)
    return combine(level, parts) if level is not None and qe_level is not None else None


def _rate_module(svn: bytes, info: TcbInfo, when: str, checks: list[Check]) -> IdentityLevel | None:
    identity = _identity_for(svn, info)
    if identity is None:
        return None
    level = match_isv_level(identity.levels, svn[0])
    best = identity.levels[0] if identity.levels else None
    expected = f"SVN {best.isv_svn} or more for {best.status}" if best else "a level"
    found = f"{when}: SVN {svn[0]}" + (f": {level.status}" if level else ", below every level")
    checks.append(rules.TDX_MODULE_TCB.holds(level is not None, expected, found))
    return level


def module_shortfalls(module: Module, info: TcbInfo) -> tuple[str, ...]:
    """Say how far the TDX module is below its best level, at launch and now."""
    found: tuple[str, ...] = ()
    for svn, when in ((module.svn, "at launch"), (module.current_svn, "now")):
        identity = _identity_for(svn, info) if svn and svn[1] else None
        if identity is not None:
            what = "the TDX module's SVN" + (f" {when}" if module.current_svn else "")
            found += svn_shortfall(what, svn[0], identity.levels)
    return found


def check_td(report: td.TdReport, policy: AcceptancePolicy) -> list[Check]:
    """Check the attributes of a TD and, in TDX 1.5, its service TD."""
    attributes = report.td_attributes
    reserved = attributes & ~_KNOWN
    sept = bool(attributes & td.ATTR_SEPT_VE_DISABLE)
    migratable = bool(attributes & td.ATTR_MIGRATABLE)
    perfmon = bool(attributes & td.ATTR_PERFMON)
    checks = [
        rules.TDX_RESERVED.holds(not reserved, "no unknown bits", f"unknown bits {reserved:016x}"),
        rules.TDX_DEBUG.holds(
            not attributes & _DEBUG_GROUP, "bits 7:0 are 00", f"bits 7:0 are {attributes & _DEBUG_GROUP:02x}"
        ),
        rules.TDX_SEPT_VE.holds(
            sept or not policy.require_sept_ve_disable, "SEPT_VE_DISABLE=1", f"SEPT_VE_DISABLE={sept:d}"
        ),
        rules.TDX_MIGRATABLE.holds(
            not migratable or policy.allow_migratable, "MIGRATABLE=0", f"MIGRATABLE={migratable:d}"
        ),
        (rules.TDX_PERFMON.warned if perfmon else rules.TDX_PERFMON.passed)(
            "PERFMON=0", f"PERFMON={perfmon:d}"
        ),
    ]
    if report.mr_service_td:
        allowed = report.mr_service_td == _MR_SERVICE_TD_ZERO or report.mr_service_td in policy.service_tds
        checks.append(
            rules.TDX_SERVICE_TD.holds(
                allowed, f"zero, or one of {len(policy.service_tds)} allowed", report.mr_service_td.hex()
            )
        )
    else:
        checks.append(rules.TDX_SERVICE_TD.not_applicable("a TD 1.0 report has no service TD"))
    return checks


def check_log(quote: td.TdxQuote, *, genuine: bool) -> tuple[Check, ...]:
    """Tie the event log, if one came, to the RTMRs of a quote whose signature holds; without one there is nothing to check."""
    if not quote.event_log:
        return ()
    if not genuine:
        return (CONTENT.not_made("a log of this very boot", "nobody vouches for the registers"),)
    report = quote.report
    registers = {
        f"rtmr_{n}": value
        for n, value in enumerate((report.rtmr_0, report.rtmr_1, report.rtmr_2, report.rtmr_3))
    }
    try:
        log = parse_event_log(quote.event_log)
    except EvidenceError as error:
        return (CONTENT.failed("a well-formed event log", str(error)),)
    # A guest may extend RTMR 3 without logging it where we can see it; reference values decide about that register.
    return check_event_log(log, registers, "sha384", optional=("rtmr_3",))
