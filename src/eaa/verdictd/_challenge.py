# SPDX-License-Identifier: Apache-2.0
"""Stateless challenges: the session cookie *is* the challenge, sealed, so that any replica can answer any request.

The cookie holds the nonce, the kind of TEE and the time until which the challenge may be answered, under authenticated
encryption with a key that every replica derives from the shared server secret. That a challenge is answered once only is the
database's business, not the cookie's.
"""

from __future__ import annotations

import secrets
import struct
from base64 import b64decode, b64encode, urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from eaa.rats import AccessDenied

__all__ = ["Challenge", "ChallengeSealer"]

NONCE_SIZE: Final = 32
SESSION_SIZE: Final = 16
MAX_COOKIE: Final = 512
"""Characters; a sealed challenge has about 160."""

_SALT_SIZE: Final = 16
_IV_SIZE: Final = 12
_HEAD: Final = struct.Struct(f">B{NONCE_SIZE}s{SESSION_SIZE}sQ")
_VERSION: Final = 1
_LABEL: Final = b"eaa.verdictd challenge v1"


@dataclass(frozen=True, slots=True)
class Challenge:
    """What a guest must have its hardware sign, and until when.

    ``nonce`` is the standard base64 of 32 random bytes (44 characters), as the KBS protocol carries it. ``session`` names the
    session that a successful answer opens; only the holder of the cookie can make the server use it.
    """

    nonce: str
    tee: str
    expires: datetime
    session: bytes = field(repr=False)


class ChallengeSealer:
    """Issues challenges and turns them into cookies and back.

    Each cookie is encrypted under its own key, derived from the secret and a random salt: with 28 random bytes per cookie, the
    number of challenges one secret may seal has no bound that traffic could reach.
    """

    def __init__(self, secret: bytes, *, lifetime: timedelta = timedelta(minutes=5)) -> None:
        if len(secret) < 32:
            raise ValueError("the challenge secret must have at least 32 bytes")
        self._secret = secret
        self._lifetime = lifetime

    def issue(self, tee: str, *, at: datetime) -> Challenge:
        """Return a fresh challenge for one kind of TEE, to be answered within the lifetime that starts ``at``."""
        expires = datetime.fromtimestamp(int((at + self._lifetime).timestamp()), UTC)
        nonce = b64encode(secrets.token_bytes(NONCE_SIZE)).decode()
        return Challenge(nonce, tee, expires, secrets.token_bytes(SESSION_SIZE))

    def seal(self, challenge: Challenge) -> str:
        """Return the cookie value of a challenge: base64url without padding."""
        expires = int(challenge.expires.timestamp())
        plain = _HEAD.pack(_VERSION, b64decode(challenge.nonce), challenge.session, expires)
        salt, iv = secrets.token_bytes(_SALT_SIZE), secrets.token_bytes(_IV_SIZE)
        sealed = AESGCM(self._key(salt)).encrypt(iv, plain + challenge.tee.encode(), _LABEL)
        return urlsafe_b64encode(salt + iv + sealed).rstrip(b"=").decode()

    def open(self, cookie: str) -> Challenge:
        """Return the challenge in a cookie, whether or not it may still be answered.

        :raises AccessDenied: when this server, or a replica that shares its secret, did not seal it.
        """
        try:
            if len(cookie) > MAX_COOKIE:
                raise ValueError  # noqa: TRY301 - one refusal for everything that is not ours
            data = b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_", validate=True)
            salt, iv, sealed = (
                data[:_SALT_SIZE],
                data[_SALT_SIZE : _SALT_SIZE + _IV_SIZE],
                data[_SALT_SIZE + _IV_SIZE :],
            )
            plain = AESGCM(self._key(salt)).decrypt(iv, sealed, _LABEL)
        except (ValueError, InvalidTag):
            raise AccessDenied(
                "the session cookie was not made by this server",
                check="session.cookie",
                hint="Begin again with POST /kbs/v0/auth.",
            ) from None
        _, nonce, session, expires = _HEAD.unpack_from(plain)
        tee = plain[_HEAD.size :].decode()
        return Challenge(b64encode(nonce).decode(), tee, datetime.fromtimestamp(expires, UTC), session)

    def _key(self, salt: bytes) -> bytes:
        return HKDF(SHA256(), 32, salt, _LABEL).derive(self._secret)
