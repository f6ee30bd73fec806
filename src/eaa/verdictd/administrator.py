# SPDX-License-Identifier: Apache-2.0
"""Who may administer: short-lived EdDSA tokens minted from one credential file.

The credential is an Ed25519 key that only its holder has; the server keeps the public half and can mint nothing. A token lives at
most five minutes, so that one that leaks into a log is soon worthless. The claims are those of the KBS admin interface: ``iss``,
``aud`` containing ``kbs``, ``role`` ``admin``, ``iat``, ``exp``.
"""

from __future__ import annotations

import json
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from joserfc import jws
from joserfc.errors import JoseError, UnsupportedAlgorithmError
from joserfc.jwk import OKPKey
from joserfc.jws import JWSRegistry

from eaa._files import write_whole
from eaa._json import parse_json
from eaa.rats import AccessDenied, ConfigurationError, InputError
from eaa.verdictd._files import read_secret

if TYPE_CHECKING:
    from pathlib import Path

    from joserfc._rfc7515.model import JWSAlgModel

__all__ = ["Administrators", "Credential", "ensure_administrator"]

AUDIENCE: Final = "kbs"
ROLE: Final = "admin"
MAX_LIFETIME: Final = timedelta(minutes=5)
LEEWAY: Final = timedelta(seconds=30)
"""How far the administrator's clock may be from the server's."""
MAX_TOKEN: Final = 4096
_ALGORITHMS: Final = ("EdDSA", "Ed25519")
"""``EdDSA`` is what deployed admin clients write; RFC 9864 calls the same signature ``Ed25519``."""


class _Ed25519Only(JWSRegistry):
    """Knows one signature under its two names, and does not warn about the older name, which peers still need."""

    def get_alg(self, name: str) -> JWSAlgModel:
        if name not in _ALGORITHMS:
            raise UnsupportedAlgorithmError
        return self.algorithms[name]


_REGISTRY: Final = _Ed25519Only()


@dataclass(frozen=True, slots=True)
class Credential:
    """The administrator's key, as kept in ``admin.json``."""

    issuer: str
    key: dict[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> Credential:
        """Read a credential file.

        :raises ConfigurationError: when it is not one, or when others may read it.
        """
        try:
            document = json.loads(read_secret(path))
            credential = cls(str(document["issuer"]), dict(document["key"]))
            OKPKey.import_key(credential.key)
        except (ValueError, KeyError, TypeError, RecursionError, JoseError) as error:
            raise ConfigurationError(
                f"{path} is not an administrator's credential",
                hint="Use the admin.json that verdictd made on its first start.",
            ) from error
        return credential

    def mint(self, *, at: datetime | None = None, lifetime: timedelta = timedelta(minutes=2)) -> str:
        """Return a bearer token that begins ``at`` (now unless told)."""
        now = at or datetime.now(UTC)
        claims = {
            "iss": self.issuer,
            "aud": [AUDIENCE],
            "role": ROLE,
            "jti": secrets.token_hex(16),
            "iat": int(now.timestamp()),
            "exp": int((now + lifetime).timestamp()),
        }
        header = {"alg": "EdDSA", "typ": "JWT"}
        key = OKPKey.import_key(self.key)
        return jws.serialize_compact(header, json.dumps(claims).encode(), key, registry=_REGISTRY)


class Administrators:
    """Decides whether a bearer token is a valid administrator's; denies everything else."""

    def __init__(self, issuer: str, public_key: dict[str, Any]) -> None:
        self._issuer = issuer
        self._key = OKPKey.import_key({name: public_key[name] for name in ("kty", "crv", "x")})

    def authorize(self, authorization: str | None, *, at: datetime) -> str:
        """Return who sent this ``Authorization`` header.

        :raises AccessDenied: unless it bears a token of ours, for us, with the administrator's role, that is valid now and for
            five minutes at most.
        """
        scheme, _, token = (authorization or "").partition(" ")
        if scheme.lower() != "bearer" or not token:
            raise _denied("an administrator's bearer token is needed")
        claims = self._verified(token.strip())
        audience = claims.get("aud")
        if claims.get("iss") != self._issuer:
            raise _denied("the token is of another issuer")
        if not (audience == AUDIENCE or (isinstance(audience, list) and AUDIENCE in audience)):
            raise _denied("the token is for another audience")
        if claims.get("role") != ROLE:
            raise _denied("the token has no administrator's role")
        now = at.timestamp()
        expires, begins = _time(claims.get("exp")), _time(claims.get("nbf", now))
        if expires is None or begins is None:
            raise _denied("the token does not say when it expires")
        if expires + LEEWAY.total_seconds() <= now or begins - LEEWAY.total_seconds() > now:
            raise _denied(
                "the token is not valid at this time", hint="Compare the clocks, then mint a new token."
            )
        if expires - LEEWAY.total_seconds() > now + MAX_LIFETIME.total_seconds():
            raise _denied("the token lives longer than five minutes", hint="Mint it with an expiry nearby.")
        return f"{self._issuer}/{ROLE}"

    def _verified(self, token: str) -> dict[str, Any]:
        try:
            if len(token) > MAX_TOKEN:
                raise ValueError  # noqa: TRY301 - one refusal for everything that is not a token
            signed = jws.deserialize_compact(token, self._key, registry=_REGISTRY)
            # A name that is there twice would mean one thing to this reader and another to the next (attack B8).
            claims = parse_json(signed.payload or b"", MAX_TOKEN)
        except (InputError, JoseError, ValueError, TypeError, KeyError, RecursionError):
            raise _denied("the token's signature does not hold") from None
        if not isinstance(claims, dict):
            raise _denied("the token holds no claims")
        return claims


def ensure_administrator(credential: Path, public: Path) -> Administrators:
    """Make the administrator's credential on first start and return who may administer.

    Only the public half is needed to run: the credential may be moved off the machine. A missing credential is therefore not
    made anew as long as the public half is there.

    :raises ConfigurationError: when the files cannot be used.
    """
    if not public.exists():
        if credential.exists():
            kept = Credential.load(credential)
            issuer, key = kept.issuer, OKPKey.import_key(kept.key)
        else:
            issuer, key = "eaa-administrator", OKPKey.generate_key("Ed25519")
            document = {"issuer": issuer, "key": key.as_dict(private=True)}
            write_whole(credential, json.dumps(document, indent=2).encode() + b"\n")
        document = {"issuer": issuer, "key": key.as_dict(private=False)}
        write_whole(public, json.dumps(document, indent=2).encode() + b"\n", mode=0o644)
    try:
        document = json.loads(public.read_bytes())
        return Administrators(document["issuer"], document["key"])
    except (OSError, ValueError, KeyError, TypeError, RecursionError, JoseError) as error:
        raise ConfigurationError(f"{public} is not an administrator's public key") from error


def _time(value: object) -> float | None:
    """Return a NumericDate (RFC 7519, section 2), or None for anything else."""
    return (
        float(value)
        if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e12
        else None
    )


def _denied(message: str, *, hint: str = "") -> AccessDenied:
    return AccessDenied(
        message,
        check="admin.token",
        hint=hint or "Mint one from the credential file that verdictd made on its first start (admin.json).",
    )
