# SPDX-License-Identifier: Apache-2.0
"""Faults of SEV-SNP by name: what can be wrong, where it is wrong, and which checks must notice.

As in :mod:`eaa.simulator.faults`, a fault is a change to the traits of the machine, of the report or of the collateral; whatever it does
not change stays sound.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.simulator.snp_traits import SnpCollateralTraits, SnpMachineTraits, SnpReportTraits
from eaa.tee.snp.report import KEY_NONE, KEY_VCEK, POLICY_DEBUG, POLICY_MIGRATE_MA, POLICY_SMT

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["SNP_FAULTS", "SnpCombination", "SnpFault", "combine_snp"]

_BEHIND: Final = 8
"""Levels of SNP firmware below the current one; below the minimum of every product once it is cut at 0."""


@dataclass(frozen=True, slots=True)
class SnpFault:
    """One thing that is wrong.

    ``checks`` are the ids of the checks that must fail or that can no longer be made, ``warnings`` of those that must warn. ``valid``
    says whether signatures, chains and dates still hold, which is all that a verifier without policy looks at. ``signer`` is the kind
    of key it needs, if it needs one: ``VCEK`` or ``VLEK``.
    """

    name: str
    summary: str
    checks: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    valid: bool = False
    signer: str | None = None
    machine: Mapping[str, Any] = field(default_factory=dict)
    report: Mapping[str, Any] = field(default_factory=dict)
    collateral: Mapping[str, Any] = field(default_factory=dict)

    @property
    def in_evidence(self) -> bool:
        """Whether it is in the machine or the report, so that an attester can have it."""
        return bool(self.machine or self.report)


_LIST: Final = (
    # The guest.
    SnpFault(
        "debug",
        "The guest's policy allows debugging: the host can read and change its memory.",
        ("snp.policy.debug",),
        valid=True,
        report={"policy": POLICY_DEBUG},
    ),
    SnpFault(
        "wrong-report-data",
        "The report is genuine, but was made for another challenge.",
        ("binding.report-data",),
        valid=True,
        report={"other_report_data": True},
    ),
    SnpFault(
        "vmpl",
        "The report was asked for at VMPL 1, where the guest's user space may sit.",
        ("snp.vmpl",),
        valid=True,
        report={"vmpl": 1},
    ),
    SnpFault(
        "migrate-ma",
        "The guest's policy lets a migration agent have it.",
        ("snp.policy.migrate-ma",),
        valid=True,
        report={"policy": POLICY_MIGRATE_MA},
    ),
    SnpFault(
        "smt",
        "SMT is on and the guest's policy allows it, as in every cloud: a warning, unless the owner refuses it.",
        warnings=("snp.platform.smt", "snp.policy.smt"),
        valid=True,
        machine={"smt": True},
        report={"policy": POLICY_SMT},
    ),
    # The platform.
    SnpFault(
        "alias-check-missing",
        "The platform did not look for memory aliases at start (BadRAM).",
        ("snp.platform.alias-check",),
        valid=True,
        machine={"no_alias_check": True},
    ),
    SnpFault(
        "below-minimum",
        "The SNP firmware is older than the minimum of AMD's security bulletins.",
        ("snp.tcb.minimum",),
        ("snp.tcb.bulletins",),
        valid=True,
        machine={"snp_behind": _BEHIND},
    ),
    SnpFault(
        "provisional",
        "Firmware that is new enough runs, but what is committed is below the minimum.",
        ("snp.tcb.minimum",),
        ("snp.tcb.bulletins", "snp.tcb.provisional"),
        valid=True,
        machine={"snp_behind": _BEHIND, "provisional": True},
    ),
    SnpFault(
        "unordered-tcb",
        "The platform reports a TCB above the one that is committed.",
        ("snp.tcb.relations",),
        machine={"unordered": True},
    ),
    SnpFault(
        "masked-chip-id",
        "The platform masks its chip id, which is no reason to refuse: its key still shows the chip.",
        warnings=("snp.vcek.chip-id",),
        valid=True,
        signer="VCEK",
        machine={"masked_chip_id": True},
    ),
    # The certificate of the key.
    SnpFault(
        "wrong-chip-id",
        "The certificate is that of another chip.",
        ("snp.vcek.chip-id",),
        signer="VCEK",
        machine={"certified_chip": False},
    ),
    SnpFault(
        "tcb-mismatch",
        "The certificate is for an older TCB than the reported one.",
        ("snp.vcek.tcb",),
        machine={"certified_behind": 1},
    ),
    SnpFault(
        "wrong-product",
        "The certificate is of another product, and genuinely issued below that product's root.",
        ("snp.vcek.product",),
        machine={"other_product": True},
    ),
    SnpFault(
        "expired-vcek",
        "The certificate has expired.",
        ("snp.vcek.validity",),
        machine={"expired": True},
    ),
    SnpFault(
        "altered-vcek",
        "The certificate was changed after the authority had signed.",
        ("snp.vcek.chain", "snp.report.signature"),
        machine={"altered": True},
    ),
    SnpFault(
        "wrong-root",
        "The machine and its certificates are of somebody who uses the chip maker's names with other keys.",
        ("snp.vcek.chain", "snp.report.signature"),
        machine={"impostor": True},
    ),
    SnpFault(
        "vlek-as-vcek",
        "The report names a VCEK, but the key and its certificate are a cloud's VLEK.",
        ("snp.report.signer", "snp.report.signature"),
        signer="VLEK",
        report={"signing_key": KEY_VCEK},
    ),
    SnpFault(
        "missing-vcek",
        "There is no certificate of the key that signed.",
        ("snp.report.signer", "snp.vcek.chain", "snp.report.signature"),
        collateral={"key": False},
    ),
    # The bytes of the report.
    SnpFault(
        "unsigned-report",
        "The platform does not sign its reports (MASK_CHIP_KEY).",
        ("snp.report.signer", "snp.report.signature"),
        report={"signing_key": KEY_NONE, "unsigned": True},
    ),
    SnpFault(
        "wrong-algorithm",
        "The report names another signature algorithm than the one that is defined.",
        ("snp.report.algorithm", "snp.report.signature"),
        report={"signature_algo": 2},
    ),
    SnpFault(
        "reserved",
        "A bit of the platform information that has no meaning is set.",
        ("snp.report.reserved",),
        valid=True,
        report={"reserved": True},
    ),
    SnpFault(
        "altered-report",
        "The measurement was changed after signing.",
        ("snp.report.signature",),
        report={"altered_report": True},
    ),
    SnpFault(
        "altered-signature",
        "A bit of the signature was changed.",
        ("snp.report.signature",),
        report={"altered_signature": True},
    ),
    SnpFault(
        "trailing-bytes",
        "Bytes that nobody signed stand behind the signature.",
        ("snp.report.length",),
        report={"trailing": True},
    ),
    # The revocation list.
    SnpFault(
        "revoked-ask",
        "The root's revocation list names the authority that issued the certificate.",
        ("snp.vcek.revocation",),
        collateral={"revoked_authority": True},
    ),
    SnpFault(
        "crl-serial-zero",
        "The root's revocation list names the serial number 0, which every VCEK has and which revokes none of them.",
        valid=True,
        collateral={"revoked_zero": True},
    ),
    SnpFault(
        "missing-crl",
        "The revocation list is missing.",
        ("snp.crl", "snp.vcek.revocation"),
        collateral={"crl": "missing"},
    ),
    SnpFault(
        "stale-crl",
        "The revocation list has expired.",
        ("snp.crl.dates",),
        collateral={"begins": timedelta(days=-400), "ends": timedelta(days=-30)},
    ),
    SnpFault(
        "altered-crl",
        "The revocation list was changed after signing.",
        ("snp.crl", "snp.vcek.revocation"),
        collateral={"crl": "altered"},
    ),
    SnpFault(
        "wrong-crl",
        "The revocation list is that of another product.",
        ("snp.crl", "snp.vcek.revocation"),
        collateral={"crl": "of-other-product"},
    ),
)

SNP_FAULTS: Final[Mapping[str, SnpFault]] = {fault.name: fault for fault in _LIST}


@dataclass(frozen=True, slots=True)
class SnpCombination:
    """Several faults at once: the traits they leave, and what is to be expected of a verifier."""

    faults: tuple[SnpFault, ...]
    machine: SnpMachineTraits
    report: SnpReportTraits
    collateral: SnpCollateralTraits

    @property
    def names(self) -> tuple[str, ...]:
        """The faults' names, in the order given."""
        return tuple(fault.name for fault in self.faults)

    @property
    def valid(self) -> bool:
        """Whether a verifier without policy accepts."""
        return all(fault.valid for fault in self.faults)

    @property
    def checks(self) -> tuple[str, ...]:
        """The ids of the checks that these faults break, without repetition."""
        return tuple(dict.fromkeys(check for fault in self.faults for check in fault.checks))

    @property
    def warnings(self) -> tuple[str, ...]:
        """Likewise of those that must warn."""
        return tuple(dict.fromkeys(check for fault in self.faults for check in fault.warnings))


def combine_snp(names: Iterable[str]) -> SnpCombination:
    """Return what the named faults amount to: bits of the guest policy add up, else a later fault wins.

    :raises ConfigurationError: when a name is unknown.
    """
    names = tuple(dict.fromkeys(names))
    unknown = [name for name in names if name not in SNP_FAULTS]
    if unknown:
        raise ConfigurationError(
            f"no fault of SNP is named {', '.join(unknown)}",
            hint="`eaa sim faults --tee snp` lists the names.",
        )
    faults = tuple(SNP_FAULTS[name] for name in names)
    machine, report, collateral = SnpMachineTraits(), SnpReportTraits(), SnpCollateralTraits()
    for fault in faults:
        machine = replace(machine, **fault.machine)
        changes = dict(fault.report)
        if "policy" in changes:
            changes["policy"] |= report.policy
        report = replace(report, **changes)
        collateral = replace(collateral, **fault.collateral)
    return SnpCombination(faults, machine, report, collateral)
