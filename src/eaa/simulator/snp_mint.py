# SPDX-License-Identifier: Apache-2.0
"""A whole case of SEV-SNP at once: a report, its collateral, the roots, and what a verifier must say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError, EvidenceError
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.simulator.mint import DEFAULT_MACHINE
from eaa.simulator.snp_faults import combine_snp
from eaa.simulator.snp_machine import REGISTER_SIZES
from eaa.tee.snp.evidence import DeliveredCertificate, SnpEvidence, evidence_to_kbs, make_evidence
from eaa.tee.snp.product import Product
from eaa.tee.snp.report import AttestationReport

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from eaa.rats import Endorsements, TrustAnchor
    from eaa.simulator.amd import AmdChipMaker
    from eaa.simulator.snp_faults import SnpCombination
    from eaa.simulator.snp_machine import SnpMachine

__all__ = ["SnpMinted", "delivered_evidence", "mint_snp"]

_BEHIND_SIGNATURE: Final = 368


@dataclass(frozen=True, slots=True)
class SnpMinted:
    """One case. ``report_data`` is the 64 bytes that the verifier asked for, which a fault may keep out of the report."""

    report: bytes
    machine: SnpMachine
    endorsements: Endorsements
    root_der: bytes
    trust_anchors: tuple[TrustAnchor, ...]
    report_data: bytes
    at: datetime
    faults: SnpCombination

    @property
    def tee(self) -> str:
        """``snp``."""
        return "snp"

    def evidence(self) -> SnpEvidence:
        """Return the report with its certificate, as CoCo's attester sends it.

        :raises EvidenceError: when a fault makes the report unreadable.
        """
        return make_evidence(self.report, self._certificates)

    def evidence_json(self) -> dict[str, Any]:
        """Return that as JSON, in which bytes behind the signature have no place."""
        return evidence_to_kbs(make_evidence(self._readable, self._certificates))

    @property
    def _certificates(self) -> tuple[DeliveredCertificate, ...]:
        key = DeliveredCertificate(self.machine.named_signer, self.machine.certificate)
        return (key,) if self.faults.collateral.key else ()

    @property
    def _readable(self) -> bytes:
        return self.report[:-_BEHIND_SIGNATURE] + bytes(_BEHIND_SIGNATURE)

    @property
    def expected(self) -> dict[str, Any]:
        """What a verifier must find, as plain JSON values.

        ``valid`` speaks of cryptography and collateral, ``accepted`` also of the default policy and the binding. ``failed_checks`` are
        ids of checks that must fail or cannot be made, ``warned_checks`` of those that must warn; others may follow from them.
        """
        report = AttestationReport.parse(self._readable)
        return {
            "valid": self.faults.valid,
            "accepted": not self.faults.checks,
            "product": self.machine.product.value,
            "debug": report.debug,
            "measurements": {name: getattr(report, name).hex() for name in REGISTER_SIZES},
            "report_data": self.report_data.hex(),
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "simulated": True,
            "faults": list(self.faults.names),
            "failed_checks": list(self.faults.checks),
            "warned_checks": list(self.faults.warnings),
        }


def mint_snp(
    maker: AmdChipMaker,
    report_data: bytes,
    *,
    at: datetime,
    product: Product = Product.GENOA,
    signer: str = "VCEK",
    faults: Iterable[str] = (),
    machine: str = DEFAULT_MACHINE,
    image: bytes | str = DEFAULT_IMAGE,
    registers: Mapping[str, bytes] | None = None,
    version: int = 5,
) -> SnpMinted:
    """Mint a report for up to 64 bytes of report data, with the collateral to verify it ``at`` a time.

    :raises ConfigurationError: when this cannot be minted, for instance as a fault needs the other kind of key.
    """
    faults = tuple(faults)
    device = maker.machine(machine, product, signer=signer, faults=faults)
    products = dict.fromkeys((product, device.certified_product))
    return SnpMinted(
        report=device.report(report_data, image=image, registers=registers, version=version),
        machine=device,
        endorsements=maker.collateral(device, at, faults=faults),
        root_der=maker.root_der(product),
        trust_anchors=maker.trust_anchors(products),
        report_data=report_data.ljust(64, b"\0"),
        at=at,
        faults=combine_snp(faults),
    )


def delivered_evidence(maker: AmdChipMaker, machine: SnpMachine, report: bytes) -> dict[str, Any]:
    """Return a report with the certificates that its host hands out, the key's and its authority's, as CoCo's attester sends them.

    :raises ConfigurationError: when a fault makes the report one that JSON cannot hold.
    """
    authority = maker.authority(machine.certified_product, "ask")
    certificates = (
        DeliveredCertificate(machine.named_signer, machine.certificate),
        DeliveredCertificate("ASK", authority.der),
    )
    try:
        return evidence_to_kbs(make_evidence(report, certificates))
    except EvidenceError as error:
        raise ConfigurationError(
            f"an attester cannot send such a report: {error}", hint="`eaa sim snp` writes its bytes."
        ) from error
