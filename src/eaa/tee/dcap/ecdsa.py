# SPDX-License-Identifier: Apache-2.0
"""ECDSA P-256 as DCAP writes it: ``r ‖ s`` and ``x ‖ y``, 64 bytes each, big-endian."""

from __future__ import annotations

from typing import Final

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature, encode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256

__all__ = ["der_signature", "load_point", "raw_signature", "verifies"]

_ECDSA_SHA256: Final = ec.ECDSA(SHA256())
_P256: Final = ec.SECP256R1()


def der_signature(raw: bytes) -> bytes:
    """Return the DER form of an ``r ‖ s`` signature."""
    return encode_dss_signature(int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))


def raw_signature(der: bytes) -> bytes:
    """Return ``r ‖ s`` of a DER signature."""
    r, s = decode_dss_signature(der)
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def load_point(raw: bytes) -> ec.EllipticCurvePublicKey | None:
    """Return the key ``x ‖ y``, or None when that is no point of P-256."""
    try:
        return ec.EllipticCurvePublicKey.from_encoded_point(_P256, b"\x04" + raw)
    except ValueError:
        return None


def verifies(key: ec.EllipticCurvePublicKey, raw: bytes, message: bytes) -> bool:
    """Whether ``raw`` is ``key``'s ECDSA-SHA256 signature of ``message``."""
    try:
        key.verify(der_signature(raw), message, _ECDSA_SHA256)
    except InvalidSignature:
        return False
    return True
