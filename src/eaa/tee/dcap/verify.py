# SPDX-License-Identifier: Apache-2.0
"""DCAP verification, steps 6 to 10: the quoting enclave, the TCB, the quote, the time and the binding.

The whole procedure (steps 1 to 5 are in :mod:`eaa.tee.dcap.authority`):

1.  PCK chain to a pinned root
2.  root CRL and PCK CRL: genuine; CA and PCK not revoked
3.  TCB info: chain, signature, fields, this TEE, this FMSPC and PCE
4.  QE identity: chain, signature, fields, this TEE
5.  signers not revoked
6.  QE report signed by the PCK key; it vouches for the attestation key
7.  QE is Intel's: signer, product, attributes, SVN level
8.  TCB level of the platform (for a TD also of its module), converged with the QE's, judged by the owner's policy
9.  the attestation key signed header and body; the body's own attributes
10. every window of time holds now; the report data is the expected one

Steps 1 to 8 rest on content that repeats from quote to quote and are remembered by content in bounded caches: a changed byte
in a certificate, list, statement or report is another key, so nothing outlives what it rests on. Steps 9 and 10 are made
anew for each quote.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache, partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, NamedTuple

from eaa.rats import Appraisal, Check, Claims, Endorsements, TrustAnchor
from eaa.tee.binding import check_report_data
from eaa.tee.dcap import rules
from eaa.tee.dcap.authority import (
    Dated,
    Platform,
    authenticate_enclave_identity,
    authenticate_platform,
    authenticate_tcb_info,
)
from eaa.tee.dcap.ecdsa import load_point, verifies
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.dcap.quote import INTEL_QE_VENDOR_ID, CertificationData
from eaa.tee.dcap.tcb import (
    RELAUNCH,
    UP_TO_DATE,
    Rating,
    best_level,
    match_isv_level,
    shortfalls,
    svn_shortfall,
)
from eaa.tee.kind import REPORT_DATA_SIZE, policy_of
from eaa.tee.sgx import verify as sgx
from eaa.tee.sgx.evidence import EnclaveReport, SgxQuote
from eaa.tee.tdx import verify as tdx
from eaa.tee.tdx.evidence import TdxQuote
from eaa.tee.x509 import ChainReader, spell_utc

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from eaa.tee.dcap.collateral import EnclaveIdentity, IdentityLevel

__all__ = ["DcapVerifier", "dcap_verifier"]


class _Certified(NamedTuple):
    """What certifies a quote's attestation key, as far as it is the same for every quote of a platform."""

    attestation_key: bytes
    qe_report: bytes
    qe_report_signature: bytes
    qe_auth_data: bytes
    certification: CertificationData


@dataclass(frozen=True, slots=True, eq=False)
class _Standing:
    """Outcome of steps 1 to 8 for one platform, quoting enclave and module: all that a further quote of it needs."""

    checks: tuple[Check, ...]
    dated: tuple[tuple[Dated, str], ...]
    key: EllipticCurvePublicKey | None
    rating: Rating | None
    facts: dict[str, Any]
    simulated: bool


class DcapVerifier:
    """Verifies SGX and TDX quotes. Holds caches only, and is safe to share between threads.

    ``platforms`` bounds how many platforms (PCK chain, quoting enclave and collateral) are remembered.
    """

    def __init__(
        self, anchors: Sequence[TrustAnchor], policy: AcceptancePolicy, *, platforms: int = 4096
    ) -> None:
        self._policy = policy
        chains = ChainReader(anchors, size=platforms)
        tcb_info = lru_cache(256)(partial(authenticate_tcb_info, chains=chains))
        identity = lru_cache(64)(partial(authenticate_enclave_identity, chains=chains))
        self._platform = lru_cache(platforms)(
            partial(authenticate_platform, chains=chains, tcb_info_of=tcb_info, identity_of=identity)
        )
        self._standing = lru_cache(platforms)(self._authenticate)

    def verify(
        self, quote: SgxQuote | TdxQuote, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify one quote as of ``at`` (aware) against the 64 bytes of report data that the challenge demands."""
        envelope = quote.envelope
        part = envelope.signature
        module = tdx.module_of(quote.report) if isinstance(quote, TdxQuote) else None
        certified = _Certified(
            part.attestation_key,
            part.qe_report,
            part.qe_report_signature,
            part.qe_auth_data,
            part.certification,
        )
        standing = self._standing(certified, module, endorsements)
        now = spell_utc(at)

        vendor = envelope.header.qe_vendor_id
        checks = [
            rules.VENDOR.holds(vendor == INTEL_QE_VENDOR_ID, INTEL_QE_VENDOR_ID.hex(), vendor.hex()),
            rules.LENGTH.passed(
                "quote, then nothing but zero padding", f"{envelope.padding} zero bytes were cut"
            ),
            *standing.checks,
        ]
        # (9) The attestation key signed exactly this header and body.
        genuine = standing.key is not None and verifies(standing.key, part.signature, envelope.signed)
        signed_by = "signed by the attestation key"
        if standing.key is None:
            checks.append(rules.SIGNATURE.not_made(signed_by, "that key is not certified"))
        else:
            checks.append(
                rules.SIGNATURE.holds(genuine, signed_by, "it verifies" if genuine else "it does not")
            )
        if isinstance(quote, TdxQuote):
            checks.extend(tdx.check_td(quote.report, self._policy))
            checks.extend(tdx.check_log(quote, genuine=genuine))
        else:
            checks.extend(sgx.check_enclave(quote.report))
        # (10) Now, and for this challenge.
        checks.extend(
            dated.rule.passed(expected, now)
            if dated.window.holds(at)
            else dated.rule.failed(expected, dated.window.found_at(at, now))
            for dated, expected in standing.dated
        )
        checks.append(check_report_data(quote.report_data, report_data))
        return Appraisal(quote, at, tuple(checks), _claims(quote, standing))

    def _authenticate(
        self, certified: _Certified, module: tdx.Module | None, endorsements: Endorsements
    ) -> _Standing:
        """Make steps 1 to 8. ``module`` is what a TD's report says of its TDX module, None for an enclave."""
        platform = self._platform(
            certified.certification, endorsements, tee="SGX" if module is None else "TDX"
        )
        checks = list(platform.checks)
        qe = EnclaveReport.parse(certified.qe_report)
        # (6) The PCK key signed the QE's report, and the report vouches for the attestation key.
        key = _attestation_key(certified, qe, platform, checks)
        # (7) The QE is Intel's.
        qe_level = _quoting_enclave(qe, platform.qe_identity, checks) if platform.qe_identity else None
        # (8) The TCB.
        rating = None
        if platform.tcb_info is not None and platform.pck is not None:
            if module is None:
                rating = sgx.rate(platform.pck.extension, platform.tcb_info, qe_level, checks)
            else:
                rating = tdx.rate(module, platform.pck.extension, platform.tcb_info, qe_level, checks)
            if rating is not None and rating.status != UP_TO_DATE:
                rating = _explained(rating, platform, module, qe)
        _status(rating, self._policy, checks)
        _evaluation(platform, self._policy, checks)
        checks.append(_listed(platform, self._policy))
        return _Standing(
            tuple(checks),
            tuple((each, f"within {each.window}") for each in platform.dated),
            key,
            rating,
            platform.facts,
            platform.pck is not None and platform.pck.chain.anchor.simulated,
        )


def dcap_verifier(anchors: Sequence[TrustAnchor], policies: Sequence[object]) -> DcapVerifier:
    """Return the verifier that SGX and TDX share."""
    return DcapVerifier(anchors, policy_of(AcceptancePolicy, policies))


def _attestation_key(
    certified: _Certified, qe: EnclaveReport, platform: Platform, checks: list[Check]
) -> EllipticCurvePublicKey | None:
    """Step 6. Return the attestation key if the report of the quoting enclave, whose signature holds, vouches for it."""
    if platform.pck is None:
        checks.append(rules.QE_SIGNATURE.not_made("signed by the PCK key", "the PCK key is not proven"))
        signed = False
    else:
        signed = verifies(platform.pck.public_key, certified.qe_report_signature, certified.qe_report)
        checks.append(
            rules.QE_SIGNATURE.holds(
                signed, "signed by the PCK key", "it verifies" if signed else "it does not"
            )
        )
    digest = (
        sha256(certified.attestation_key + certified.qe_auth_data).digest().ljust(REPORT_DATA_SIZE, b"\0")
    )
    key = load_point(certified.attestation_key)
    bound = qe.report_data == digest and key is not None
    checks.append(rules.QE_BINDING.holds(bound, digest.hex(), qe.report_data.hex()))
    return key if signed and bound else None


def _quoting_enclave(
    qe: EnclaveReport, identity: EnclaveIdentity, checks: list[Check]
) -> IdentityLevel | None:
    """Step 7. Return the level that the quoting enclave reaches."""
    checks.append(
        rules.QE_MRSIGNER.holds(
            qe.mr_signer == identity.mr_signer, identity.mr_signer.hex(), qe.mr_signer.hex()
        )
    )
    checks.append(
        rules.QE_PRODUCT.holds(
            qe.isv_prod_id == identity.isv_prod_id,
            f"product id {identity.isv_prod_id}",
            f"product id {qe.isv_prod_id}",
        )
    )
    attributes = int.from_bytes(qe.attributes, "big") & identity.attributes_mask
    misc = qe.misc_select & identity.misc_select_mask
    checks.append(
        rules.QE_ATTRIBUTES.holds(
            attributes == identity.attributes and misc == identity.misc_select,
            f"attributes {identity.attributes:032x}, MISCSELECT {identity.misc_select:08x} (masked)",
            f"attributes {attributes:032x}, MISCSELECT {misc:08x} (masked)",
        )
    )
    level = match_isv_level(identity.levels, qe.isv_svn)
    lowest = min(each.isv_svn for each in identity.levels)
    checks.append(
        rules.QE_TCB.holds(
            level is not None,
            f"SVN {lowest} or more, {identity.levels[0].isv_svn} for {identity.levels[0].status}",
            f"SVN {qe.isv_svn}" + (f": {level.status}" if level else ", below every level"),
        )
    )
    return level


def _explained(rating: Rating, platform: Platform, module: tdx.Module | None, qe: EnclaveReport) -> Rating:
    """Say by which SVNs a platform misses a better status."""
    assert platform.tcb_info is not None
    assert platform.pck is not None
    info, pck = platform.tcb_info, platform.pck.extension
    best = best_level(info.levels)
    svn = None if module is None else module.svn
    reasons = shortfalls(best, info, pck.tcb_components, pck.pce_svn, svn)
    if module is not None:
        reasons += tdx.module_shortfalls(module, info)
    if platform.qe_identity is not None:
        reasons += svn_shortfall("the quoting enclave's SVN", qe.isv_svn, platform.qe_identity.levels)
    if rating.status.startswith(RELAUNCH):
        reasons += ("the platform was updated since the TD's launch: relaunch it",)
    return replace(
        rating, reasons=reasons or (f"no update gives this platform a better level than {best.status}",)
    )


def _status(rating: Rating | None, policy: AcceptancePolicy, checks: list[Check]) -> None:
    """Step 8, second half: the converged status is a gate with an explicit accept-set (A7, B13)."""
    accepted = ", ".join(sorted(policy.tcb_statuses))
    if rating is None:
        checks.append(rules.TCB_STATUS.not_made(accepted, "no status: the TCB could not be rated"))
        return
    checks.append(
        rules.TCB_REVOKED.holds(rating.status != "Revoked", "any status but Revoked", rating.status)
    )
    checks.append(rules.TCB_STATUS.holds(rating.status in policy.tcb_statuses, accepted, str(rating)))
    if rating.advisory_ids:
        checks.append(rules.ADVISORIES.warned("none", ", ".join(rating.advisory_ids)))
    else:
        checks.append(rules.ADVISORIES.passed("none", "none"))


def _evaluation(platform: Platform, policy: AcceptancePolicy, checks: list[Check]) -> None:
    numbers = [
        each.evaluation_number for each in (platform.tcb_info, platform.qe_identity) if each is not None
    ]
    if numbers:
        required = policy.minimum_tcb_evaluation_number
        checks.append(
            rules.TCB_EVALUATION.holds(min(numbers) >= required, f"{required} or later", str(min(numbers)))
        )


def _listed(platform: Platform, policy: AcceptancePolicy) -> Check:
    if not policy.platforms:
        return rules.PLATFORM_ALLOWED.not_applicable("the owner lists no platforms")
    expected = f"one of {len(policy.platforms)} listed"
    if platform.pck is None:
        return rules.PLATFORM_ALLOWED.not_made(expected, "the PCK certificate is not proven")
    extension = platform.pck.extension
    found = [each for each in (extension.ppid, extension.platform_instance_id) if each is not None]
    return rules.PLATFORM_ALLOWED.holds(
        not policy.platforms.isdisjoint(found), expected, " or ".join(each.hex() for each in found)
    )


def _claims(quote: SgxQuote | TdxQuote, standing: _Standing) -> Claims:
    rating = standing.rating
    return Claims(
        tee=quote.tee,
        report_data=quote.report_data,
        measurements=quote.measurements,
        debug=quote.debug,
        tcb_status=rating.status if rating else None,
        advisory_ids=rating.advisory_ids if rating else (),
        simulated=standing.simulated,
        values=standing.facts,
    )
