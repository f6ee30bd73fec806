# SPDX-License-Identifier: Apache-2.0
"""X.509 for chip makers' chains: fixed depth, pinned root, no network.

pyca's path validation refuses some vendors' algorithms and knows no CRLs, so the few rules that matter are made here, on pyca's
certificates, each visible: issuer and signature link by link, CA flag, path length, key usage, known critical extensions,
root key pinned (RFC 5280, section 6.1, cut down to chains without policies or name constraints).
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.utils import CryptographyDeprecationWarning

from eaa.rats import EndorsementError, TrustAnchor

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

__all__ = [
    "MAX_CHAIN",
    "Chain",
    "Crl",
    "CrlIssue",
    "Window",
    "common_name",
    "find_anchor",
    "read_certificates",
    "read_crl",
    "revoked_in",
]

MAX_CHAIN: Final = 4
"""Longest chain of any vendor in use, root included."""
MAX_CHAIN_BYTES: Final = 32 * 1024
MAX_CRL_BYTES: Final = 4 * 1024 * 1024
_BEGIN: Final = b"-----BEGIN CERTIFICATE-----"
_KNOWN_CRITICAL: Final = frozenset(
    {x509.ExtensionOID.BASIC_CONSTRAINTS, x509.ExtensionOID.KEY_USAGE}
)


@dataclass(frozen=True, slots=True)
class Window:
    """A time in which something is valid, both ends included as RFC 5280 reads them."""

    what: str
    start: datetime
    end: datetime

    def __str__(self) -> str:
        return f"{self.what}: {_utc(self.start)} to {_utc(self.end)}"

    def holds(self, at: datetime) -> bool:
        """Whether ``at`` lies in the window."""
        return self.start <= at <= self.end

    @classmethod
    def intersection(cls, windows: Sequence[Window]) -> Window:
        """Return the time in which all ``windows`` hold, named after those that bound it."""
        start = max(windows, key=lambda each: each.start)
        end = min(windows, key=lambda each: each.end)
        what = start.what if start.what == end.what else f"{start.what} and {end.what}"
        return cls(what, start.start, end.end)


def _utc(when: datetime) -> str:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ")


@dataclass(frozen=True, slots=True, eq=False)
class Chain:
    """A chain of certificates, leaf first and root last, whose links, flags and root hold. Dates are in ``window``, not judged."""

    certificates: tuple[x509.Certificate, ...]
    anchor: TrustAnchor
    window: Window

    @property
    def leaf(self) -> x509.Certificate:
        """The certificate that the chain is about."""
        return self.certificates[0]

    @property
    def issuers(self) -> tuple[x509.Certificate, ...]:
        """Everything above the leaf."""
        return self.certificates[1:]

    @classmethod
    def build(cls, pem: bytes, anchors: Sequence[TrustAnchor]) -> Chain:
        """Order the certificates of ``pem`` from its first one up to a pinned root and prove every link.

        :raises EndorsementError: naming the first link or flag that does not hold.
        """
        chain = _order(read_certificates(pem))
        for depth, (subject, issuer) in enumerate(zip(chain, chain[1:], strict=False)):
            _require_issuer(issuer, below=depth)
            _require_signature(subject, issuer)
        root = chain[-1]
        if len(chain) > 1 or root.issuer == root.subject:
            _require_signature(root, root)
        for certificate in chain:
            _require_known_critical(certificate)
        anchor = find_anchor(root, anchors)
        windows = [
            Window(common_name(each), each.not_valid_before_utc, each.not_valid_after_utc) for each in chain
        ]
        return cls(tuple(chain), anchor, Window.intersection(windows))


def find_anchor(root: x509.Certificate, anchors: Sequence[TrustAnchor]) -> TrustAnchor:
    """Return the anchor that pins the key of ``root``.

    :raises EndorsementError: when none does.
    """
    key = root.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    for anchor in anchors:
        if anchor.public_key == key:
            return anchor
    trusted = "; ".join(anchor.name for anchor in anchors) or "none"
    raise EndorsementError(
        f"the root {root.subject.rfc4514_string()!r} has a key that is not pinned (pinned: {trusted})"
    )


def read_certificates(pem: bytes) -> list[x509.Certificate]:
    """Read one to :data:`MAX_CHAIN` PEM certificates.

    :raises EndorsementError: on anything else.
    """
    count = pem.count(_BEGIN)
    if not 1 <= count <= MAX_CHAIN or len(pem) > MAX_CHAIN_BYTES:
        raise EndorsementError(f"{count} certificates in {len(pem)} bytes, expected 1 to {MAX_CHAIN} in PEM")
    try:
        with warnings.catch_warnings():
            # Some vendors issue serial number 0 on purpose; pyca warns, this is no place to.
            warnings.simplefilter("ignore", CryptographyDeprecationWarning)
            certificates = x509.load_pem_x509_certificates(pem.rstrip(b"\0"))
            for certificate in certificates:
                _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.public_key()
    except (ValueError, TypeError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType) as error:
        raise EndorsementError(f"a certificate cannot be read: {error}") from error
    except Exception as error:  # noqa: BLE001 - pyca documents no complete list for hostile certificates
        raise EndorsementError(f"a certificate cannot be read: {type(error).__name__}") from error
    if len(certificates) != count:
        raise EndorsementError("a certificate block is not terminated")
    return certificates


def common_name(certificate: x509.Certificate) -> str:
    """Return the subject's common name, or an empty string."""
    names = certificate.subject.get_attributes_for_oid(x509.NameOID.COMMON_NAME)
    return str(names[0].value) if names else ""


def _order(certificates: list[x509.Certificate]) -> list[x509.Certificate]:
    """Return the certificates from the first one upwards; some platforms deliver them out of order."""
    chain, rest = certificates[:1], certificates[1:]
    while rest and chain[-1].issuer != chain[-1].subject:
        above = next((each for each in rest if each.subject == chain[-1].issuer), None)
        if above is None:
            break
        rest.remove(above)
        chain.append(above)
    if rest:
        raise EndorsementError(f"{len(rest)} certificate(s) do not belong to the chain of {common_name(chain[0])!r}")
    if chain[-1].issuer != chain[-1].subject:
        raise EndorsementError(f"the issuer of {common_name(chain[-1])!r} is missing from the chain")
    return chain


def _require_signature(subject: x509.Certificate, issuer: x509.Certificate) -> None:
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise EndorsementError(f"{common_name(issuer)!r} has a key of a kind no chip maker uses")
    try:
        subject.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature) as error:
        raise EndorsementError(
            f"{common_name(subject)!r} is not signed by {common_name(issuer)!r}"
        ) from error


def _require_issuer(certificate: x509.Certificate, *, below: int) -> None:
    """Require the flags of a CA with ``below`` CAs between it and the leaf."""
    name = common_name(certificate)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound as error:
        raise EndorsementError(f"{name!r} issues certificates without being marked as a CA") from error
    if not constraints.ca or not usage.key_cert_sign:
        raise EndorsementError(f"{name!r} issues certificates without being marked as a CA")
    if constraints.path_length is not None and below > constraints.path_length:
        raise EndorsementError(f"{name!r} allows {constraints.path_length} CA(s) below it, there are {below}")


def _require_known_critical(certificate: x509.Certificate) -> None:
    for extension in certificate.extensions:
        if extension.critical and extension.oid not in _KNOWN_CRITICAL:
            raise EndorsementError(
                f"{common_name(certificate)!r} has the unknown critical extension {extension.oid.dotted_string}"
            )


class CrlIssue(EndorsementError):
    """A CRL that is not what it should be."""

    code = "endorsement.crl"


@dataclass(frozen=True, slots=True, eq=False)
class Crl:
    """A revocation list whose issuer and signature hold. Dates are in ``window``, not judged."""

    crl: x509.CertificateRevocationList
    window: Window


def read_crl(der: bytes, issuer: x509.Certificate) -> Crl:
    """Read a DER CRL and prove that ``issuer`` signed it.

    :raises CrlIssue: when it is malformed, of another issuer, mis-signed or without ``nextUpdate``.
    """
    if len(der) > MAX_CRL_BYTES:
        raise CrlIssue(f"a CRL of {len(der)} bytes, at most {MAX_CRL_BYTES} are read")
    try:
        crl = x509.load_der_x509_crl(der)
        name, end, critical = crl.issuer, crl.next_update_utc, [each.oid for each in crl.extensions if each.critical]
    except Exception as error:  # noqa: BLE001 - as for certificates
        raise CrlIssue(f"the CRL cannot be read: {type(error).__name__}") from error
    if name != issuer.subject:
        raise CrlIssue(f"the CRL is of {name.rfc4514_string()!r}, not of {issuer.subject.rfc4514_string()!r}")
    key = issuer.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey) or not crl.is_signature_valid(key):
        raise CrlIssue(f"the CRL is not signed by {common_name(issuer)!r}")
    if critical:
        raise CrlIssue(f"the CRL has the critical extension {critical[0].dotted_string}, which is not understood")
    if end is None:
        raise CrlIssue("the CRL has no nextUpdate, so its age cannot be judged")
    return Crl(crl, Window(f"CRL of {common_name(issuer)}", crl.last_update_utc, end))


def revoked_in(crl: Crl, certificate: x509.Certificate) -> datetime | None:
    """Return when ``certificate`` was revoked by its issuer's list, or None."""
    entry = crl.crl.get_revoked_certificate_by_serial_number(certificate.serial_number)
    return entry.revocation_date_utc if entry is not None else None
