# SPDX-License-Identifier: Apache-2.0
"""Certificates and CRLs of the simulated maker of SEV-SNP chips, in the shape of AMD's.

Shapes follow AMD's "Versioned Chip Endorsement Key (VCEK) Certificate and KDS Interface Specification" (57230): RSA-4096 with PSS and
SHA-384 throughout, VCEK and VLEK on P-384 with AMD's extensions and the serial number 0. Common names are AMD's, because verifiers
look at them; the organisation says that it is simulated. PSS salts are random, so certificates differ from issue to issue.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.hashes import SHA384
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID, ObjectIdentifier

from eaa.rats import ConfigurationError
from eaa.simulator.pki import DISTRIBUTION, ORGANISATION, derive_bytes
from eaa.tee.der import children, sequence
from eaa.tee.snp.product import Product, Tcb

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

__all__ = ["ROLES", "Authority", "KeyIdentity", "derive_p384"]

ROLES: Final = ("ark", "ask", "asvk")
_NAMES: Final = {"ark": "ARK-{}", "ask": "SEV-{}", "asvk": "SEV-VLEK-{}"}
_SERIALS: Final = {"ark": 0x0000, "ask": 0x0001, "asvk": 0x0101}
_PRODUCT_SERIALS: Final = {Product.MILAN: 0x10000, Product.GENOA: 0x20000, Product.TURIN: 0x30000}
_PRODUCT_NAMES: Final = {Product.MILAN: "Milan-B0", Product.GENOA: "Genoa", Product.TURIN: "Turin"}
_KEY_BITS: Final = 4096
_PSS: Final = padding.PSS(padding.MGF1(SHA384()), 48)
_ARC: Final = "1.3.6.1.4.1.3704.1"
_P384_ORDER: Final = int(
    "ffffffffffffffffffffffffffffffffffffffffffffffffc7634d81f4372ddf581a0db248b0a77aecec196accc52973", 16
)
# pyca refuses to write the serial number 0; it is put in where these are.
_VERSION_AND_SERIAL_1: Final = bytes.fromhex("a003020102020101")
_VERSION_AND_SERIAL_0: Final = bytes.fromhex("a003020102020100")
_STAND_IN: Final = 0x7F
_ENTRY_OF_STAND_IN: Final = bytes((0x02, 0x01, _STAND_IN, 0x17))
_ENTRY_OF_0: Final = bytes((0x02, 0x01, 0x00, 0x17))


def derive_p384(seed: bytes, purpose: str) -> ec.EllipticCurvePrivateKey:
    """Return the P-384 key that only ``seed`` and ``purpose`` determine."""
    # 16 bytes more than the order has make the bias of the reduction negligible (FIPS 186-5, A.2.1).
    scalar = int.from_bytes(derive_bytes(seed, purpose, 64)) % (_P384_ORDER - 1) + 1
    return ec.derive_private_key(scalar, ec.SECP384R1())


@dataclass(frozen=True, slots=True)
class KeyIdentity:
    """What a VCEK (``hardware_id``) or VLEK (``csp_id``) certificate says."""

    product: Product
    tcb: Tcb
    hardware_id: bytes | None = None
    csp_id: str | None = None

    @property
    def name(self) -> str:
        """The common name."""
        return "SEV-VCEK" if self.hardware_id is not None else "SEV-VLEK"

    def extensions(self) -> list[x509.UnrecognizedExtension]:
        """Return AMD's extensions, in AMD's order."""
        turin = self.product is Product.TURIN
        name = self.product.value if self.csp_id else _PRODUCT_NAMES[self.product]
        levels = [("3.1", self.tcb.bootloader), ("3.2", self.tcb.tee)]
        levels += [("3.3", self.tcb.snp)] if turin else [("3.4", 0)]
        levels += [(f"3.{n}", 0) for n in (5, 6, 7)]
        levels += (
            [("3.8", self.tcb.microcode)] if turin else [("3.3", self.tcb.snp), ("3.8", self.tcb.microcode)]
        )
        if self.tcb.fmc is not None:
            levels.insert(0, ("3.9", self.tcb.fmc))
        values = [("1", _integer(1 if turin else 0)), ("2", _text(name))]
        values += [(suffix, _integer(level)) for suffix, level in levels]
        if self.hardware_id is not None:
            values.append(("4", self.hardware_id))
        if self.csp_id is not None:
            values.append(("5", _text(self.csp_id)))
        return [x509.UnrecognizedExtension(ObjectIdentifier(f"{_ARC}.{oid}"), value) for oid, value in values]


@dataclass(frozen=True, slots=True)
class Authority:
    """ARK, ASK or ASVK of one product: its key, and its certificate."""

    certificate: x509.Certificate
    key: rsa.RSAPrivateKey = field(repr=False)

    @classmethod
    def create(
        cls, product: Product, role: str, begin: datetime, end: datetime, above: Authority | None
    ) -> Authority:
        """Make a new authority under ``above``, or a root without; this takes a second, for RSA-4096."""
        key = rsa.generate_private_key(65537, _KEY_BITS)
        name = _name(_NAMES[role].format(product))
        issuer = name if above is None else above.certificate.subject
        serial = _PRODUCT_SERIALS[product] + _SERIALS[role]
        public = key.public_key()
        point = x509.DistributionPoint(
            [x509.UniformResourceIdentifier(f"{DISTRIBUTION}/vcek/v1/{product}/crl")], None, None, None
        )
        builder = (
            x509.CertificateBuilder(issuer, name, public, serial, begin, end)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
            .add_extension(
                x509.BasicConstraints(ca=True, path_length=None if above is None else 0), critical=True
            )
            .add_extension(_usage(root=above is None), critical=True)
            .add_extension(x509.CRLDistributionPoints([point]), critical=False)
        )
        signer = key
        if above is not None:
            signer = above.key
            identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
            builder = builder.add_extension(identifier, critical=False)
        return cls(builder.sign(signer, SHA384(), rsa_padding=_PSS), key)

    @classmethod
    def from_pem(cls, pem: bytes) -> Authority:
        """Read what :meth:`to_pem` wrote.

        :raises ConfigurationError: when it is something else.
        """
        try:
            key = load_pem_private_key(pem, None)
            certificate = x509.load_pem_x509_certificate(pem)
        except (ValueError, TypeError):
            key = None
        if not isinstance(key, rsa.RSAPrivateKey):
            # The cause may quote the file, which holds a key: it is neither shown nor chained.
            raise ConfigurationError("the file of a simulated authority is damaged") from None
        return cls(certificate, key)

    def to_pem(self) -> bytes:
        """Return key and certificate; the key is secret."""
        key = self.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return key + self.certificate.public_bytes(Encoding.PEM)

    @property
    def der(self) -> bytes:
        """The certificate."""
        return self.certificate.public_bytes(Encoding.DER)

    def issue(
        self, identity: KeyIdentity, key: ec.EllipticCurvePublicKey, begin: datetime, end: datetime
    ) -> bytes:
        """Return the DER certificate of a VCEK or VLEK."""
        builder = x509.CertificateBuilder(self.certificate.subject, _name(identity.name), key, 1, begin, end)
        for extension in identity.extensions():
            builder = builder.add_extension(extension, critical=False)
        der = builder.sign(self.key, SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)
        return self._signed_again(der, _VERSION_AND_SERIAL_1, _VERSION_AND_SERIAL_0)

    def crl(self, serials: Iterable[int], begin: datetime, end: datetime) -> bytes:
        """Return the DER of a CRL that revokes ``serials``, among which 0 may be."""
        listed = [serial or _STAND_IN for serial in serials]
        builder = x509.CertificateRevocationListBuilder(self.certificate.subject, begin, end)
        for serial in listed:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, begin).build())
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(identifier, critical=False)
        builder = builder.add_extension(x509.CRLNumber(1), critical=False)
        der = builder.sign(self.key, SHA384(), rsa_padding=_PSS).public_bytes(Encoding.DER)
        return self._signed_again(der, _ENTRY_OF_STAND_IN, _ENTRY_OF_0) if _STAND_IN in listed else der

    def _signed_again(self, der: bytes, old: bytes, new: bytes) -> bytes:
        """Return a certificate or list with one change to its signed part, which this authority signs anew."""
        signed, algorithm, bits = children(der)
        signed = signed.replace(old, new, 1)
        signature = self.key.sign(signed, _PSS, SHA384())
        return sequence(signed + algorithm + bits[: -len(signature)] + signature)


def _name(common_name: str) -> x509.Name:
    parts = (
        (NameOID.ORGANIZATIONAL_UNIT_NAME, "Engineering"),
        (NameOID.COUNTRY_NAME, "US"),
        (NameOID.LOCALITY_NAME, "Santa Clara"),
        (NameOID.STATE_OR_PROVINCE_NAME, "CA"),
        (NameOID.ORGANIZATION_NAME, ORGANISATION),
        (NameOID.COMMON_NAME, common_name),
    )
    return x509.Name([x509.NameAttribute(oid, value) for oid, value in parts])


def _usage(*, root: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=False,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=True,
        crl_sign=root,
        encipher_only=False,
        decipher_only=False,
    )


def _integer(number: int) -> bytes:
    octets = number.to_bytes(number.bit_length() // 8 + 1)
    return bytes((0x02, len(octets))) + octets


def _text(value: str) -> bytes:
    return bytes((0x16, len(value))) + value.encode("ascii")
