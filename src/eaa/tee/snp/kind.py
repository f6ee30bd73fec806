# SPDX-License-Identifier: Apache-2.0
"""SEV-SNP, as the rest of EAA knows it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eaa.tee.kind import TeeClaims, TeeKind
from eaa.tee.snp.evidence import SnpEvidence, evidence_from_kbs, parse_snp_evidence
from eaa.tee.snp.product import product_of_name
from eaa.tee.snp.report import PLATFORM_BITS, POLICY_BITS
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.snp.verify import snp_verifier

if TYPE_CHECKING:
    from collections.abc import Container

    from eaa.rats import Appraisal
    from eaa.tee.snp.product import Product
    from eaa.tee.snp.report import AttestationReport

__all__ = ["KIND", "report_claims"]

_REQUIRED: Final = frozenset({"measurement"})
"""The launch measurement covers the initial memory and registers; the host chooses what it loads later, unless that is measured by
what was launched (attack A27)."""


def _required(_: Container[str]) -> frozenset[str]:
    return _REQUIRED


def report_claims(report: AttestationReport, product: Product | None) -> dict[str, Any]:
    """Return a report's claims under Trustee's names, numbers and truth values as such, and beside them what Trustee leaves out."""
    major, minor = report.policy_abi
    tcb = report.tcb("reported", product)
    return {
        "measurement": report.measurement.hex(),
        "chip_id": report.chip_id.hex(),
        "report_data": report.report_data.hex(),
        "policy_abi_major": major,
        "policy_abi_minor": minor,
        **{f"policy_{name}": bool(report.policy & bit) for name, bit in POLICY_BITS.items()},
        **{f"platform_{name}": bool(report.platform_info & bit) for name, bit in PLATFORM_BITS.items()},
        **{f"reported_tcb_{name}": level for name, level in tcb._asdict().items() if level is not None},
        "version": report.version,
        "vmpl": report.vmpl,
        "guest_svn": report.guest_svn,
        "family_id": report.family_id.hex(),
        "image_id": report.image_id.hex(),
        "host_data": report.host_data.hex(),
        "id_key_digest": report.id_key_digest.hex(),
        "author_key_digest": report.author_key_digest.hex(),
    }


def _claims(appraisal: Appraisal) -> TeeClaims:
    evidence, values = appraisal.evidence, appraisal.unverified.values
    assert isinstance(evidence, SnpEvidence)
    claims = report_claims(evidence.report, product_of_name(values.get("product") or ""))
    named = {
        name: values[name] for name in ("product", "signing_key", "csp_id", "firmware") if name in values
    }
    advisories = list(appraisal.unverified.advisory_ids)
    return TeeClaims({**claims, **named, "advisory_ids": advisories}, evidence.report.host_data)


KIND: Final = TeeKind(
    name="snp",
    parse=parse_snp_evidence,
    from_kbs=evidence_from_kbs,
    verifier=snp_verifier,
    claims=_claims,
    registers={
        "measurement": "What the guest was launched from is as the owner expects",
        "host_data": "What the host bound to the guest at launch (init-data) is as the owner expects",
        "id_key_digest": "The guest is signed by the id key that the owner expects",
        "author_key_digest": "The guest's id key is signed by the author key that the owner expects",
        "family_id": "The guest is of the family that the owner expects",
        "image_id": "The guest is of the image that the owner expects",
        "guest_svn": "The guest's security version is high enough",
    },
    register_source="AMD SEV-SNP Firmware ABI Specification (56860), SNP_LAUNCH_FINISH; RFC 9334 section 8.3",
    required=_required,
    roots=AMD_ROOTS,
    minimums=frozenset({"guest_svn"}),
)
