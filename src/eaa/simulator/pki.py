# SPDX-License-Identifier: Apache-2.0
"""Certificates, CRLs and signatures of the simulated chip maker, in the shape of Intel's.

Shapes follow "Intel SGX PCK Certificate and Certificate Revocation List Profile Specification", rev. 1.5. Common names are Intel's,
because verifiers look at them; the organisation says that it is simulated. Signatures are deterministic (RFC 6979) and keys
are derived from one seed, so that the same chip maker always issues the same bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = [
    "Issuer",
    "PckIdentity",
    "chain_pem",
    "derive_bytes",
    "derive_key",
    "point",
    "serial_number",
    "sign_raw",
]

ORGANISATION: Final = "EAA simulated chip maker"
DISTRIBUTION: Final = "https://chip-maker.invalid"
"""A host that cannot exist (RFC 2606): nobody shall look for these CRLs on a network."""
SGX_EXTENSION: Final = ObjectIdentifier("1.2.840.113741.1.13.1")

_SGX_OID: Final = bytes.fromhex("2a864886f84d010d01")
_P256_ORDER: Final = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_SIGNATURE: Final = ec.ECDSA(hashes.SHA256(), deterministic_signing=True)


def derive_bytes(seed: bytes, purpose: str, length: int) -> bytes:
    """Return ``length`` bytes that only ``seed`` and ``purpose`` determine (HKDF-SHA-256)."""
    return HKDF(hashes.SHA256(), length, salt=None, info=b"eaa simulator " + purpose.encode()).derive(seed)


def derive_key(seed: bytes, purpose: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-256 key that only ``seed`` and ``purpose`` determine."""
    # 16 bytes more than the order has make the bias of the reduction negligible (FIPS 186-5, A.2.1).
    scalar = int.from_bytes(derive_bytes(seed, purpose, 48)) % (_P256_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP256R1())


def sign_raw(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    """Return ECDSA P-256 over SHA-256 as ``r ‖ s``, 64 bytes big-endian, as quotes and TCB info have it."""
    r, s = decode_dss_signature(key.sign(message, _SIGNATURE))
    return r.to_bytes(32) + s.to_bytes(32)


def point(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return the public key as ``x ‖ y``, 64 bytes big-endian."""
    numbers = key.public_key().public_numbers()
    return numbers.x.to_bytes(32) + numbers.y.to_bytes(32)


def chain_pem(*certificates: x509.Certificate) -> bytes:
    """Return the certificates one after the other in PEM, in the given order."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def serial_number(key: ec.EllipticCurvePublicKey) -> int:
    """Return the serial number of this key's certificates: as Intel's, its key identifier, less a bit to stay positive."""
    return int.from_bytes(x509.SubjectKeyIdentifier.from_public_key(key).digest) >> 1


@dataclass(frozen=True, slots=True)
class PckIdentity:
    """What a PCK certificate says about its platform.

    ``platform_instance_id`` is there for multi-package platforms (Platform CA) only.
    """

    ppid: bytes
    sgx_svns: bytes
    pce_svn: int
    pce_id: bytes
    fmspc: bytes
    platform_instance_id: bytes | None

    def extension(self) -> x509.UnrecognizedExtension:
        """Return the SGX extension, section 1.3.5 of the profile."""
        components = [_entry(bytes((2, n)), _integer(svn)) for n, svn in enumerate(self.sgx_svns, 1)]
        components.append(_entry(b"\x02\x11", _integer(self.pce_svn)))
        components.append(_entry(b"\x02\x12", _octets(self.sgx_svns)))
        scalable = self.platform_instance_id is not None
        entries = [
            _entry(b"\x01", _octets(self.ppid)),
            _entry(b"\x02", _sequence(components)),
            _entry(b"\x03", _octets(self.pce_id)),
            _entry(b"\x04", _octets(self.fmspc)),
            _entry(b"\x05", _tlv(0x0A, b"\x01" if scalable else b"\x00")),
        ]
        if self.platform_instance_id is not None:
            entries.append(_entry(b"\x06", _octets(self.platform_instance_id)))
            true = _tlv(0x01, b"\xff")
            entries.append(_entry(b"\x07", _sequence([_entry(bytes((7, n)), true) for n in (1, 2, 3)])))
        return x509.UnrecognizedExtension(SGX_EXTENSION, _sequence(entries))


@dataclass(frozen=True, slots=True)
class Issuer:
    """A certificate authority: its key, and its certificate as issued by the one above it."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @classmethod
    def root(cls, key: ec.EllipticCurvePrivateKey, begin: datetime, end: datetime) -> Issuer:
        """Return a self-signed root."""
        name = _name("Intel SGX Root CA")
        builder = _builder((name, key), (name, key.public_key()), (begin, end), "IntelSGXRootCA.der")
        return cls(_sign_ca(builder, key, path_length=1), key)

    def authority(
        self,
        common_name: str,
        key: ec.EllipticCurvePrivateKey,
        begin: datetime,
        end: datetime,
        *,
        crl: str,
    ) -> Issuer:
        """Return a certificate authority under this one, which issues leaves only; ``crl`` as in :meth:`leaf`."""
        builder = self._builder(common_name, key.public_key(), begin, end, crl)
        return Issuer(_sign_ca(builder, self.key, path_length=0), key)

    def leaf(
        self,
        common_name: str,
        key: ec.EllipticCurvePublicKey,
        begin: datetime,
        end: datetime,
        *,
        crl: str,
        pck: PckIdentity | None = None,
    ) -> x509.Certificate:
        """Return an end-entity certificate; ``crl`` is the path of the CRL that would revoke it."""
        builder = self._builder(common_name, key, begin, end, crl)
        builder = builder.add_extension(_usage(leaf=True), critical=True)
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        if pck is not None:
            builder = builder.add_extension(pck.extension(), critical=False)
        return builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)

    def crl(self, serials: Iterable[int], begin: datetime, end: datetime, *, number: int = 1) -> bytes:
        """Return the DER of the CRL of that number, which revokes ``serials``."""
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begin, end)
        for serial in serials:
            entry = x509.RevokedCertificateBuilder(serial, begin)
            entry = entry.add_extension(x509.CRLReason(x509.ReasonFlags.key_compromise), critical=False)
            builder = builder.add_revoked_certificate(entry.build())
        builder = builder.add_extension(x509.CRLNumber(number), critical=False)
        builder = builder.add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False
        )
        signed = builder.sign(self.key, hashes.SHA256(), ecdsa_deterministic=True)
        return signed.public_bytes(Encoding.DER)

    def _builder(
        self, common_name: str, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime, crl: str
    ) -> x509.CertificateBuilder:
        issuer = self.certificate.subject
        return _builder((issuer, self.key), (_name(common_name), key), (begin, end), crl)


def _name(common_name: str) -> x509.Name:
    parts = (
        (NameOID.COMMON_NAME, common_name),
        (NameOID.ORGANIZATION_NAME, ORGANISATION),
        (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.COUNTRY_NAME, "US"),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _builder(
    issuer: tuple[x509.Name, ec.EllipticCurvePrivateKey],
    subject: tuple[x509.Name, ec.EllipticCurvePublicKey],
    validity: tuple[datetime, datetime],
    crl: str,
) -> x509.CertificateBuilder:
    identifier = x509.SubjectKeyIdentifier.from_public_key(subject[1])
    serial = serial_number(subject[1])
    point_of_crl = x509.DistributionPoint(
        [x509.UniformResourceIdentifier(f"{DISTRIBUTION}/{crl}")], None, None, None
    )
    return (
        x509.CertificateBuilder(issuer[0], *subject, serial, *validity)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer[1].public_key()), critical=False
        )
        .add_extension(x509.CRLDistributionPoints([point_of_crl]), critical=False)
        .add_extension(identifier, critical=False)
    )


def _sign_ca(
    builder: x509.CertificateBuilder, key: ec.EllipticCurvePrivateKey, *, path_length: int
) -> x509.Certificate:
    builder = builder.add_extension(_usage(leaf=False), critical=True)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    return builder.sign(key, hashes.SHA256(), ecdsa_deterministic=True)


def _usage(*, leaf: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=leaf,
        content_commitment=leaf,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=not leaf,
        crl_sign=not leaf,
        encipher_only=False,
        decipher_only=False,
    )


def _tlv(tag: int, content: bytes) -> bytes:
    """Return one DER element; contents of up to 65,535 bytes."""
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    octets = size.to_bytes(1 if size < 0x100 else 2)
    return bytes((tag, 0x80 | len(octets))) + octets + content


def _sequence(elements: Iterable[bytes]) -> bytes:
    return _tlv(0x30, b"".join(elements))


def _entry(suffix: bytes, value: bytes) -> bytes:
    """Return SEQUENCE { OID under Intel's SGX arc, value }."""
    return _sequence((_tlv(0x06, _SGX_OID + suffix), value))


def _integer(number: int) -> bytes:
    return _tlv(0x02, number.to_bytes(number.bit_length() // 8 + 1))


def _octets(content: bytes) -> bytes:
    return _tlv(0x04, content)
