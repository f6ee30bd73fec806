# SPDX-License-Identifier: Apache-2.0
"""Wrapping to a TEE's key: flattened JWE with A256GCM (RFC 7516, RFC 7518 §4.3 and §4.6).

The protected header is written here and not by a JOSE library, for its order: guests in Rust parse the header, write it
again (``alg``, ``enc``, then the other members sorted at every level) and authenticate *that* text. Any other order is valid
JWE that they cannot open.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.concatkdf import ConcatKDFHash
from cryptography.hazmat.primitives.keywrap import InvalidUnwrap, aes_key_unwrap, aes_key_wrap

from eaa._json import parse_json
from eaa.kbs._encoding import b64url, from_b64url
from eaa.kbs.tee_key import CURVES, ECDH_ES_A256KW, RSA_OAEP_256, TeePubKey, ec_coordinates, ec_public_key
from eaa.rats import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["decrypt", "encrypt"]

_ENC: Final = "A256GCM"
_KEY_SIZE: Final = 32
_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_MAX_HEADER: Final = 8 << 10
_OAEP: Final = padding.OAEP(padding.MGF1(SHA256()), SHA256(), None)
_NOT_READ: Final = ("crit", "zip", "apu", "apv", "b64")
"""Header members that change what the message means and that this protocol never uses."""


def encrypt(plaintext: bytes, recipient: TeePubKey | Mapping[str, Any]) -> dict[str, str]:
    """Return ``plaintext`` wrapped to the TEE's key (or its JWK) as ``protected, encrypted_key, iv, ciphertext, tag``.

    :raises ProtocolError: when the JWK is not one that :class:`~eaa.kbs.tee_key.TeePubKey` takes.
    """
    key = recipient if isinstance(recipient, TeePubKey) else TeePubKey.from_jwk(dict(recipient))
    return _encrypt(plaintext, key, cek=os.urandom(_KEY_SIZE), iv=os.urandom(_IV_SIZE))


def decrypt(jwe: Mapping[str, Any], private_key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    """Open a flattened JWE.

    :raises ProtocolError: on a malformed message, an algorithm other than the key's, or when it was not wrapped to this key or
        was altered; the text does not tell which step failed.
    """
    protected = jwe.get("protected")
    header = parse_json(from_b64url(protected, "protected"), _MAX_HEADER)
    if not isinstance(header, dict):
        raise ProtocolError("the JWE's protected header is not an object")
    if header.get("enc") != _ENC:
        raise ProtocolError(f"the JWE's content encryption is not {_ENC}")
    if any(name in header for name in _NOT_READ):
        raise ProtocolError(
            f"the JWE's header has one of {', '.join(_NOT_READ)}, which this protocol does not use"
        )
    parts = {name: from_b64url(jwe.get(name), name) for name in ("encrypted_key", "iv", "ciphertext", "tag")}
    if len(parts["iv"]) != _IV_SIZE or len(parts["tag"]) != _TAG_SIZE:
        raise ProtocolError("the JWE's iv or tag has a wrong length")
    assert isinstance(protected, str)
    try:
        cek = _unwrap_key(header, parts["encrypted_key"], private_key)
        return AESGCM(cek).decrypt(parts["iv"], parts["ciphertext"] + parts["tag"], protected.encode())
    except (InvalidTag, InvalidUnwrap, ValueError):
        raise ProtocolError(
            "the JWE does not open with this TEE's key",
            hint="It was wrapped to another session's key, or altered on the way: make a new handshake.",
        ) from None


def _encrypt(
    plaintext: bytes,
    recipient: TeePubKey,
    *,
    cek: bytes,
    iv: bytes,
    ephemeral: ec.EllipticCurvePrivateKey | None = None,
) -> dict[str, str]:
    """Do what :func:`encrypt` does, with its random choices as arguments."""
    header: dict[str, Any] = {"alg": recipient.algorithm, "enc": _ENC}
    if isinstance(recipient.key, rsa.RSAPublicKey):
        encrypted_key = recipient.key.encrypt(cek, _OAEP)
    else:
        ours = ephemeral or ec.generate_private_key(recipient.key.curve)
        x, y = ec_coordinates(ours.public_key())
        header["epk"] = {"crv": recipient.jwk["crv"], "kty": "EC", "x": x, "y": y}
        encrypted_key = aes_key_wrap(_agree(ours, recipient.key), cek)
    protected = b64url(json.dumps(header, separators=(",", ":")).encode())
    sealed = AESGCM(cek).encrypt(iv, plaintext, protected.encode())
    return {
        "protected": protected,
        "encrypted_key": b64url(encrypted_key),
        "iv": b64url(iv),
        "ciphertext": b64url(sealed[:-_TAG_SIZE]),
        "tag": b64url(sealed[-_TAG_SIZE:]),
    }


def _agree(private: ec.EllipticCurvePrivateKey, public: ec.EllipticCurvePublicKey) -> bytes:
    """Return the key-wrapping key of ECDH-ES+A256KW: Concat KDF over SHA-256 with empty party info (RFC 7518 §4.6.2)."""
    algorithm = ECDH_ES_A256KW.encode()
    empty = bytes(4)
    info = len(algorithm).to_bytes(4, "big") + algorithm + empty + empty + (_KEY_SIZE * 8).to_bytes(4, "big")
    return ConcatKDFHash(SHA256(), _KEY_SIZE, info).derive(private.exchange(ec.ECDH(), public))


def _unwrap_key(
    header: Mapping[str, Any], encrypted_key: bytes, private: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
) -> bytes:
    """Return the content encryption key, 32 bytes.

    :raises ValueError: when it does not open, has another length, or (as InvalidUnwrap) fails its integrity check.
    """
    expected = RSA_OAEP_256 if isinstance(private, rsa.RSAPrivateKey) else ECDH_ES_A256KW
    if header.get("alg") != expected:
        raise ProtocolError(f"the JWE's key encryption is not {expected}, as this TEE's key needs")
    if isinstance(private, rsa.RSAPrivateKey):
        cek = private.decrypt(encrypted_key, _OAEP)
    else:
        epk = header.get("epk")
        curve = next((name for name, each in CURVES.items() if each.name == private.curve.name), None)
        if not isinstance(epk, dict) or epk.get("kty") != "EC" or curve is None or epk.get("crv") != curve:
            raise ProtocolError("the JWE's epk is not an EC key on the curve of this TEE's key")
        cek = aes_key_unwrap(
            _agree(private, ec_public_key(curve, epk.get("x"), epk.get("y"), "epk")), encrypted_key
        )
    if len(cek) != _KEY_SIZE:
        raise ValueError
    return cek
