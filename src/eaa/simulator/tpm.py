# SPDX-License-Identifier: Apache-2.0
"""A maker of TPMs in software: endorsement keys with certificates, attestation keys, quotes, credential activation.

Structures are the TPM's own; keys are on P-256 and derived from a seed, so that the same TPM always has the same keys. An RSA
attestation key may be given instead.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final

from cryptography import x509
from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives import hashes, hmac
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, ObjectIdentifier

from eaa.eventlog import write_event_log
from eaa.rats import EvidenceError, TrustAnchor
from eaa.simulator.pki import ORGANISATION, derive_bytes, derive_key
from eaa.tee.tpm.credential import kdfa
from eaa.tee.tpm.evidence import bundle_tpm2_tools
from eaa.tee.tpm.pcr_file import pack_pcr_file
from eaa.tee.tpm.public import parse_public
from eaa.tee.tpm.quote import Attest, Clock, PcrSelection, Signature, pack_attest, pack_signature, pcr_digest
from eaa.tee.tpm.wire import HASHERS, Algorithm, Reader, sized

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from eaa.eventlog import NewEvent
    from eaa.tee.tpm.credential import Credential
    from eaa.tee.tpm.public import PublicArea

__all__ = ["TPM_FAULTS", "QuoteTraits", "SoftwareTpm", "TpmFault", "TpmMaker", "ecc_area", "rsa_area"]

_AK: Final = 0x00050072
"""restricted, sign, fixedTPM, fixedParent, sensitiveDataOrigin, userWithAuth."""
_EK: Final = 0x000300B2
_SHA256: Final = hashes.SHA256()
_ZERO: Final = bytes(32)
_ONES: Final = b"\xff" * 32
_DYNAMIC: Final = range(17, 23)
"""PCRs that are all ones until a dynamic launch."""
_ALL: Final = (1 << 24) - 1
_LOGGED: Final = "sha256"


@dataclass(frozen=True, slots=True)
class QuoteTraits:
    """What may be wrong with a quote."""

    foreign_key: bool = False
    altered: bool = False
    altered_pcr: bool = False
    other_report_data: bool = False
    kind: int = 0x8018
    magic: int = 0xFF544347
    hash: int = Algorithm.SHA256
    mask: int = _ALL
    withheld: int | None = None
    safe: bool = True
    reset_count: int = 7


@dataclass(frozen=True, slots=True)
class TpmFault:
    """One thing that is wrong with a quote, and the ids of the checks that must notice."""

    name: str
    summary: str
    checks: tuple[str, ...]
    traits: Mapping[str, Any]
    warns: bool = False
    """Whether it is only to be warned of."""


_FAULTS: Final = (
    TpmFault(
        "foreign-key",
        "Another key than the one that is named signed the quote.",
        ("tpm.quote.signature",),
        {"foreign_key": True},
    ),
    TpmFault(
        "altered-quote",
        "The nonce was changed after signing.",
        ("tpm.quote.signature", "binding.report-data"),
        {"altered": True},
    ),
    TpmFault(
        "altered-pcr",
        "The value of PCR 4 was changed in the evidence.",
        ("tpm.quote.pcr-digest",),
        {"altered_pcr": True},
    ),
    TpmFault(
        "wrong-report-data",
        "The quote is genuine, but was made for another challenge.",
        ("binding.report-data",),
        {"other_report_data": True},
    ),
    TpmFault("certify", "It attests a key, and is no quote of PCRs.", ("tpm.quote.magic",), {"kind": 0x8017}),
    TpmFault(
        "not-by-tpm",
        "The structure was not composed by a TPM: its magic is another.",
        ("tpm.quote.magic",),
        {"magic": 0x00544347},
    ),
    TpmFault("sha1", "The quote is signed over SHA-1.", ("tpm.quote.hash",), {"hash": Algorithm.SHA1}),
    TpmFault("no-pcr", "The quote selects no PCR.", ("tpm.quote.pcr-selection",), {"mask": 0}),
    TpmFault(
        "withheld-pcr",
        "The value of a quoted PCR is not in the evidence.",
        ("tpm.quote.pcr-selection", "tpm.quote.pcr-digest"),
        {"withheld": 7},
    ),
    TpmFault(
        "unsafe-clock",
        "The TPM's clock may have gone back.",
        ("tpm.clock.safe",),
        {"safe": False},
        warns=True,
    ),
    TpmFault(
        "rolled-back",
        "The TPM was put back to a state from before its enrolment.",
        ("tpm.clock.reset-count",),
        {"reset_count": 3},
    ),
)

TPM_FAULTS: Final[Mapping[str, TpmFault]] = {fault.name: fault for fault in _FAULTS}


def ecc_area(key: ec.EllipticCurvePublicKey, attributes: int, *, storage: bool = False) -> PublicArea:
    """Return the public area of a P-256 key: ECDSA over SHA-256 to sign with, or AES-128 to protect with."""
    numbers = key.public_numbers()
    parameters = (
        _storage() if storage else struct.pack(">HHH", Algorithm.NULL, Algorithm.ECDSA, Algorithm.SHA256)
    )
    scheme = struct.pack(">H", Algorithm.NULL) if storage else b""
    return parse_public(
        struct.pack(">HHI", Algorithm.ECC, Algorithm.SHA256, attributes)
        + sized(b"")
        + parameters
        + scheme
        + struct.pack(">HH", 3, Algorithm.NULL)
        + sized(numbers.x.to_bytes(32))
        + sized(numbers.y.to_bytes(32))
    )


def rsa_area(key: rsa.RSAPublicKey, attributes: int) -> PublicArea:
    """Return the public area of an RSA key that signs with RSASSA over SHA-256."""
    modulus = key.public_numbers().n.to_bytes(key.key_size // 8)
    return parse_public(
        struct.pack(">HHI", Algorithm.RSA, Algorithm.SHA256, attributes)
        + sized(b"")
        + struct.pack(">HHHHI", Algorithm.NULL, Algorithm.RSASSA, Algorithm.SHA256, key.key_size, 0)
        + sized(modulus)
    )


def _storage() -> bytes:
    return struct.pack(">HHH", Algorithm.AES, 128, 0x0043)


@dataclass(frozen=True, slots=True)
class TpmMaker:
    """A maker of TPMs with a root and an issuing CA."""

    seed: bytes = field(repr=False)
    at: datetime

    @property
    def root(self) -> x509.Certificate:
        """The root's certificate."""
        return self._authority("root", "root")

    @property
    def issuers(self) -> bytes:
        """The chain that stands above every certificate of this maker's, in PEM."""
        chain = (self._authority("issuing CA", "root"), self.root)
        return b"".join(each.public_bytes(Encoding.PEM) for each in chain)

    @property
    def anchor(self) -> TrustAnchor:
        """The root, to be pinned."""
        return TrustAnchor.from_certificate(self.root, simulated=True)

    def key(self, name: str) -> ec.EllipticCurvePrivateKey:
        """Return the key of one of the authorities."""
        return derive_key(self.seed, f"tpm {name}")

    def certify(
        self,
        key: ec.EllipticCurvePublicKey | rsa.RSAPublicKey,
        purpose: str,
        *,
        distribution_point: str = "",
        ends: timedelta = timedelta(days=3650),
    ) -> bytes:
        """Return the certificate (PEM) of an endorsement key (``2.23.133.8.1``) or attestation key (``2.23.133.8.3``)."""
        model = x509.Name([x509.NameAttribute(ObjectIdentifier("2.23.133.2.2"), "software")])
        names = x509.SubjectAlternativeName([x509.DirectoryName(model)])
        builder = (
            self._builder("", "issuing CA", ends)
            .public_key(key)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(names, critical=True)
            .add_extension(x509.ExtendedKeyUsage([ObjectIdentifier(purpose)]), critical=False)
        )
        if distribution_point:
            point = x509.DistributionPoint(
                [x509.UniformResourceIdentifier(distribution_point)], None, None, None
            )
            builder = builder.add_extension(x509.CRLDistributionPoints([point]), critical=False)
        return builder.sign(self.key("issuing CA"), _SHA256).public_bytes(Encoding.PEM)

    def revocation_list(
        self, revoked: Iterable[bytes] = (), *, ends: timedelta = timedelta(days=30)
    ) -> bytes:
        """Return the issuing CA's revocation list (DER) that names the given certificates (PEM)."""
        builder = (
            x509.CertificateRevocationListBuilder()
            .issuer_name(_name("issuing CA"))
            .last_update(self.at - timedelta(days=1))
            .next_update(self.at + ends)
        )
        for pem in revoked:
            entry = x509.RevokedCertificateBuilder().serial_number(
                x509.load_pem_x509_certificate(pem).serial_number
            )
            builder = builder.add_revoked_certificate(
                entry.revocation_date(self.at - timedelta(days=1)).build()
            )
        return builder.sign(self.key("issuing CA"), _SHA256).public_bytes(Encoding.DER)

    def _builder(self, subject: str, issuer: str, ends: timedelta) -> x509.CertificateBuilder:
        serial = int.from_bytes(derive_bytes(self.seed, f"tpm serial {subject} {issuer}", 8)) | 1
        return (
            x509.CertificateBuilder()
            .subject_name(_name(subject) if subject else x509.Name([]))
            .issuer_name(_name(issuer))
            .serial_number(serial)
            .not_valid_before(self.at - timedelta(days=365))
            .not_valid_after(self.at + ends)
        )

    def _authority(self, name: str, issuer: str) -> x509.Certificate:
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        return (
            self._builder(name, issuer, timedelta(days=3650))
            .public_key(self.key(name).public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(usage, critical=True)
            .sign(self.key(issuer), _SHA256)
        )


def _name(name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.COMMON_NAME, f"EAA simulated TPM {name}"),
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, ORGANISATION),
        ]
    )


class SoftwareTpm:
    """A TPM with an endorsement key, an attestation key and SHA-256 PCRs; ``event_log`` is what its machine's firmware keeps of them."""

    def __init__(self, seed: bytes, *, ak: rsa.RSAPrivateKey | None = None, attributes: int = _AK) -> None:
        self._ek = derive_key(seed, "endorsement key")
        self._ak: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey = ak or derive_key(seed, "attestation key")
        self._foreign = derive_key(seed, "foreign key")
        self.ek_area = ecc_area(self._ek.public_key(), _EK, storage=True)
        public = self._ak.public_key()
        self.ak_area = (
            rsa_area(public, attributes)
            if isinstance(public, rsa.RSAPublicKey)
            else ecc_area(public, attributes)
        )
        self.pcrs = {index: _ONES if index in _DYNAMIC else _ZERO for index in range(24)}
        self.event_log = b""

    @property
    def ek(self) -> ec.EllipticCurvePublicKey:
        """The endorsement key."""
        return self._ek.public_key()

    @property
    def ak(self) -> rsa.RSAPublicKey | ec.EllipticCurvePublicKey:
        """The attestation key."""
        return self._ak.public_key()

    def extend(self, index: int, digest: bytes) -> None:
        """Extend a PCR, as TPM2_PCR_Extend does."""
        self.pcrs[index] = sha256(self.pcrs[index] + digest).digest()

    def boot(self, events: Iterable[NewEvent]) -> None:
        """Extend PCRs as firmware does that measures ``events``, and keep its log of them, which goes with evidence from now on."""
        measured = tuple(events)
        for event in measured:
            self.extend(event.register, event.digest(_LOGGED))
        self.event_log = write_event_log(measured, (_LOGGED,))

    def quote(
        self, extra_data: bytes, traits: QuoteTraits = QuoteTraits()
    ) -> tuple[bytes, bytes, dict[int, bytes]]:
        """Return TPMS_ATTEST, TPMT_SIGNATURE and the PCR values beside them."""
        if traits.other_report_data:
            extra_data = sha256(extra_data).digest()
        selection = PcrSelection(Algorithm.SHA256, traits.mask)
        digest = pcr_digest(traits.hash, b"".join(self.pcrs[index] for index in selection.indices)) or b""
        signer = Algorithm.SHA256.to_bytes(2) + HASHERS[Algorithm.SHA256](self.ak_area.name).digest()
        clock = Clock(100_000, traits.reset_count, 1, traits.safe)
        message = pack_attest(Attest(signer, extra_data, clock, 0x2024_0101_0000_0000, (selection,), digest))
        message = struct.pack(">IH", traits.magic, traits.kind) + message[6:]
        signature = self._sign(message, traits)
        if traits.altered:
            at = message.index(extra_data)
            message = message[:at] + bytes([message[at] ^ 1]) + message[at + 1 :]
        values = {index: value for index, value in self.pcrs.items() if index != traits.withheld}
        if traits.altered_pcr:
            values[4] = sha256(values[4]).digest()
        return message, signature, values

    def evidence(self, extra_data: bytes, *faults: str) -> bytes:
        """Return evidence in the JSON that carries tpm2-tools' files, with the key's public area."""
        traits = QuoteTraits()
        for name in faults:
            traits = replace(traits, **TPM_FAULTS[name].traits)
        message, signature, values = self.quote(extra_data, traits)
        pcrs = pack_pcr_file({Algorithm.SHA256: values})
        return bundle_tpm2_tools(
            message=message,
            signature=signature,
            pcrs=pcrs,
            key=sized(self.ak_area.raw),
            event_log=self.event_log,
        )

    def activate(self, credential: Credential) -> bytes:
        """Do what TPM2_ActivateCredential does: return the secret, when it was made for this TPM and this attestation key.

        :raises EvidenceError: when it was not.
        """
        reader = Reader(credential.encrypted_secret, "the encrypted secret", "tpm.ak.anchored")
        x, y = reader.sized(66), reader.sized(66)
        ephemeral = ec.EllipticCurvePublicNumbers(
            int.from_bytes(x), int.from_bytes(y), ec.SECP256R1()
        ).public_key()
        ours = self.ek.public_numbers().x.to_bytes(32)
        seed = ConcatKDFHash(_SHA256, 32, b"IDENTITY\0" + x + ours).derive(
            self._ek.exchange(ec.ECDH(), ephemeral)
        )
        reader = Reader(credential.id_object, "the credential", "tpm.ak.anchored")
        integrity = reader.sized(64)
        identity = reader.take(len(credential.id_object) - reader.at)
        mac = hmac.HMAC(kdfa(_SHA256, seed, b"INTEGRITY", b"", 32), _SHA256)
        mac.update(identity + self.ak_area.name)
        if not compare_digest(mac.finalize(), integrity):
            raise EvidenceError("the credential is not for this TPM and key", check="tpm.ak.anchored")
        key = kdfa(_SHA256, seed, b"STORAGE", self.ak_area.name, 16)
        cipher = Cipher(AES(key), CFB(bytes(16))).decryptor()
        return Reader(cipher.update(identity) + cipher.finalize(), "the secret", "tpm.ak.anchored").sized(64)

    def _sign(self, message: bytes, traits: QuoteTraits) -> bytes:
        key = self._foreign if traits.foreign_key else self._ak
        hashing = hashes.SHA1() if traits.hash == Algorithm.SHA1 else _SHA256  # noqa: S303 - a fault
        if isinstance(key, rsa.RSAPrivateKey):
            value = key.sign(message, padding.PKCS1v15(), hashing)
            return pack_signature(Signature(Algorithm.RSASSA, traits.hash, value))
        r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashing)))
        return pack_signature(Signature(Algorithm.ECDSA, traits.hash, r.to_bytes(32) + s.to_bytes(32)))
