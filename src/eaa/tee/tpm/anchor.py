# SPDX-License-Identifier: Apache-2.0
"""Why an attestation key may be believed: the owner pinned or enrolled it, or an attestation CA certified it. Pure.

Evidence that brings its own key proves nothing: anybody can sign a TPMS_ATTEST with a key made in software. So the key is looked up
among the owner's, and only what the owner knows of it counts, its attributes included.
"""

from __future__ import annotations

from base64 import b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import EndorsementError
from eaa.tee.tpm import rules
from eaa.tee.tpm.certificates import Purpose, certify, check_revocation
from eaa.tee.tpm.enrolment import ENROLLED_AK, read_enrolled
from eaa.tee.tpm.public import spki_of
from eaa.tee.x509 import read_certificates

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.rats import Check, Endorsements, TrustAnchor
    from eaa.tee.tpm.evidence import AttestationKey
    from eaa.tee.tpm.public import PublicArea
    from eaa.tee.x509 import ChainReader, Window

__all__ = ["AK_CERTIFICATE", "EK_CERTIFICATE", "REVOCATION_LIST", "Standing", "anchor_key"]

AK_CERTIFICATE: Final = "tpm_ak_certificate"
"""Endorsement: a certificate in PEM that an attestation CA issued for an attestation key, with its issuers' chain."""
EK_CERTIFICATE: Final = "tpm_ek_certificate"
"""Endorsement: the certificate of an endorsement key. By itself it says nothing of any attestation key: see the enrolment."""
REVOCATION_LIST: Final = "tpm_crl"
"""Endorsement: a revocation list in DER of a CA in one of these chains."""

_KNOWN: Final = "a key that the owner pinned or enrolled, or that an attestation CA of the owner's certified"
_PROPER: Final = "fixedTPM, fixedParent, sensitiveDataOrigin, restricted, sign, not decrypt"
_CHAIN: Final = "a chain to a pinned root"


@dataclass(frozen=True, slots=True, eq=False)
class Standing:
    """What is known of one key: the checks made, what is still to be held against the time, and facts to show."""

    checks: tuple[Check, ...]
    dated: tuple[Window, ...] = ()
    reset_count: int | None = None
    simulated: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Voucher:
    """Who vouches for a key, what is known of it, and the certificate behind that, if any: itself, its issuers, its purpose."""

    how: str
    area: PublicArea | None = None
    reset_count: int | None = None
    certificate: tuple[bytes, bytes, Purpose] | None = None
    simulated: bool = False


def anchor_key(
    key: AttestationKey, endorsements: Endorsements, *, anchors: tuple[TrustAnchor, ...], chains: ChainReader
) -> Standing:
    """Find out who vouches for ``key``."""
    problems: list[str] = []
    facts = {"ak_public": b64encode(key.spki).decode()}
    if key.area is not None:
        facts["ak_name"] = key.area.name.hex()
    voucher = next(_vouchers(key, endorsements, anchors, problems), None)
    if voucher is None:
        return Standing((_unknown(endorsements, anchors, problems),), facts=facts)
    checks: list[Check] = [rules.AK_ANCHORED.passed(_KNOWN, voucher.how)]
    dated: tuple[Window, ...] = ()
    simulated, facts = voucher.simulated, {**facts, "ak_anchor": voucher.how}
    if voucher.certificate is None:
        checks.append(rules.CHAIN.not_applicable("the owner's own word, without a certificate"))
    else:
        certificate, issuers, purpose = voucher.certificate
        lists = tuple(item.content for item in endorsements.of_kind(REVOCATION_LIST))
        try:
            certified = certify(certificate, issuers, purpose, chains)
        except EndorsementError as error:
            checks.append(rules.CHAIN.failed(_CHAIN, str(error)))
            if purpose is Purpose.ATTESTATION_KEY:
                checks[0] = rules.AK_ANCHORED.failed(_KNOWN, "its certificate leads to no pinned root")
        else:
            names = " ← ".join(each.name or "(no name)" for each in certified.chain.certificates)
            checks.append(rules.CHAIN.passed(_CHAIN, names))
            revocation = check_revocation(certified, lists)
            if revocation.revoked:
                gone = "; ".join(f"{name} since {since:%Y-%m-%d}" for name, since in revocation.revoked)
                checks.append(rules.REVOCATION.failed("none revoked", gone))
            elif revocation.missing:
                checks.append(
                    rules.REVOCATION.not_made("none revoked", f"no list of {', '.join(revocation.missing)}")
                )
            elif revocation.windows:
                checks.append(rules.REVOCATION.passed("none revoked", "none revoked"))
            else:
                checks.append(rules.REVOCATION.not_applicable("its certificates name no revocation lists"))
            dated = (certified.window, *revocation.windows)
            simulated = simulated or certified.chain.anchor.simulated
    checks.append(_attributes(voucher))
    return Standing(tuple(checks), dated, voucher.reset_count, simulated, facts)


def _vouchers(
    key: AttestationKey, endorsements: Endorsements, anchors: tuple[TrustAnchor, ...], problems: list[str]
) -> Iterator[_Voucher]:
    """Yield whoever vouches for ``key``, the owner's own pins first; note what could not be read."""
    for anchor in anchors:
        if anchor.public_key == key.spki:
            yield _Voucher(f"pinned by the owner as {anchor.name!r}", simulated=anchor.simulated)
    for item in endorsements.of_kind(ENROLLED_AK):
        try:
            enrolled = read_enrolled(item.content)
        except EndorsementError as error:
            problems.append(str(error))
            continue
        same_name = key.area is not None and enrolled.name == key.area.name
        if not same_name and enrolled.spki != key.spki:
            continue
        # The evidence's description of the key counts when its name, which is a hash of it, was enrolled.
        area = enrolled.area or (key.area if same_name else None)
        certificate = None
        how = "enrolled by the owner"
        if enrolled.ek_certificate:
            certificate = (enrolled.ek_certificate, item.issuer_chain, Purpose.ENDORSEMENT_KEY)
            how = "enrolled by credential activation"
        yield _Voucher(how, area, enrolled.reset_count, certificate)
    for item in endorsements.of_kind(AK_CERTIFICATE):
        try:
            leaf = read_certificates(item.content)[0]
        except EndorsementError as error:
            problems.append(str(error))
            continue
        if spki_of(leaf.public_key) == key.spki:
            certificate = (item.content, item.issuer_chain, Purpose.ATTESTATION_KEY)
            yield _Voucher("certified by an attestation CA", certificate=certificate)


def _unknown(endorsements: Endorsements, anchors: tuple[TrustAnchor, ...], problems: list[str]) -> Check:
    """Tell a stranger's key from an owner who has enrolled none."""
    known = len(endorsements.of_kind(ENROLLED_AK)) + len(endorsements.of_kind(AK_CERTIFICATE))
    known += sum(not anchor.certificate for anchor in anchors)
    if known:
        found = "; ".join([f"a key that is none of the {known} known", *problems[:3]])
        return rules.AK_ANCHORED.failed(_KNOWN, found)
    found = "no attestation key is pinned, enrolled or certified"
    if endorsements.of_kind(EK_CERTIFICATE):
        found += ", and an endorsement key's certificate alone names none"
    return rules.AK_ANCHORED.not_made(_KNOWN, found)


def _attributes(voucher: _Voucher) -> Check:
    if voucher.area is not None:
        missing = voucher.area.missing_attributes
        return rules.AK_ATTRIBUTES.holds(
            not missing, _PROPER, f"it lacks {', '.join(missing)}" if missing else "all of them"
        )
    if voucher.certificate is not None and voucher.certificate[2] is Purpose.ATTESTATION_KEY:
        return rules.AK_ATTRIBUTES.passed(_PROPER, "the attestation CA certifies keys with these only")
    return rules.AK_ATTRIBUTES.warned(
        _PROPER, "unknown: it was enrolled as a bare key, so whoever enrolled it vouches for them"
    )
