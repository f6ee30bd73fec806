# SPDX-License-Identifier: Apache-2.0
"""Attestation tokens: EAT Attestation Results (draft-ietf-rats-ear) as JWT, signed ES256, in the form that Trustee's tokens have.

The header names its key by ``kid`` only. Keys come from this issuer's own set and never from a token (attack B8).
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import secrets
import uuid
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.metadata import version
from typing import TYPE_CHECKING, Any, Final, Self

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from joserfc import jws
from joserfc.errors import JoseError
from joserfc.jwk import ECKey

from eaa._json import parse_json
from eaa.rats import AccessDenied, ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from eaa.verifier.appraise import Verdict

__all__ = ["EAT_PROFILE", "LIFETIME", "TokenIssuer", "submod_claims"]

EAT_PROFILE: Final = "tag:github.com,2024:confidential-containers/Trustee"
"""The profile whose members these tokens have; relying parties of Trustee look for it."""
LIFETIME: Final = timedelta(minutes=5)
MAX_TOKEN_SIZE: Final = 4 << 20
"""Bytes; a token repeats what the evidence claims, of which a guest's init-data are the largest part."""
_MAX_HEADER_SIZE: Final = 4096
_ALGORITHM: Final = "ES256"
_CLOCK_SKEW: Final = 30
"""Seconds that another replica's clock may be ahead."""
_LONG_TOKENS: Final = jws.JWSRegistry(algorithms=[_ALGORITHM])
_LONG_TOKENS.max_payload_length = MAX_TOKEN_SIZE
_HEADER_MEMBERS: Final = frozenset({"alg", "kid", "typ"})
_DEVELOPER: Final = "EAA"


@dataclass(frozen=True, slots=True)
class _SigningKey:
    jwk: ECKey = field(repr=False)
    kid: str

    @classmethod
    def of(cls, private_key: ec.EllipticCurvePrivateKey) -> Self:
        pem = private_key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        jwk = ECKey.import_key(pem)
        return cls(jwk, jwk.thumbprint())

    def public(self) -> dict[str, Any]:
        members = self.jwk.as_dict(private=False)
        return {
            **{name: members[name] for name in ("kty", "crv", "x", "y")},
            "alg": _ALGORITHM,
            "use": "sig",
            "kid": self.kid,
        }


class TokenIssuer:
    """Issues and verifies this verifier's tokens. ``earlier`` keys only verify, until the last token they signed has expired."""

    def __init__(
        self,
        key: ec.EllipticCurvePrivateKey,
        *,
        issuer: str = "verdictd",
        earlier: Sequence[ec.EllipticCurvePrivateKey] = (),
        lifetime: timedelta = LIFETIME,
    ) -> None:
        self._key = _SigningKey.of(key)
        keys = (self._key, *(_SigningKey.of(each) for each in earlier))
        self._public = {each.kid: ECKey.import_key(each.public()) for each in keys}
        self._jwks = {"keys": [each.public() for each in keys]}
        self.issuer = issuer
        self.lifetime = lifetime

    @classmethod
    def load_or_create(
        cls,
        path: Path,
        *,
        issuer: str = "verdictd",
        earlier: Sequence[Path] = (),
        lifetime: timedelta = LIFETIME,
    ) -> Self:
        """Return the issuer whose P-256 key is in ``path`` (PEM, PKCS #8, 0600), which is created on first use.

        Two processes that start at once end up with the same key. ``earlier`` are files of former keys.

        :raises ConfigurationError: when a file is no such key, or others than its owner may read it.
        """
        if not path.exists():
            _create_key(path)
        keys = [_load_key(each) for each in (path, *earlier)]
        return cls(keys[0], issuer=issuer, earlier=keys[1:], lifetime=lifetime)

    @property
    def kid(self) -> str:
        """The RFC 7638 thumbprint of the signing key."""
        return self._key.kid

    def jwks(self) -> dict[str, Any]:
        """Return the public keys as a JWK Set (RFC 7517), the signing one first."""
        return {"keys": [dict(key) for key in self._jwks["keys"]]}

    def issue(self, verdict: Verdict, *, at: datetime, submod: str = "cpu0") -> str:
        """Return the token that states ``verdict``, valid from ``at`` for the issuer's lifetime."""
        now = int(at.timestamp())
        claims = {
            "eat_profile": EAT_PROFILE,
            "iat": now,
            "ear.verifier-id": {"developer": _DEVELOPER, "build": f"eaa {version('eaa')}"},
            "submods": {submod: _submod(verdict)},
            "exp": now + int(self.lifetime.total_seconds()),
            "nbf": now,
            "iss": self.issuer,
            "jti": str(uuid.uuid4()),
        }
        header = {"typ": "JWT", "alg": _ALGORITHM, "kid": self._key.kid}
        payload = json.dumps(claims, separators=(",", ":"), allow_nan=False).encode()
        return jws.serialize_compact(header, payload, self._key.jwk, algorithms=[_ALGORITHM])

    def verify(self, token: str, *, at: datetime) -> dict[str, Any]:
        """Return the claims of a token of ours that is valid ``at``.

        :raises AccessDenied: in every other case; ``check`` names the rule that refused. The token is never repeated.
        """
        header = self._header(token)
        key = self._public.get(header["kid"])
        if key is None:
            raise _denied("token.key", "the token was signed by a key that is not ours")
        try:
            verified = jws.deserialize_compact(token, key, registry=_LONG_TOKENS)
        except (JoseError, ValueError) as error:
            raise _denied("token.signature", "the token's signature does not hold") from error
        claims = _object(verified.payload or b"", MAX_TOKEN_SIZE)
        if claims.get("iss") != self.issuer:
            raise _denied("token.issuer", f"the token is not of issuer {self.issuer}")
        now = at.timestamp()
        begins, ends, issued = (_time(claims, name) for name in ("nbf", "exp", "iat"))
        if now >= ends:
            raise _denied("token.expired", "the token has expired")
        if max(begins, issued) > now + _CLOCK_SKEW:
            raise _denied("token.not-yet-valid", "the token is not valid yet")
        return claims

    def _header(self, token: str) -> dict[str, Any]:
        if len(token) > MAX_TOKEN_SIZE or token.count(".") != 2 or not token.isascii():
            raise _denied("token.format", "this is not a token")
        header = _object(_b64url(token.partition(".")[0]), _MAX_HEADER_SIZE)
        if header.get("alg") != _ALGORITHM:
            raise _denied("token.algorithm", f"the token is not signed with {_ALGORITHM}")
        if unknown := header.keys() - _HEADER_MEMBERS:
            raise _denied(
                "token.header", f"the token's header has {', '.join(sorted(map(repr, unknown)))[:100]}"
            )
        if header.get("typ") != "JWT" or not isinstance(header.get("kid"), str):
            raise _denied("token.header", "the token's header lacks typ JWT or kid")
        return header


def _submod(verdict: Verdict) -> dict[str, Any]:
    return submod_claims(
        {
            "id": verdict.id,
            "status": verdict.status.value,
            "trust_vector": verdict.trust_vector,
            "extensions": verdict.extensions,
            "policy_id": verdict.policy_id,
            "policy_digest": verdict.policy_digest,
            "checks_digest": verdict.checks_digest,
            "simulated": verdict.simulated,
        },
        verdict.annotated_evidence,
    )


def submod_claims(verdict: Mapping[str, Any], annotated_evidence: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a token says of one TEE, from the members of a verdict's JSON form and the evidence that its policy saw.

    :raises KeyError: when a member is missing.
    """
    return {
        **verdict["extensions"],
        "ear.status": verdict["status"],
        "ear.trustworthiness-vector": dict(verdict["trust_vector"]),
        "ear.appraisal-policy-id": verdict["policy_id"],
        "ear.veraison.annotated-evidence": dict(annotated_evidence),
        "ear.eaa.verdict": {
            "id": verdict["id"],
            "checks": verdict["checks_digest"],
            "policy": verdict["policy_digest"],
            "simulated": verdict["simulated"],
        },
    }


def _denied(check: str, message: str) -> AccessDenied:
    return AccessDenied(message, check=check, hint="Attest again to get a token.")


def _object(data: bytes, limit: int) -> dict[str, Any]:
    """Read a JSON object in which no name stands twice."""
    try:
        value = parse_json(data, limit)
    except InputError as error:
        raise _denied("token.format", f"the token is malformed: {error}") from error
    if not isinstance(value, dict):
        raise _denied("token.format", "the token is malformed: no object")
    return value


def _b64url(text: str) -> bytes:
    try:
        return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError) as error:
        raise _denied("token.format", "the token is not base64url") from error


def _time(claims: dict[str, Any], name: str) -> int:
    value = claims.get(name)
    if type(value) is not int:
        raise _denied("token.format", f"the token has no {name}")
    return value


def _create_key(path: Path) -> None:
    """Write a new key under its name unless another process was faster; it is whole on disk before it has the name."""
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                stream.write(pem)
                stream.flush()
                os.fsync(stream.fileno())
            try:
                path.hardlink_to(temporary)
            except FileExistsError:
                return
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"cannot create the token key {path}: {error.strerror}",
            hint="Name a file in a folder that can be written.",
        ) from error


def _load_key(path: Path) -> ec.EllipticCurvePrivateKey:
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise ConfigurationError(
                    f"others may read the token key {path}", hint=f"Run chmod 600 {path}."
                )
            key = load_pem_private_key(stream.read(), password=None)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read the token key {path}: {error.strerror}", hint="Name a file that can be read."
        ) from error
    except (ValueError, TypeError) as error:
        raise ConfigurationError(
            f"{path} is not a private key in PEM",
            hint="Remove the file to have a new key made; old tokens then end.",
        ) from error
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ConfigurationError(
            f"{path} is not a key on P-256", hint="ES256 needs one; remove the file to have one made."
        )
    return key
