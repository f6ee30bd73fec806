# SPDX-License-Identifier: Apache-2.0
"""SNP verification, steps 6 to 9: the platform's posture, the guest's, the signature, the time and the binding.

The whole procedure (steps 1 to 5 are in :mod:`eaa.tee.snp.authority`):

1.  the certificate of the key that the report names: VCEK or VLEK
2.  its chain over ASK or ASVK to a pinned root (ARK)
3.  one product, one chip, one TCB in report and certificate
4.  revocation list of the root: genuine; the authority is not on it
5.  TCB versions in order
6.  platform: minimum TCB, bulletins, known weaknesses of the product, chip list, alias check, SMT, ciphertext hiding
7.  guest: privilege level, policy bits, id and author key, reserved bits
8.  the chip signed exactly this report
9.  every window of time holds now; the report data is the expected one

Steps 1 to 6 rest on content that repeats from report to report of a platform, step 7 on what repeats from report to report of a
guest; both are remembered by content in bounded caches. Steps 8 and 9 are made anew for each report.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from eaa.rats import Appraisal, Claims, Endorsements
from eaa.tee.binding import check_report_data
from eaa.tee.kind import policy_of
from eaa.tee.snp import rules
from eaa.tee.snp.authority import Dated, authenticate_signer
from eaa.tee.snp.minimum_tcb import open_bulletins
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.posture import check_guest, check_platform
from eaa.tee.snp.report import ECDSA_P384_SHA384
from eaa.tee.x509 import ChainReader, spell_utc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.rats import Check, TrustAnchor
    from eaa.tee.snp.evidence import DeliveredCertificate, SnpEvidence
    from eaa.tee.snp.product import Product
    from eaa.tee.snp.report import AttestationReport

__all__ = ["SnpVerifier", "snp_verifier"]

_ECDSA: Final = ec.ECDSA(SHA384())
_GUESTS: Final = 4096
_NO_GUEST: Final[dict[str, Any]] = {
    "guest_svn": 0,
    "policy": 0,
    "family_id": b"",
    "image_id": b"",
    "vmpl": 0,
    "report_data": b"",
    "measurement": b"",
    "host_data": b"",
    "id_key_digest": b"",
    "author_key_digest": b"",
    "report_id": b"",
    "report_id_ma": b"",
    "signature_r": b"",
    "signature_s": b"",
}
"""The fields of a report that are the guest's or the single report's; without them it speaks of the platform alone."""
_NOT_JUDGED: Final[dict[str, Any]] = {
    "report_data": b"",
    "measurement": b"",
    "host_data": b"",
    "report_id": b"",
    "signature_r": b"",
    "signature_s": b"",
}
"""The fields that no rule about the guest's posture reads."""


@dataclass(frozen=True, slots=True, eq=False)
class _Standing:
    """Outcome of steps 1 to 6 for one platform: all that a further report of it needs."""

    checks: tuple[Check, ...]
    dated: tuple[tuple[Dated, str], ...]
    key: ec.EllipticCurvePublicKey | None
    product: Product | None
    bulletins: tuple[str, ...]
    simulated: bool
    facts: dict[str, Any]


class SnpVerifier:
    """Verifies SEV-SNP evidence. Holds caches only, and is safe to share between threads.

    ``platforms`` bounds how many platforms (chip, TCB, certificates and collateral) are remembered.
    """

    def __init__(self, anchors: Sequence[TrustAnchor], policy: SnpPolicy, *, platforms: int = 4096) -> None:
        self._anchors = tuple(anchors)
        self._policy = policy
        self._chains = ChainReader(self._anchors, size=platforms)
        self._standing = lru_cache(platforms)(self._authenticate)
        self._guest = lru_cache(_GUESTS)(self._check_guest)

    def verify(
        self, evidence: SnpEvidence, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify one report as of ``at`` (UTC) against the 64 bytes of report data that the challenge demands."""
        report = evidence.report
        standing = self._standing(report._replace(**_NO_GUEST), evidence.certificates, endorsements)
        checks = [*standing.checks, *self._guest(report._replace(**_NOT_JUDGED), standing.product)]
        # (8) The chip signed exactly this report.
        checks.append(_signature(evidence, standing.key))
        # (9) Now, and for this challenge.
        now = spell_utc(at)
        checks.extend(
            dated.rule.holds(dated.window.holds(at), expected, dated.window.found_at(at, now))
            for dated, expected in standing.dated
        )
        checks.append(check_report_data(report.report_data, report_data))
        return Appraisal(evidence, at, tuple(checks), _claims(evidence, standing))

    def _authenticate(
        self,
        platform: AttestationReport,
        delivered: tuple[DeliveredCertificate, ...],
        endorsements: Endorsements,
    ) -> _Standing:
        """Make steps 1 to 6."""
        signer = authenticate_signer(platform, delivered, endorsements, self._chains, self._anchors)
        product = signer.product
        bulletins: tuple[str, ...] = ()
        if product is not None:
            bulletins = tuple(
                f"{each.id} of {each.date}: {each.title}"
                for each in open_bulletins(
                    product, platform.tcb("reported", product), platform.cpuid_model, platform.cpuid_stepping
                )
            )
        return _Standing(
            checks=(*signer.checks, *check_platform(platform, signer, bulletins, self._policy)),
            dated=tuple((each, f"within {each.window}") for each in signer.dated),
            key=signer.key,
            product=product,
            bulletins=tuple(text.partition(" ")[0] for text in bulletins),
            simulated=signer.simulated,
            facts=signer.facts,
        )

    def _check_guest(self, guest: AttestationReport, product: Product | None) -> tuple[Check, ...]:
        """Make step 7."""
        return tuple(check_guest(guest, product, self._policy))


def snp_verifier(anchors: Sequence[TrustAnchor], policies: Sequence[object]) -> SnpVerifier:
    """Return a verifier with the :class:`SnpPolicy` among ``policies``, or the default one."""
    return SnpVerifier(anchors, policy_of(SnpPolicy, policies))


def _signature(evidence: SnpEvidence, key: ec.EllipticCurvePublicKey | None) -> Check:
    report = evidence.report
    if key is None or report.signature_algo != ECDSA_P384_SHA384:
        return rules.SIGNATURE.not_made("signed by the chip's key", "that key is not proven")
    r, s = (int.from_bytes(each, "little") for each in (report.signature_r, report.signature_s))
    try:
        key.verify(encode_dss_signature(r, s), evidence.signed, _ECDSA)
    except InvalidSignature:
        return rules.SIGNATURE.failed("signed by the chip's key", "it does not verify")
    return rules.SIGNATURE.passed("signed by the chip's key", "it verifies")


def _claims(evidence: SnpEvidence, standing: _Standing) -> Claims:
    return Claims(
        tee=evidence.tee,
        report_data=evidence.report_data,
        measurements=evidence.measurements,
        debug=evidence.debug,
        advisory_ids=standing.bulletins,
        simulated=standing.simulated,
        values=standing.facts,
    )
