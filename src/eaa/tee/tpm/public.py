# SPDX-License-Identifier: Apache-2.0
"""A TPM's public keys: TPMT_PUBLIC, its name, and the key in it. Read and written.

Layouts from the TPM 2.0 Library, Part 2: TPMT_PUBLIC (12.2.4), TPMA_OBJECT (8.3), TPMS_RSA_PARMS (12.2.3.5), TPMS_ECC_PARMS
(12.2.3.6); the name from Part 1, section 16.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA1, SHA256, SHA384, SHA512, HashAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_der_public_key

from eaa.rats import EvidenceError
from eaa.tee.tpm.wire import HASHERS, Algorithm, Curve, Reader, digest_size

if TYPE_CHECKING:
    from eaa.tee.tpm.quote import Signature

__all__ = [
    "AK_ATTRIBUTES",
    "PublicArea",
    "PublicKey",
    "load_spki",
    "parse_public",
    "spki_of",
    "verifies",
]

MAX_PUBLIC: Final = 1024
MIN_RSA_BITS: Final = 2048
MAX_RSA_BITS: Final = 4096
_DEFAULT_EXPONENT: Final = 65537

FIXED_TPM: Final = 1 << 1
FIXED_PARENT: Final = 1 << 4
SENSITIVE_DATA_ORIGIN: Final = 1 << 5
RESTRICTED: Final = 1 << 16
DECRYPT: Final = 1 << 17
SIGN: Final = 1 << 18
AK_ATTRIBUTES: Final = {
    "fixedTPM": FIXED_TPM,
    "fixedParent": FIXED_PARENT,
    "sensitiveDataOrigin": SENSITIVE_DATA_ORIGIN,
    "restricted": RESTRICTED,
    "sign": SIGN,
}
"""What an attestation key must be: made by its TPM, never to leave it, and signing only what the TPM itself composed."""

PublicKey = rsa.RSAPublicKey | ec.EllipticCurvePublicKey

_HEADER: Final = struct.Struct(">HHI")
_SYMMETRIC: Final = struct.Struct(">HH")
_RSA: Final = struct.Struct(">HI")
_CIPHERS: Final = frozenset({Algorithm.AES, Algorithm.SM4, Algorithm.CAMELLIA})
_CURVES: Final[dict[int, ec.EllipticCurve]] = {
    Curve.P256: ec.SECP256R1(),
    Curve.P384: ec.SECP384R1(),
    Curve.P521: ec.SECP521R1(),
}
_HASHES: Final[dict[int, HashAlgorithm]] = {
    Algorithm.SHA1: SHA1(),  # noqa: S303 - old TPMs sign with it; a rule refuses it, and says so
    Algorithm.SHA256: SHA256(),
    Algorithm.SHA384: SHA384(),
    Algorithm.SHA512: SHA512(),
}
_PKCS1: Final = padding.PKCS1v15()
_PSS: Final = {
    hashing: padding.PSS(padding.MGF1(each), padding.PSS.AUTO) for hashing, each in _HASHES.items()
}
_ECDSA: Final = {hashing: ec.ECDSA(each) for hashing, each in _HASHES.items()}


@dataclass(frozen=True, slots=True)
class PublicArea:
    """A TPMT_PUBLIC, all of it in ``raw``.

    ``key`` is the key's DER SubjectPublicKeyInfo, ``symmetric_bits`` the size of the AES key that a storage key protects with, 0 for
    a key that protects nothing.
    """

    raw: bytes
    name_hash: int
    attributes: int
    symmetric_bits: int
    key: bytes

    @property
    def name(self) -> bytes:
        """The TPM's name of the object: the hash's number, then the hash of the public area."""
        digest: bytes = HASHERS[self.name_hash](self.raw).digest()
        return self.name_hash.to_bytes(2, "big") + digest

    @property
    def missing_attributes(self) -> list[str]:
        """What keeps it from being an attestation key, in the specification's words."""
        missing = [name for name, bit in AK_ATTRIBUTES.items() if not self.attributes & bit]
        return missing + (["not decrypt"] if self.attributes & DECRYPT else [])


def parse_public(data: bytes) -> PublicArea:
    """Read a TPM2B_PUBLIC or TPMT_PUBLIC of an RSA or ECC key, all of it.

    :raises EvidenceError: when it is malformed, or a key that is not supported.
    """
    reader = Reader(data, "the key's TPMT_PUBLIC", "tpm.ak.format")
    if len(data) > MAX_PUBLIC:
        raise reader.error(f"{len(data)} bytes, at most {MAX_PUBLIC} are read")
    # A size cannot be taken for a type: no key fits the 1 or 35 bytes that RSA's and ECC's numbers would mean.
    if int.from_bytes(data[:2], "big") == len(data) - 2:
        reader.at = 2
    start = reader.at
    kind, name_hash, attributes = reader.unpack(_HEADER)
    digest_size(name_hash, reader.check)
    if name_hash not in HASHERS:
        raise reader.error(f"the name's hash {name_hash:#06x} is not supported")
    reader.sized(64)  # the policy that authorises its use
    if kind == Algorithm.RSA:
        symmetric_bits, key = _parse_rsa(reader)
    elif kind == Algorithm.ECC:
        symmetric_bits, key = _parse_ecc(reader)
    else:
        raise reader.error(f"an object of type {kind:#06x}; keys are RSA or ECC")
    reader.finish()
    return PublicArea(data[start:], name_hash, attributes, symmetric_bits, key)


def _parse_symmetric(reader: Reader) -> int:
    algorithm = reader.u16()
    if algorithm == Algorithm.NULL:
        return 0
    if algorithm not in _CIPHERS:
        raise reader.error(f"the symmetric algorithm {algorithm:#06x} is no block cipher")
    bits, _mode = reader.unpack(_SYMMETRIC)
    if algorithm != Algorithm.AES:
        raise reader.error(f"the block cipher {algorithm:#06x} is not supported")
    return int(bits)


def _skip_scheme(reader: Reader) -> None:
    scheme = reader.u16()
    if scheme in {Algorithm.NULL, Algorithm.RSAES}:
        return
    reader.u16()  # its hash
    if scheme == Algorithm.ECDAA:
        reader.u16()  # its count


def _parse_rsa(reader: Reader) -> tuple[int, bytes]:
    symmetric_bits = _parse_symmetric(reader)
    _skip_scheme(reader)
    bits, exponent = reader.unpack(_RSA)
    modulus = int.from_bytes(reader.sized(MAX_RSA_BITS // 8), "big")
    if modulus.bit_length() != bits:
        raise reader.error(f"a modulus of {modulus.bit_length()} bits is said to have {bits}")
    try:
        key = rsa.RSAPublicNumbers(exponent or _DEFAULT_EXPONENT, modulus).public_key()
    except ValueError as error:
        raise reader.error("its RSA key is none") from error
    return symmetric_bits, spki_of(_require_strong(key))


def _parse_ecc(reader: Reader) -> tuple[int, bytes]:
    symmetric_bits = _parse_symmetric(reader)
    _skip_scheme(reader)
    number = reader.u16()
    curve = _CURVES.get(number)
    if curve is None:
        raise reader.error(f"curve {number:#06x}; known are NIST P-256, P-384 and P-521")
    if reader.u16() != Algorithm.NULL:
        reader.u16()  # the hash of its key derivation
    size = (curve.key_size + 7) // 8
    x, y = (int.from_bytes(reader.sized(size), "big") for _ in range(2))
    try:
        key = ec.EllipticCurvePublicNumbers(x, y, curve).public_key()
    except ValueError as error:
        raise reader.error("its point is not on its curve") from error
    return symmetric_bits, spki_of(key)


def spki_of(key: PublicKey) -> bytes:
    """Return a key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@lru_cache(1024)
def load_spki(der: bytes) -> PublicKey:
    """Read a DER SubjectPublicKeyInfo of a key that a TPM can sign with.

    :raises EvidenceError: when it is none, or too weak.
    """
    try:
        key = load_der_public_key(der)
    except Exception as error:  # pyca documents no complete list for hostile keys
        raise EvidenceError(
            "the attestation key is no DER SubjectPublicKeyInfo", check="tpm.ak.format"
        ) from error
    if not isinstance(key, PublicKey) or (
        isinstance(key, ec.EllipticCurvePublicKey)
        and not isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1 | ec.SECP521R1)
    ):
        raise EvidenceError("the attestation key is neither RSA nor on a NIST curve", check="tpm.ak.format")
    return _require_strong(key)


def _require_strong(key: PublicKey) -> PublicKey:
    if isinstance(key, rsa.RSAPublicKey) and not MIN_RSA_BITS <= key.key_size <= MAX_RSA_BITS:
        raise EvidenceError(
            f"an RSA key of {key.key_size} bits, {MIN_RSA_BITS} to {MAX_RSA_BITS} are accepted",
            check="tpm.ak.format",
        )
    return key


def verifies(key: PublicKey, signature: Signature, message: bytes) -> bool:
    """Whether ``signature`` is ``key``'s of ``message``, in its scheme and with its hash."""
    hashing = _HASHES.get(signature.hash)
    if hashing is None:
        return False
    try:
        if isinstance(key, rsa.RSAPublicKey):
            if signature.scheme == Algorithm.RSASSA:
                key.verify(signature.value, message, _PKCS1, hashing)
            elif signature.scheme == Algorithm.RSAPSS:
                key.verify(signature.value, message, _PSS[signature.hash], hashing)
            else:
                return False
        elif signature.scheme == Algorithm.ECDSA:
            half = len(signature.value) // 2
            r, s = (int.from_bytes(part, "big") for part in (signature.value[:half], signature.value[half:]))
            key.verify(encode_dss_signature(r, s), message, _ECDSA[signature.hash])
        else:
            return False
    except InvalidSignature:
        return False
    return True
