# SPDX-License-Identifier: Apache-2.0
"""Faults by name: the one table of what can be wrong, where it is wrong, and which checks must notice.

A fault is a change to the traits of the machine, of the quote or of the collateral; whatever it does not change stays sound,
so that a fault breaks the checks it names and no other reason can hide that one of them was not made.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.simulator.collateral import TCB_LEVELS, TDX_MODULE_VERSION, TDX_MODULES
from eaa.simulator.traits import CollateralTraits, MachineTraits, QuoteTraits, svns

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["FAULTS", "Combination", "Fault", "combine"]

_BOTH: Final = ("sgx", "tdx")
_TDX: Final = ("tdx",)
_PLATFORM: Final = {level.status: level.advisory_ids for level in TCB_LEVELS}
_MODULE: Final = {level.status: level.advisory_ids for level in TDX_MODULES[TDX_MODULE_VERSION][:2]}
_STATUSES: Final = ("UpToDate", "SWHardeningNeeded", "TDRelaunchAdvised", "OutOfDate", "Revoked")


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that is wrong.

    ``checks`` are the ids of the checks that must fail or that can no longer be made, for each kind of TEE in ``tees``.
    ``valid`` says whether signatures, chains, dates and a known TCB level still hold, which is all that a verifier without
    policy looks at. ``machine``, ``quote`` and ``collateral`` are the changed traits.
    """

    name: str
    summary: str
    checks: tuple[str, ...] = ()
    sgx_checks: tuple[str, ...] = ()
    tdx_checks: tuple[str, ...] = ()
    valid: bool = False
    tees: tuple[str, ...] = _BOTH
    tcb_status: str | None = "UpToDate"
    """The status that a verifier can then establish; ``None`` where it cannot."""
    advisory_ids: tuple[str, ...] = ()
    machine: Mapping[str, Any] = field(default_factory=dict)
    quote: Mapping[str, Any] = field(default_factory=dict)
    collateral: Mapping[str, Any] = field(default_factory=dict)

    def checks_of(self, tee: str) -> tuple[str, ...]:
        """Return the ids of the checks that this fault breaks for ``sgx`` or ``tdx``."""
        return self.checks + (self.sgx_checks if tee == "sgx" else self.tdx_checks)

    @property
    def in_evidence(self) -> bool:
        """Whether it is in the machine or the quote, so that an attester can have it."""
        return bool(self.machine or self.quote)


_LIST: Final = (
    # The guest.
    Fault(
        "debug",
        "The guest runs in debug mode: the host can read its memory.",
        sgx_checks=("sgx.enclave.debug",),
        tdx_checks=("tdx.td.debug",),
        valid=True,
        quote={"debug": True},
    ),
    Fault(
        "wrong-report-data",
        "The quote is genuine, but was made for another challenge.",
        ("binding.report-data",),
        valid=True,
        quote={"other_report_data": True},
    ),
    Fault(
        "service-td",
        "A service TD, which may migrate the guest, is bound to it (TDX 1.5).",
        ("tdx.td.service-td",),
        valid=True,
        tees=_TDX,
        quote={"td15": True, "service_td": bytes([0xAA]) * 48},
    ),
    # The platform's TCB.
    Fault(
        "sw-hardening",
        "The platform needs hardened software: its level is SWHardeningNeeded.",
        ("dcap.tcb.status",),
        valid=True,
        tcb_status="SWHardeningNeeded",
        advisory_ids=_PLATFORM["SWHardeningNeeded"],
        machine={"sgx_svns": svns(3, 3, 2, 2, 3, 1, 0, 5)},
    ),
    Fault(
        "stale-tcb",
        "The platform's microcode is old: its level is OutOfDate.",
        ("dcap.tcb.status",),
        valid=True,
        tcb_status="OutOfDate",
        advisory_ids=_PLATFORM["OutOfDate"],
        machine={"sgx_svns": svns(2, 2, 2, 2, 3, 1, 0, 5), "tdx_svns": svns(6, 1, 2)},
    ),
    Fault(
        "revoked-tcb",
        "The platform's TCB level is Revoked.",
        ("dcap.tcb.revoked",),
        tcb_status="Revoked",
        advisory_ids=_PLATFORM["Revoked"],
        machine={"sgx_svns": svns(1, 1, 2, 2, 2, 1, 0, 5), "pce_svn": 5, "tdx_svns": svns(6, 1, 1)},
    ),
    Fault(
        "unknown-tcb",
        "The platform's SVNs are below every level that the chip maker lists.",
        ("dcap.tcb.level",),
        tcb_status=None,
        machine={"sgx_svns": svns(), "pce_svn": 0, "tdx_svns": svns(6, 1, 0)},
    ),
    # The platform's certificate.
    Fault(
        "revoked-pck",
        "The platform's certificate is on its CA's revocation list.",
        ("dcap.pck.revocation",),
        machine={"revoked": True},
    ),
    Fault(
        "expired-pck",
        "The platform's certificate has expired.",
        ("dcap.pck.validity",),
        machine={"expired_pck": True},
    ),
    Fault(
        "altered-pck",
        "The PPID in the platform's certificate was changed after the CA had signed.",
        ("dcap.pck.chain",),
        tcb_status=None,
        machine={"altered_pck": True},
    ),
    Fault(
        "wrong-root",
        "Machine and collateral are of somebody who uses the chip maker's names with other keys.",
        ("dcap.pck.chain",),
        tcb_status=None,
        machine={"impostor": True},
        collateral={"impostor": True},
    ),
    Fault(
        "old-root-issue",
        "The chains carry an earlier certificate of the same root key, which is no reason to refuse.",
        valid=True,
        machine={"old_root": True},
        collateral={"old_root": True},
    ),
    # The TDX module.
    Fault(
        "stale-module",
        "The TDX module is an old release: its level is OutOfDate.",
        ("dcap.tcb.status",),
        valid=True,
        tees=_TDX,
        tcb_status="OutOfDate",
        advisory_ids=_MODULE["OutOfDate"],
        machine={"tdx_svns": svns(4, 1, 3)},
    ),
    Fault(
        "relaunch",
        "An old TDX module launched the TD and was updated since: relaunch it (TDX 1.5).",
        ("dcap.tcb.status",),
        valid=True,
        tees=_TDX,
        tcb_status="TDRelaunchAdvised",
        advisory_ids=_MODULE["OutOfDate"],
        machine={"tdx_svns": svns(4, 1, 3), "tdx_svns_now": svns(6, 1, 3)},
        quote={"td15": True},
    ),
    Fault(
        "unknown-module",
        "The TDX module is of a version that the chip maker does not list.",
        ("tdx.module.identity",),
        tcb_status=None,
        tees=_TDX,
        machine={"tdx_svns": svns(6, 7, 3)},
    ),
    Fault(
        "old-unknown-module",
        "The TDX module's SVN is below every level of its version.",
        ("tdx.module.tcb",),
        tcb_status=None,
        tees=_TDX,
        machine={"tdx_svns": svns(1, 1, 3)},
    ),
    Fault(
        "wrong-seam-signer",
        "Somebody else than the chip maker signed the TDX module.",
        ("tdx.module.signer",),
        tees=_TDX,
        machine={"seam_signer": bytes([0xBB]) * 48},
    ),
    # The quoting enclave.
    Fault(
        "wrong-qe",
        "A quoting enclave of another signer vouches for the attestation key.",
        ("dcap.qe.mrsigner",),
        machine={"qe_signer": bytes([0xCC]) * 32},
    ),
    Fault(
        "debug-qe",
        "The quoting enclave runs in debug mode, so that its key can be read.",
        ("dcap.qe.attributes",),
        machine={"qe_debug": True},
    ),
    Fault(
        "stale-qe",
        "The quoting enclave is an old release: its level is OutOfDate.",
        ("dcap.tcb.status",),
        valid=True,
        tcb_status="OutOfDate",
        advisory_ids=("INTEL-SA-00615",),
        machine={"qe_behind": 2},
    ),
    Fault(
        "wrong-vendor-id",
        "The quote says that its quoting enclave is of another vendor.",
        ("dcap.quote.vendor",),
        quote={"vendor_id": bytes([0xDD]) * 16},
    ),
    # The bytes of the quote.
    Fault(
        "altered-report",
        "A measurement was changed after signing.",
        ("dcap.quote.signature",),
        quote={"altered_report": True},
    ),
    Fault(
        "altered-signature",
        "A bit of the quote's signature was changed.",
        ("dcap.quote.signature",),
        quote={"altered_signature": True},
    ),
    Fault(
        "altered-qe-report",
        "The quoting enclave's SVN was raised in its report after signing.",
        ("dcap.qe.report-signature",),
        quote={"altered_qe_report": True},
    ),
    Fault(
        "altered-qe-binding",
        "The quote is signed by a key that the quoting enclave does not vouch for.",
        ("dcap.qe.binding",),
        quote={"foreign_key": True},
    ),
    Fault(
        "trailing-bytes",
        "Bytes that nobody signed follow the quote.",
        ("dcap.quote.length",),
        tcb_status=None,
        quote={"trailing": b"unsigned"},
    ),
    # The collateral.
    Fault(
        "expired-collateral",
        "All collateral has expired.",
        ("dcap.tcb-info.dates", "dcap.qe-identity.dates", "dcap.crl.root-dates", "dcap.crl.pck-dates"),
        collateral={"begins": timedelta(days=-60), "ends": timedelta(days=-30)},
    ),
    Fault(
        "future-collateral",
        "All collateral is of the future.",
        ("dcap.tcb-info.dates", "dcap.qe-identity.dates", "dcap.crl.root-dates", "dcap.crl.pck-dates"),
        collateral={"begins": timedelta(days=1), "ends": timedelta(days=31)},
    ),
    Fault(
        "altered-tcb-info",
        "In the TCB info, OutOfDate was changed to UpToDate after signing.",
        ("dcap.tcb-info.signature",),
        tcb_status=None,
        collateral={"altered_tcb_info": True},
    ),
    Fault(
        "altered-qe-identity",
        "In the QE identity, the lowest good SVN was lowered after signing.",
        ("dcap.qe-identity.signature",),
        tcb_status=None,
        collateral={"altered_qe_identity": True},
    ),
    Fault(
        "wrong-fmspc",
        "The TCB info is of another family of platforms.",
        ("dcap.tcb-info.fmspc",),
        collateral={"other_fmspc": True},
    ),
    Fault(
        "wrong-tee-collateral",
        "TCB info and QE identity are those of the other kind of TEE.",
        ("dcap.tcb-info.tee", "dcap.qe-identity.tee"),
        tcb_status=None,
        collateral={"other_tee": True},
    ),
    Fault(
        "short-components",
        "The TCB levels list 15 components instead of 16.",
        ("dcap.tcb-info.format",),
        tcb_status=None,
        collateral={"components": 15},
    ),
    Fault(
        "revoked-intermediate",
        "The root's revocation list names the CA that issued the platform's certificate.",
        ("dcap.pck.ca-revocation",),
        collateral={"revoked_intermediate": True},
    ),
    Fault(
        "revoked-tcb-signer",
        "The root's revocation list names the signer of TCB info and QE identity.",
        ("dcap.tcb-info.revocation", "dcap.qe-identity.revocation"),
        collateral={"revoked_tcb_signer": True},
    ),
    Fault(
        "missing-crl",
        "The PCK revocation list is missing.",
        ("dcap.crl.pck", "dcap.pck.revocation"),
        collateral={"pck_crl": "missing"},
    ),
    Fault(
        "stale-crl",
        "The PCK revocation list, and nothing else, has expired.",
        ("dcap.crl.pck-dates",),
        collateral={"pck_crl": "stale"},
    ),
    Fault(
        "altered-crl",
        "A serial number was changed in the PCK revocation list after signing.",
        ("dcap.crl.pck", "dcap.pck.revocation"),
        collateral={"pck_crl": "altered"},
    ),
    Fault(
        "wrong-crl",
        "The PCK revocation list is that of the chip maker's other CA.",
        ("dcap.crl.pck", "dcap.pck.revocation"),
        collateral={"pck_crl": "of-other-ca"},
    ),
)

FAULTS: Final[Mapping[str, Fault]] = {fault.name: fault for fault in _LIST}


@dataclass(frozen=True, slots=True)
class Combination:
    """Several faults at once: the traits they leave, and what is to be expected of a verifier."""

    faults: tuple[Fault, ...]
    machine: MachineTraits
    quote: QuoteTraits
    collateral: CollateralTraits

    @property
    def names(self) -> tuple[str, ...]:
        """The faults' names, in the order given."""
        return tuple(fault.name for fault in self.faults)

    @property
    def valid(self) -> bool:
        """Whether a verifier without policy accepts."""
        return all(fault.valid for fault in self.faults)

    @property
    def tcb_status(self) -> str | None:
        """The worst status of all; ``None`` where a verifier cannot establish one."""
        statuses = [fault.tcb_status for fault in self.faults]
        known = [status for status in statuses if status is not None]
        return max(known, key=_STATUSES.index, default="UpToDate") if len(known) == len(statuses) else None

    @property
    def advisory_ids(self) -> tuple[str, ...]:
        """The advisories of all levels that are not up to date, sorted."""
        return tuple(sorted({each for fault in self.faults for each in fault.advisory_ids}))

    def checks_of(self, tee: str) -> tuple[str, ...]:
        """Return the ids of the checks that these faults break for ``sgx`` or ``tdx``, without repetition."""
        return tuple(dict.fromkeys(check for fault in self.faults for check in fault.checks_of(tee)))


def combine(names: Iterable[str]) -> Combination:
    """Return what the named faults amount to; a later one wins where two change the same trait.

    :raises ConfigurationError: when a name is unknown.
    """
    names = tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in FAULTS]
    if unknown:
        raise ConfigurationError(
            f"no fault is named {', '.join(unknown)}", hint="`eaa sim faults` lists the names."
        )
    faults = tuple(FAULTS[name] for name in names)
    machine, quote, collateral = MachineTraits(), QuoteTraits(), CollateralTraits()
    for fault in faults:
        machine = replace(machine, **fault.machine)
        quote = replace(quote, **fault.quote)
        collateral = replace(collateral, **fault.collateral)
    return Combination(faults, machine, quote, collateral)
