# SPDX-License-Identifier: Apache-2.0
"""Signed CBOR: COSE_Sign1 (RFC 9052, section 4.2) with ES256 and EdDSA, and nothing that a signature could be confused by."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from cbor2 import CBORTag
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ec import (
    ECDSA,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

from eaa._cbor import parse_cbor, write_cbor
from eaa._keys import key_id
from eaa.rim.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa._keys import PrivateKey, PublicKey

__all__ = ["ALG", "CONTENT_TYPE", "KID", "MAX_SIGN1", "Sign1", "parse_sign1", "read_sign1", "sign1"]

MAX_SIGN1: Final = 4 << 20
ALG, CRIT, CONTENT_TYPE, KID = 1, 2, 3, 4
"""Header parameters (RFC 9052, section 3.1)."""
_TAG: Final = 18
_ES256: Final = (-7, -9)
"""ES256, and ESP256, which says the curve, too (RFC 9864)."""
_EDDSA: Final = (-8, -19)
"""EdDSA, and Ed25519 (RFC 9864)."""
_COORDINATE: Final = 32


@dataclass(frozen=True, slots=True)
class Sign1:
    """A signed payload. ``headers`` are the protected ones, which the signature covers; the others are not looked at."""

    protected: bytes = field(repr=False)
    headers: Mapping[Any, Any]
    payload: bytes = field(repr=False)
    signature: bytes = field(repr=False)

    def signed_by(self, key: PublicKey) -> bool:
        """Tell whether the key made the signature, with the algorithm that the headers name and that is the key's own."""
        signed = write_cbor(["Signature1", self.protected, b"", self.payload])
        algorithm = self.headers.get(ALG)
        try:
            if isinstance(key, EllipticCurvePublicKey):
                return algorithm in _ES256 and _verify_ecdsa(key, self.signature, signed)
            if algorithm not in _EDDSA:
                return False
            key.verify(self.signature, signed)
        except InvalidSignature:
            return False
        return True


def sign1(payload: bytes, key: PrivateKey, headers: Mapping[int, Any]) -> bytes:
    """Return a tagged COSE_Sign1 around ``payload``, with the algorithm and the key's id among the protected headers."""
    ecdsa = isinstance(key, EllipticCurvePrivateKey)
    name = bytes.fromhex(key_id(key.public_key()))
    protected = write_cbor({**headers, ALG: _ES256[0] if ecdsa else _EDDSA[0], KID: name})
    signed = write_cbor(["Signature1", protected, b"", payload])
    if isinstance(key, EllipticCurvePrivateKey):
        r, s = decode_dss_signature(key.sign(signed, ECDSA(SHA256())))
        signature = r.to_bytes(_COORDINATE) + s.to_bytes(_COORDINATE)
    else:
        signature = key.sign(signed)
    return write_cbor(CBORTag(_TAG, [protected, {}, payload, signature]))


def parse_sign1(data: bytes) -> Sign1:
    """Read a COSE_Sign1, tagged or not, and verify nothing.

    :raises ManifestError: when it is none, has no payload of its own, or headers that must be understood and are not.
    """
    return read_sign1(parse_cbor(data, MAX_SIGN1, error=ManifestError))


def read_sign1(value: Any) -> Sign1:
    """Read a COSE_Sign1 whose CBOR has been read already; for the rest like :func:`parse_sign1`.

    :raises ManifestError: likewise.
    """
    if isinstance(value, CBORTag) and value.tag == _TAG:
        value = value.value
    if not isinstance(value, list | tuple) or len(value) != 4:
        raise ManifestError("this is no COSE_Sign1: four parts are expected")
    protected, unprotected, payload, signature = value
    if not all(isinstance(each, bytes) for each in (protected, payload, signature)):
        raise ManifestError("this is no COSE_Sign1: headers, payload and signature are bytes")
    headers = parse_cbor(protected, MAX_SIGN1, error=ManifestError) if protected else {}
    if not _is_map(headers) or not _is_map(unprotected):
        raise ManifestError("the headers of the COSE_Sign1 are no map")
    if CRIT in headers:
        raise ManifestError(
            "the COSE_Sign1 has critical headers, of which none is known", hint="Sign it without."
        )
    return Sign1(protected, headers, payload, signature)


def _is_map(value: Any) -> bool:
    return hasattr(value, "keys")


def _verify_ecdsa(key: EllipticCurvePublicKey, signature: bytes, signed: bytes) -> bool:
    if len(signature) != 2 * _COORDINATE:
        return False
    r, s = (int.from_bytes(part) for part in (signature[:_COORDINATE], signature[_COORDINATE:]))
    key.verify(encode_dss_signature(r, s), signed, ECDSA(SHA256()))
    return True
