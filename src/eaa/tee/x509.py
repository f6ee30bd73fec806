# SPDX-License-Identifier: Apache-2.0
"""X.509 for chip makers' chains: fixed depth, pinned root, no network.

pyca's path validation refuses some vendors' algorithms and knows no CRLs, so the few rules that matter are made here, on pyca's
certificates, each visible: issuer and signature link by link, CA flag, path length, key usage, known critical extensions,
root key pinned (RFC 5280, section 6.1, cut down to chains without policies or name constraints).
"""

from __future__ import annotations

from binascii import a2b_base64
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.hashes import SHA256, SHA384, SHA512
from cryptography.x509.oid import SignatureAlgorithmOID

from eaa.rats import EndorsementError, TrustAnchor
from eaa.tee.der import children, common_name, content, dotted

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta

__all__ = [
    "KNOWN_CRITICAL",
    "MAX_CHAIN",
    "Certificate",
    "Chain",
    "ChainReader",
    "Crl",
    "CrlIssue",
    "Extension",
    "Window",
    "read_certificates",
    "read_crl",
    "require_issuer",
    "revoked_in",
    "spell_utc",
    "split_pem",
]

MAX_CHAIN: Final = 4
"""Longest chain of any vendor in use, root included."""
MAX_CHAIN_BYTES: Final = 32 * 1024
MAX_CRL_BYTES: Final = 4 * 1024 * 1024
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_BLANKS: Final = b" \t\r\n\v\f"
_BLANK: Final = b" \t\r\n\0"
"""Space, and the zero byte that some platforms end their chain with."""
_END: Final = b"-----END CERTIFICATE-----"

_BASIC_CONSTRAINTS: Final = bytes.fromhex("0603551d13")
_KEY_USAGE: Final = bytes.fromhex("0603551d0f")
KNOWN_CRITICAL: Final = frozenset({_BASIC_CONSTRAINTS, _KEY_USAGE})
"""The extensions that are understood here, by their identifiers in DER."""
_INTEGER, _BIT_STRING, _OCTET_STRING = 0x02, 0x03, 0x04
_TRUE: Final = bytes.fromhex("0101ff")
_LONG: Final = 0x80
_OF_CERTIFICATE, _OF_LIST = 0xA3, 0xA0
_MAX_EXTENSIONS: Final = 32
_KEY_CERT_SIGN: Final = 0x04
"""Bit 5 of the first byte of a key usage, counted from the left (RFC 5280, 4.2.1.3)."""

_ECDSA: Final = {
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: ec.ECDSA(SHA256()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: ec.ECDSA(SHA384()),
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: ec.ECDSA(SHA512()),
}
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey


class Window(NamedTuple):
    """A time in which something is valid, both ends included as RFC 5280 reads them."""

    what: str
    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.what}: {spell_utc(self.start)} to {spell_utc(self.end)}"

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` lies in the window."""
        return self.start <= at <= self.end

    def found_at(self, at: datetime, now: str) -> str:
        """Return ``now``, which spells ``at``; outside the window also by how much, for a reader."""
        if at > self.end:
            return f"{now}: expired {_span(at - self.end)} ago"
        return now if self.holds(at) else f"{now}: begins in {_span(self.start - at)}"

    @classmethod
    def intersection(cls, windows: Sequence[Window]) -> Window:
        """Return the time in which all ``windows`` hold, named after those that bound it."""
        start = end = windows[0]
        for window in windows:
            if window.start > start.start:
                start = window
            if window.end < end.end:
                end = window
        what = start.what if start.what == end.what else f"{start.what} and {end.what}"
        return cls(what, start.start, end.end)


def _span(time: timedelta) -> str:
    """Return the largest whole unit of a span of time, rounded down."""
    seconds = int(time.total_seconds())
    for unit, size in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if count := seconds // size:
            return f"{count} {unit}{'s' if count > 1 else ''}"
    return "less than a minute"


def spell_utc(when: datetime) -> str:
    """Return a time in UTC as RFC 3339 has it, to the second."""
    return f"{when.isoformat()[:19]}Z"


class Extension(NamedTuple):
    """An extension of a certificate or list; ``octets`` is the OCTET STRING around its value."""

    critical: bool
    octets: bytes

    @property
    def value(self) -> bytes:
        """The extension's value in DER."""
        return content(self.octets, _OCTET_STRING)


def _extensions(element: bytes, tag: int) -> dict[bytes, Extension]:
    """Return the extensions of a certificate or list that pyca has read, and so found well-formed, by their identifiers in DER.

    ``element`` is where they may stand, marked as such by ``tag``.

    :raises ValueError: when there are too many, or one is there twice.
    """
    if element[0] != tag:
        return {}
    entries = children(children(element, tag=tag)[0], _MAX_EXTENSIONS + 1)
    found = {}
    for entry in entries:
        start = 2 if entry[1] < _LONG else 2 + entry[1] - _LONG
        end = start + 2 + entry[start + 1]
        critical = entry.startswith(_TRUE, end)
        found[entry[start:end]] = Extension(critical, entry[end + 3 :] if critical else entry[end:])
    if len(found) != len(entries) or len(found) > _MAX_EXTENSIONS:
        raise ValueError("an extension is there twice, or there are too many")
    return found


def _basic_constraints(extension: Extension) -> tuple[bool, int | None]:
    """Return whether they mark a CA, and its path length (RFC 5280, 4.2.1.9).

    :raises ValueError: when they are malformed.
    """
    ca, length = ([*children(extension.value), b"", b""])[:2]
    if (ca and ca != _TRUE) or length.startswith(_TRUE):
        raise ValueError("basic constraints are malformed")
    return bool(ca), int.from_bytes(content(length, _INTEGER), "big") if length else None


class Certificate:
    """A certificate that pyca could read. What is asked of it again and again is taken out once."""

    def __init__(self, der: bytes) -> None:
        """Read a DER certificate.

        :raises EndorsementError: when it is malformed or has a key of a kind no chip maker uses.
        """
        try:
            self.x509 = x509.load_der_x509_certificate(der)
            key = self.x509.public_key()
            self.signed, algorithm = children(der, 2)
            # TBSCertificate: version, serial, algorithm, issuer, validity, subject, key and extensions (RFC 5280, 4.1; version 3 has
            # all but the last).
            _, _, inner_algorithm, self.issuer, _, self.subject, self.spki, *rest = children(self.signed)
            self.name = common_name(self.subject)
            """Common name of the subject, or an empty string."""
            self.window = Window(self.name, self.x509.not_valid_before_utc, self.x509.not_valid_after_utc)
            """When it is valid."""
            self.extensions = _extensions(rest[-1], _OF_CERTIFICATE) if rest else {}
            self.ca, self.path_length, self.key_cert_sign = False, None, False
            """What it says of itself as an issuer."""
            if extension := self.extensions.get(_BASIC_CONSTRAINTS):
                self.ca, self.path_length = _basic_constraints(extension)
            if extension := self.extensions.get(_KEY_USAGE):
                self.key_cert_sign = bool(content(extension.value, _BIT_STRING)[1] & _KEY_CERT_SIGN)
        except Exception as error:  # pyca documents no complete list for hostile certificates
            raise EndorsementError(f"a certificate cannot be read: {type(error).__name__}") from error
        if self.x509.version is not x509.Version.v3 or inner_algorithm != algorithm:
            raise EndorsementError("a certificate is not of version 3, or names two algorithms")
        if not isinstance(key, PublicKey):
            raise EndorsementError("a certificate has a key of a kind no chip maker uses")
        self.der = der
        self.public_key: PublicKey = key
        """The key, whose DER SubjectPublicKeyInfo is ``spki``."""

    @property
    def self_issued(self) -> bool:
        """Whether subject and issuer are the same, as a root's are."""
        return self.subject == self.issuer

    def require_known(self, known: frozenset[bytes] = KNOWN_CRITICAL) -> None:
        """Require that every critical extension is one of ``known``, given by their identifiers in DER.

        :raises EndorsementError: naming the first that is not.
        """
        for identifier, extension in self.extensions.items():
            if extension.critical and identifier not in known:
                raise EndorsementError(
                    f"{self.name!r} has the unknown critical extension {dotted(identifier)}"
                )


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A chain of certificates, leaf first and root last, whose links, flags and root hold. Dates are in ``window``, not judged."""

    certificates: tuple[Certificate, ...]
    anchor: TrustAnchor
    window: Window

    @property
    def leaf(self) -> Certificate:
        """The certificate that the chain is about."""
        return self.certificates[0]

    @property
    def issuer(self) -> Certificate:
        """The certificate that issued the leaf."""
        return self.certificates[1]

    @property
    def root(self) -> Certificate:
        """The pinned root."""
        return self.certificates[-1]

    @property
    def names(self) -> list[str]:
        """The common names, leaf first."""
        return [each.name for each in self.certificates]


_pinned = lru_cache(64)(Certificate)
"""Reads a certificate that an anchor pins: it is the same for every verifier."""


class ChainReader:
    """Reads chains up to pinned roots. Holds caches only, keyed by content, and is safe to share between threads."""

    def __init__(self, anchors: Sequence[TrustAnchor], *, size: int = 4096) -> None:
        self._anchors = tuple(anchors)
        self._roots = {each.certificate: _pinned(each.certificate) for each in anchors if each.certificate}
        self._certificate = lru_cache(size)(self._read_certificate)
        self._issued = lru_cache(size)(_issued)
        self.read = lru_cache(size)(self._read)

    def _read_certificate(self, body: bytes) -> Certificate:
        der = _decoded(body)
        return self._roots.get(der) or Certificate(der)

    def _read(self, pem: bytes) -> Chain:
        """Put the certificates of ``pem`` in order from its first one up to a pinned root, proving every link on the way.

        :raises EndorsementError: naming the first link or flag that does not hold.
        """
        chain = self._climb([self._certificate(body) for body in _bodies(pem)])
        anchor = self._anchor_of(chain[-1])
        for depth, issuer in enumerate(chain[1:]):
            require_issuer(issuer, below=depth)
        for certificate in chain:
            certificate.require_known()
        return Chain(tuple(chain), anchor, Window.intersection([each.window for each in chain]))

    def _climb(self, certificates: list[Certificate]) -> list[Certificate]:
        """Return the certificates from the first one upwards; some platforms deliver them out of order."""
        chain, rest = certificates[:1], certificates[1:]
        while rest:
            above = next((each for each in rest if self._issued(chain[-1], each)), None)
            if above is None:
                others = ", ".join(repr(each.name) for each in rest)
                raise EndorsementError(f"{chain[-1].name!r} is not issued by any of {others}")
            rest.remove(above)
            chain.append(above)
        root = chain[-1]
        if root.der not in self._roots and not self._issued(root, root):
            raise EndorsementError(f"the chain ends at {root.name!r}, which is no root")
        return chain

    def _anchor_of(self, root: Certificate) -> TrustAnchor:
        for anchor in self._anchors:
            if anchor.public_key == root.spki:
                return anchor
        trusted = "; ".join(anchor.name for anchor in self._anchors) or "none"
        raise EndorsementError(
            f"the root {root.x509.subject.rfc4514_string()!r} has a key that is not pinned (pinned: {trusted})"
        )


def split_pem(pem: bytes) -> list[bytes]:
    """Take the DER of one to :data:`MAX_CHAIN` certificates out of PEM.

    :raises EndorsementError: when there are none, too many, the text is too long, or a block is broken.
    """
    return [_decoded(body) for body in _bodies(pem)]


def _bodies(pem: bytes) -> list[bytes]:
    """Return the base64 of every certificate, with its blanks.

    :raises EndorsementError: as :func:`split_pem`.
    """
    before, *blocks = pem.split(_BEGIN) if len(pem) <= MAX_CHAIN_BYTES else (b"",)
    if not 1 <= len(blocks) <= MAX_CHAIN:
        raise EndorsementError(
            f"{len(blocks)} certificates in {len(pem)} bytes, expected 1 to {MAX_CHAIN} in PEM"
        )
    bodies = []
    for block in blocks:
        body, end, after = block.partition(_END)
        if not end or before.strip() or after.strip(_BLANK):
            raise EndorsementError("something else than certificates is in the PEM")
        bodies.append(body)
    return bodies


def _decoded(body: bytes) -> bytes:
    try:
        return a2b_base64(body.translate(None, _BLANKS), strict_mode=True)
    except ValueError as error:
        raise EndorsementError("a certificate's base64 is broken") from error


def read_certificates(pem: bytes) -> list[Certificate]:
    """Read one to :data:`MAX_CHAIN` certificates, proving nothing.

    :raises EndorsementError: when one is malformed.
    """
    return [Certificate(der) for der in split_pem(pem)]


def _issued(subject: Certificate, issuer: Certificate) -> bool:
    """Whether ``issuer`` is named in and signed ``subject``."""
    if subject.issuer != issuer.subject:
        return False
    certificate, key = subject.x509, issuer.public_key
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _ecdsa_holds(key, certificate, subject.signed)
    try:
        certificate.verify_directly_issued_by(issuer.x509)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _ecdsa_holds(
    key: ec.EllipticCurvePublicKey, signed: x509.Certificate | x509.CertificateRevocationList, message: bytes
) -> bool:
    """Whether ``key`` signed ``message``, the signed part of ``signed``, with ECDSA and a hash of the SHA-2 family."""
    algorithm = _ECDSA.get(signed.signature_algorithm_oid)
    if algorithm is None:
        return False
    try:
        key.verify(signed.signature, message, algorithm)
    except InvalidSignature:
        return False
    return True


def require_issuer(certificate: Certificate, *, below: int) -> None:
    """Require the flags of a CA with ``below`` CAs between it and the leaf.

    :raises EndorsementError: when a flag is missing or forbids that.
    """
    if not certificate.ca or not certificate.key_cert_sign:
        raise EndorsementError(f"{certificate.name!r} issues without being marked as a CA")
    if certificate.path_length is not None and below > certificate.path_length:
        raise EndorsementError(
            f"{certificate.name!r} allows {certificate.path_length} CA(s) below it, there are {below}"
        )


class CrlIssue(EndorsementError):
    """A CRL that is not what it should be."""

    code = "endorsement.crl"


@dataclass(frozen=True, slots=True, eq=False)
class Crl:
    """A revocation list whose issuer and signature hold. Dates are in ``window``, not judged."""

    crl: x509.CertificateRevocationList
    window: Window


def read_crl(der: bytes, issuer: Certificate) -> Crl:
    """Read a DER CRL and prove that ``issuer`` signed it.

    :raises CrlIssue: when it is malformed, of another issuer, mis-signed or without ``nextUpdate``.
    """
    if len(der) > MAX_CRL_BYTES:
        raise CrlIssue(f"a CRL of {len(der)} bytes, at most {MAX_CRL_BYTES} are read")
    try:
        crl = x509.load_der_x509_crl(der)
        end = crl.next_update_utc
        signed, algorithm = children(der, 2)
        # TBSCertList of version 2: version, algorithm, issuer, dates, perhaps revoked certificates, perhaps extensions (RFC 5280, 5.1).
        _, inner_algorithm, name, *rest = children(signed)
        extensions = _extensions(rest[-1], _OF_LIST)
    except Exception as error:  # as for certificates
        raise CrlIssue(f"the CRL cannot be read: {type(error).__name__}") from error
    if name != issuer.subject:
        raise CrlIssue(f"the CRL is of another issuer than {issuer.name!r}")
    key = issuer.public_key
    if isinstance(key, ec.EllipticCurvePublicKey):
        genuine = algorithm == inner_algorithm and _ecdsa_holds(key, crl, signed)
    else:
        genuine = crl.is_signature_valid(key)
    if not genuine:
        raise CrlIssue(f"the CRL is not signed by {issuer.name!r}")
    for identifier, extension in extensions.items():
        if extension.critical:
            raise CrlIssue(
                f"the CRL has the critical extension {dotted(identifier)}, which is not understood"
            )
    if end is None:
        raise CrlIssue("the CRL has no nextUpdate, so its age cannot be judged")
    return Crl(crl, Window(f"CRL of {issuer.name}", crl.last_update_utc, end))


def revoked_in(crl: Crl, certificate: Certificate) -> datetime | None:
    """Return when ``certificate`` was revoked by its issuer's list, or None."""
    entry = crl.crl.get_revoked_certificate_by_serial_number(certificate.x509.serial_number)
    return entry.revocation_date_utc if entry is not None else None
