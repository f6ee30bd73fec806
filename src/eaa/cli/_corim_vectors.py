# SPDX-License-Identifier: Apache-2.0
"""Recorded manifests: which of a vector's documents are read, and whether the signature holds where a key comes with it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from eaa._json import parse_json
from eaa.rats import InputError
from eaa.rim.corim import parse_comid, unwrap_corim
from eaa.rim.errors import ManifestError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rim.cose import Sign1

__all__ = ["corim_vector"]

_KEY: Final = "public_key"
_MEMBERS: Final = ("kty", "crv", "x", "y")


def corim_vector(files: Mapping[str, bytes]) -> tuple[str, list[str]]:
    """Return the outcome and the documents that are malformed.

    :raises InputError: when the key is none.
    """
    signatures: list[Sign1 | None] = []
    malformed = []
    for role, data in files.items():
        if role == _KEY:
            continue
        try:
            signatures.append(_read(data))
        except ManifestError:
            malformed.append(role)
    if not signatures:
        return "invalid", malformed
    if _KEY not in files:
        return "parsed", malformed
    key = _key(files[_KEY])
    holds = not malformed and all(each is not None and each.signed_by(key) for each in signatures)
    return "valid" if holds else "invalid", malformed


def _read(data: bytes) -> Sign1 | None:
    try:
        return unwrap_corim(data)[1]
    except ManifestError:
        parse_comid(data)
        return None


def _key(data: bytes) -> EllipticCurvePublicKey:
    members = parse_json(data, 1 << 16, error=InputError)
    try:
        key = ECKey.import_key({name: members[name] for name in _MEMBERS}).public_key
    except (JoseError, ValueError, KeyError, TypeError) as error:
        raise InputError("the vector's public key is no EC key in JWK") from error
    if not isinstance(key, EllipticCurvePublicKey):
        raise InputError("the vector's public key is no public key")
    return key
