# SPDX-License-Identifier: Apache-2.0
"""Steps 1 to 5 of SNP verification: everything that holds for a chip at a TCB, whatever the single report says of its guest.

Nothing here looks at a clock: dates come out as windows and are judged by :mod:`eaa.tee.snp.verify`, so that results can be
remembered by content for as long as anybody likes.
"""

from __future__ import annotations

from base64 import b64encode
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Check, EndorsementError, Endorsements
from eaa.tee.snp import rules
from eaa.tee.snp.certificates import VCEK, EndorsementKey, read_endorsement_key
from eaa.tee.snp.product import Product, product_of_name
from eaa.tee.snp.report import ECDSA_P384_SHA384, KEY_NONE, KEY_VCEK, KEY_VLEK
from eaa.tee.snp.roots import AMD_AUTHORITIES
from eaa.tee.x509 import (
    Certificate,
    Chain,
    ChainReader,
    Window,
    read_crl,
    require_issuer,
    revoked_in,
    spell_utc,
    split_pem,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

    from eaa.rats import Rule, TrustAnchor
    from eaa.tee.snp.evidence import DeliveredCertificate
    from eaa.tee.snp.report import AttestationReport

__all__ = ["Dated", "Signer", "authenticate_signer"]

_KEY_NAMES: Final = {KEY_VCEK: "VCEK", KEY_VLEK: "VLEK", KEY_NONE: "none"}
_ENDORSED: Final = {"VCEK": "snp_vcek", "VLEK": "snp_vlek"}
_MASKED: Final = bytes(64)
_PEM: Final = b"-----BEGIN"
_NO_KEY: Final = "there is no certificate of the key that signed"


@dataclass(frozen=True, slots=True)
class Dated:
    """A rule about a window of time, judged later."""

    rule: Rule
    window: Window


@dataclass(frozen=True, slots=True, eq=False)
class Signer:
    """Who signs for a chip: the key if it is proven, and every check that needs neither the time nor the guest."""

    checks: tuple[Check, ...]
    dated: tuple[Dated, ...]
    key: EllipticCurvePublicKey | None
    certificate: EndorsementKey | None
    product: Product | None
    simulated: bool
    facts: dict[str, Any]


@dataclass(slots=True)
class _Findings:
    checks: list[Check] = field(default_factory=list)
    dated: list[Dated] = field(default_factory=list)

    def add(self, check: Check) -> None:
        self.checks.append(check)


def authenticate_signer(
    report: AttestationReport,
    delivered: tuple[DeliveredCertificate, ...],
    endorsements: Endorsements,
    chains: ChainReader,
    anchors: Sequence[TrustAnchor],
) -> Signer:
    """Authenticate the key that signs for the chip of ``report``, of which only the platform's fields are looked at."""
    found = _Findings()
    # (1) The certificate of the kind of key that the report names (A15).
    key = _key(report, delivered, endorsements, found)
    # (2) It leads to a pinned root (A12).
    chain = _chain(key, delivered, endorsements, chains, anchors, found)
    proven = key if chain else None
    # (3) Report, certificate and root speak of one product, one chip, one TCB (A16).
    product = _product(report, key, chain, found)
    _same_chip(report, key, found)
    _same_tcb(report, key, product, found)
    # (4) The authority is not revoked (A10).
    _revocation(chain, endorsements, found)
    # (5) The TCB versions are in order.
    _relations(report, product, found)
    return Signer(
        checks=tuple(found.checks),
        dated=tuple(found.dated),
        key=proven.public_key if proven else None,
        certificate=proven,
        product=product,
        simulated=chain is not None and chain.anchor.simulated,
        facts=_facts(report, proven, product, found),
    )


def _key(
    report: AttestationReport,
    delivered: tuple[DeliveredCertificate, ...],
    endorsements: Endorsements,
    found: _Findings,
) -> EndorsementKey | None:
    """Find the certificate of the key that signed; with several, the one that fits chip and TCB."""
    algorithm = report.signature_algo
    found.add(
        rules.ALGORITHM.holds(algorithm == ECDSA_P384_SHA384, "1 (ECDSA P-384 with SHA-384)", str(algorithm))
    )
    kind = _KEY_NAMES.get(report.signing_key, f"reserved value {report.signing_key}")
    if kind not in _ENDORSED:
        found.add(rules.SIGNER.failed("VCEK or VLEK", kind))
        return None
    ders = [_first_der(each.content) for each in endorsements.of_kind(_ENDORSED[kind])]
    ders += [each.data for each in delivered if each.kind == kind]
    keys, failure = _read_all(ders)
    expected = f"a {kind} certificate, as the report names a {kind}"
    if not keys:
        missing = failure or f"neither the evidence nor the endorsements hold a {kind}"
        found.add((rules.SIGNER.failed if failure else rules.SIGNER.not_made)(expected, missing))
        return None
    right = [each for each in keys if each.kind == kind]
    if not right:
        found.add(rules.SIGNER.failed(expected, f"a {keys[0].kind} certificate"))
        return None
    found.add(rules.SIGNER.passed(expected, f"a {kind} certificate"))
    return max(right, key=lambda each: _fitness(each, report))


def _first_der(content: bytes) -> bytes:
    """Return the first certificate of an endorsement, which is DER but may be kept as PEM, even with its chain behind it."""
    if not content.lstrip().startswith(_PEM):
        return content
    try:
        return split_pem(content)[0]
    except EndorsementError:
        return content


def _read_all(ders: Iterable[bytes]) -> tuple[list[EndorsementKey], str]:
    """Read certificates; of those that cannot be read, say what is wrong with the first."""
    keys, failure = [], ""
    for der in dict.fromkeys(ders):
        try:
            keys.append(read_endorsement_key(der))
        except EndorsementError as error:
            failure = failure or str(error)
    return keys, failure


def _fitness(key: EndorsementKey, report: AttestationReport) -> tuple[bool, bool]:
    tcb = report.tcb("reported", product_of_name(key.product_name))
    return _of_chip(key, report.chip_id), key.tcb == tcb


def _of_chip(key: EndorsementKey, chip_id: bytes) -> bool:
    return key.hardware_id is None or key.hardware_id.ljust(64, b"\0") == chip_id


def _chain(
    key: EndorsementKey | None,
    delivered: tuple[DeliveredCertificate, ...],
    endorsements: Endorsements,
    chains: ChainReader,
    anchors: Sequence[TrustAnchor],
    found: _Findings,
) -> Chain | None:
    """Find the authority that issued ``key`` and prove it up to a pinned root.

    Authorities among the endorsements are the only ones to count; without any, those that came with the evidence do, and AMD's
    published ones.
    """
    expected = "a chain up to a pinned root"
    if key is None:
        found.add(rules.CHAIN.not_made(expected, _NO_KEY))
        return None
    try:
        authorities = _endorsed_authorities(endorsements)
        if not authorities:
            authorities = [each.data for each in delivered if each.kind in {"ASK", "ARK"}]
            authorities += AMD_AUTHORITIES
        authorities += [each.certificate for each in anchors if each.certificate]
        chain = _prove(key, authorities, chains)
    except EndorsementError as error:
        found.add(rules.CHAIN.failed(expected, str(error)))
        return None
    found.add(rules.CHAIN.passed(expected, f"{key.name}, {chain.leaf.name}, {chain.root.name}"))
    found.dated.append(Dated(rules.VALIDITY, Window.intersection([key.window, chain.window])))
    return chain


def _endorsed_authorities(endorsements: Endorsements) -> list[bytes]:
    texts = [each.content for each in endorsements.of_kind("snp_chain")]
    texts += [
        each.issuer_chain
        for kind in _ENDORSED.values()
        for each in endorsements.of_kind(kind)
        if each.issuer_chain
    ]
    return [der for text in texts for der in split_pem(text)]


def _prove(key: EndorsementKey, authorities: Iterable[bytes], chains: ChainReader) -> Chain:
    """Return the chain from the authority that issued ``key`` to a pinned root.

    :raises EndorsementError: naming the first link or flag that does not hold.
    """
    read = []
    for der in dict.fromkeys(authorities):
        # What cannot be read proves nothing, and must not keep what can be read from doing so.
        with suppress(EndorsementError):
            read.append(Certificate(der))
    roots = [each for each in read if each.self_issued]
    named = [each for each in read if each.subject == key.issuer and not each.self_issued]
    if not named:
        others = ", ".join(repr(each.name) for each in read if not each.self_issued) or "none at all"
        raise EndorsementError(f"{key.name!r} is issued by none of the authorities given: {others}")
    failure = EndorsementError(f"{key.name!r} is not signed by {named[0].name!r}")
    for authority in named:
        if not key.issued_by(authority):
            continue
        failure = EndorsementError(f"{authority.name!r} is there without its root")
        for root in (each for each in roots if each.subject == authority.issuer):
            try:
                require_issuer(authority, below=0)
                return chains.read(_pem(authority.der) + _pem(root.der))
            except EndorsementError as error:
                failure = error
    raise failure


def _pem(der: bytes) -> bytes:
    return b"-----BEGIN CERTIFICATE-----\n%s\n-----END CERTIFICATE-----\n" % b64encode(der)


def _product(
    report: AttestationReport, key: EndorsementKey | None, chain: Chain | None, found: _Findings
) -> Product | None:
    """Return the product that CPUID (from version 3 on), certificate, authority and root agree on."""
    if key is None:
        found.add(rules.PRODUCT.not_made("report and certificate of one product", _NO_KEY))
        return report.product
    certified = product_of_name(key.product_name)
    product = report.product if report.version >= 3 else certified
    names = [] if chain is None else [chain.leaf.name, chain.root.name]
    found_text = ", ".join([f"certificate of {key.product_name!r}", *names])
    if product is None:
        cpuid = f"family {report.cpuid_family:#x}, model {report.cpuid_model:#x}"
        found.add(rules.PRODUCT.failed("a product that EAA knows", f"{cpuid}; {found_text}"))
        return None
    authority = f"SEV-{product}" if key.name == VCEK else f"SEV-VLEK-{product}"
    agreed = certified is product and names in ([], [authority, f"ARK-{product}"])
    found.add(rules.PRODUCT.holds(agreed, f"{product}: {authority}, ARK-{product}", found_text))
    return product


def _same_chip(report: AttestationReport, key: EndorsementKey | None, found: _Findings) -> None:
    if key is None:
        found.add(rules.CHIP_ID.not_made(report.chip_id.hex(), _NO_KEY))
        return
    if key.hardware_id is None:
        found.add(rules.CHIP_ID.not_applicable(f"a VLEK is of a cloud, {key.csp_id}, and not of a chip"))
        return
    certified, stated = key.hardware_id.hex(), report.chip_id.hex()
    if report.chip_id == _MASKED:
        # The chip is still proven: its key, which no other chip has, signed the report.
        found.add(rules.CHIP_ID.warned(certified, "the report masks it; the signature alone shows the chip"))
        return
    found.add(rules.CHIP_ID.holds(_of_chip(key, report.chip_id), certified, stated))


def _same_tcb(
    report: AttestationReport, key: EndorsementKey | None, product: Product | None, found: _Findings
) -> None:
    reported = report.tcb("reported", product)
    if key is None:
        found.add(rules.VCEK_TCB.not_made(str(reported), _NO_KEY))
    else:
        found.add(rules.VCEK_TCB.holds(key.tcb == reported, str(key.tcb), str(reported)))


def _revocation(chain: Chain | None, endorsements: Endorsements, found: _Findings) -> None:
    """Look the authority up in its root's list.

    The list is the root's, so it speaks of what the root issued: ASK and ASVK. A VCEK or VLEK is never looked up: its serial number is
    0 like that of all others, and an entry 0 would revoke every chip there is, or none.
    """
    candidates = endorsements.of_kind("snp_crl")
    if chain is None or not candidates:
        issuer = chain.root.name if chain else "the product's root"
        missing = "the endorsements hold no snp_crl" if chain else "its issuer is not proven"
        found.add(rules.CRL.not_made(f"a list signed by {issuer}", missing))
        found.add(rules.REVOCATION.not_made("the authority is not listed", "there is no genuine list"))
        return
    expected, failure = f"a list signed by {chain.root.name}", ""
    authority = chain.leaf
    serial = f"serial {authority.x509.serial_number:x} of {authority.name}"
    for candidate in candidates:
        try:
            crl = read_crl(candidate.content, chain.root)
        except EndorsementError as error:
            failure = failure or str(error)
            continue
        found.add(rules.CRL.passed(expected, "issuer and signature hold"))
        found.dated.append(Dated(rules.CRL_DATES, crl.window))
        revoked = revoked_in(crl, authority)
        text = "not listed" if revoked is None else f"revoked on {revoked:%Y-%m-%d}"
        found.add(rules.REVOCATION.holds(revoked is None, f"{serial} is not listed", text))
        return
    found.add(rules.CRL.failed(expected, failure))
    found.add(rules.REVOCATION.not_made(f"{serial} is not listed", "there is no genuine list"))


def _relations(report: AttestationReport, product: Product | None, found: _Findings) -> None:
    current, committed, reported, launch = (
        report.tcb(name, product) for name in ("current", "committed", "reported", "launch")
    )
    ordered = current.reaches(committed) and committed.reaches(reported) and current.reaches(launch)
    text = f"current: {current}; committed: {committed}; reported: {reported}; launch: {launch}"
    found.add(rules.TCB_RELATIONS.holds(ordered, "reported ≤ committed ≤ current, launch ≤ current", text))


def _facts(
    report: AttestationReport, key: EndorsementKey | None, product: Product | None, found: _Findings
) -> dict[str, Any]:
    """Return what is known of the platform, for claims; nothing in here is decided upon."""
    facts: dict[str, Any] = {
        "product": product.value if product else None,
        "signing_key": _KEY_NAMES.get(report.signing_key, str(report.signing_key)),
        "chip_id": report.chip_id.hex(),
        "firmware": "{}.{}.{}".format(*report.firmware),
    }
    if key is not None:
        facts["certificate_product"] = key.product_name
        if key.hardware_id is not None:
            facts["hardware_id"] = key.hardware_id.hex()
        if key.csp_id is not None:
            facts["csp_id"] = key.csp_id
    if found.dated:
        end = min(each.window.end for each in found.dated)
        facts["collateral_valid_until"] = spell_utc(end)
    return facts
