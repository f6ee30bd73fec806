# SPDX-License-Identifier: Apache-2.0
"""Keys that sign what EAA hands on: Ed25519 or ECDSA P-256, in PEM."""

from __future__ import annotations

from hashlib import sha256
from typing import Final, Literal

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import (
    SECP256R1,
    EllipticCurvePrivateKey,
    EllipticCurvePublicKey,
)
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_pem_public_key,
)

from eaa.rats import ConfigurationError

__all__ = [
    "MAX_PEM",
    "PrivateKey",
    "PublicKey",
    "key_id",
    "new_key",
    "public_pem",
    "read_private_key",
    "read_public_key",
]

PrivateKey = Ed25519PrivateKey | EllipticCurvePrivateKey
PublicKey = Ed25519PublicKey | EllipticCurvePublicKey

MAX_PEM: Final = 64 * 1024


def new_key(kind: Literal["ed25519", "p256"] = "ed25519") -> tuple[bytes, bytes]:
    """Make a key, and return its private and its public half in PEM."""
    key: PrivateKey = Ed25519PrivateKey.generate() if kind == "ed25519" else generate_ec(SECP256R1())
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return private, public_pem(key.public_key())


def public_pem(key: PublicKey) -> bytes:
    """Return a public key in PEM."""
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)


def key_id(key: PublicKey) -> str:
    """Return a key's id: the SHA-256, in hex, of its SubjectPublicKeyInfo in DER."""
    return sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()


def read_private_key(pem: bytes) -> PrivateKey:
    """Read a private key in PEM, without a passphrase.

    :raises ConfigurationError: when it is something else; the message never repeats any of it.
    """
    try:
        key = load_pem_private_key(pem, None) if len(pem) <= MAX_PEM else None
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PrivateKey) or _on_p256(key):
        return key  # type: ignore[return-value]  # one of the two, as was just asked
    raise ConfigurationError(
        "this is not an Ed25519 or ECDSA P-256 private key in PEM without a passphrase",
        hint="Make a pair with: eaa verdict key new NAME",
    )


def read_public_key(pem: bytes) -> PublicKey:
    """Read a public key in PEM.

    :raises ConfigurationError: when it is something else; the message never repeats any of it.
    """
    try:
        key = load_pem_public_key(pem) if len(pem) <= MAX_PEM else None
    except (ValueError, UnsupportedAlgorithm):
        key = None
    if isinstance(key, Ed25519PublicKey) or _on_p256(key):
        return key  # type: ignore[return-value]  # one of the two, as was just asked
    raise ConfigurationError(
        "this is not an Ed25519 or ECDSA P-256 public key in PEM",
        hint="Give the .pub file that was made with the private key.",
    )


def _on_p256(key: object) -> bool:
    return isinstance(key, EllipticCurvePrivateKey | EllipticCurvePublicKey) and isinstance(
        key.curve, SECP256R1
    )
