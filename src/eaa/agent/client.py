# SPDX-License-Identifier: Apache-2.0
"""The guest's side of the KBS protocol: attest, then fetch what the owner's policy releases to this guest.

Each handshake has its own key pair, which lives as long as its session. When the broker no longer honours the session (401),
the guest attests again, as the Confidential Containers' client does.
"""

from __future__ import annotations

import asyncio
import time
from base64 import urlsafe_b64decode
from binascii import Error
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final, Self

import structlog

from eaa.agent._refusal import is_final, refusal
from eaa.agent._transport import Answer, Transport
from eaa.image import ResourceUri
from eaa.kbs import (
    MAX_RESPONSE,
    PROTOCOL_VERSION,
    Attestation,
    Challenge,
    InitData,
    JweResponse,
    Request,
    RuntimeData,
    TeeEvidence,
    TeeKeyPair,
    TokenResponse,
    decrypt,
    parse_json,
    report_data,
)
from eaa.kbs.report_data import DEFAULT_HASH, HASH_ALGORITHMS
from eaa.rats import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from eaa.agent.attester import Attester
    from eaa.rats import EaaError

__all__ = ["KbsClient", "Passport"]

_ATTEMPTS: Final = 3
_EXPIRY_MARGIN: Final = 10.0
"""Seconds before its end at which a token is no longer handed out."""

_log: Final = structlog.get_logger("eaa.agent.client")


@dataclass(frozen=True, slots=True)
class Passport:
    """The result of one handshake: an attestation token, and the key pair that it names."""

    token: str = field(repr=False)
    key: TeeKeyPair
    expires: float
    """Seconds since the epoch; 0 when the token does not say."""
    cookie: str = field(repr=False)


class KbsClient:
    """A guest that can prove itself to one key broker. Use it as an async context; it is safe to share between tasks.

    ``init_data`` is the text that the guest was launched with, sent with each evidence; ``clock`` gives seconds since the epoch.

    :raises ConfigurationError: on a URL or CA file that cannot be used.
    """

    def __init__(
        self,
        url: str,
        attester: Attester,
        *,
        ca_file: Path | None = None,
        init_data: str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._transport = Transport(url, ca_file)
        self._attester = attester
        self._init_data = None if init_data is None else InitData(format="toml", body=init_data)
        self._clock = clock
        self._session: Passport | None = None
        self._handshaking = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._transport.__aexit__()

    async def get_resource(self, name: str | ResourceUri) -> bytes:
        """Return a resource (``<repository>/<type>/<tag>`` or any form of its URI).

        :raises ImageError: on a malformed name.
        :raises NotFound: when the broker does not have it.
        :raises AccessDenied: when the broker refuses; ``check`` is the one its explanation names, if any.
        :raises UnavailableError: when the broker does not answer.
        :raises ProtocolError: when its answers do not follow the protocol.
        """
        uri = name if isinstance(name, ResourceUri) else ResourceUri.parse(name)
        found = self._session
        stale: Passport | None = None
        for attempt in range(1, _ATTEMPTS + 1):
            session = await self._established(replacing=stale)
            answer = await self._transport.send("GET", f"resource/{uri.path}", cookie=session.cookie)
            if answer.status == HTTPStatus.OK:
                jwe = JweResponse.from_json(answer.body, limit=MAX_RESPONSE)
                _log.info("resource released", resource=uri.path)
                return decrypt(jwe.model_dump(), session.key.private)
            error = refusal(answer, f"resource {uri.path}")
            fresh = session is not found
            if (
                answer.status != HTTPStatus.UNAUTHORIZED
                or attempt == _ATTEMPTS
                or (fresh and is_final(answer, error))
            ):
                _log.warning(
                    "resource refused",
                    resource=uri.path,
                    error=error.code,
                    check=getattr(error, "check", None),
                )
                raise error
            stale = session
        raise AssertionError  # the last attempt returns or raises

    async def get_token(self) -> str:
        """Return an attestation token (a JWT) that is valid now; attest if there is none.

        :raises EaaError: as :meth:`get_resource`.
        """
        return (await self.get_passport()).token

    async def get_passport(self) -> Passport:
        """Return the session whose token is valid now, with the private key that the token's holder needs.

        :raises EaaError: as :meth:`get_resource`.
        """
        session = await self._established()
        if session.expires - _EXPIRY_MARGIN <= self._clock():
            session = await self._established(replacing=session)
        return session

    async def _established(self, *, replacing: Passport | None = None) -> Passport:
        """Return the present session, made anew when there is none or it still is the one to be replaced."""
        async with self._handshaking:
            if self._session is None or self._session is replacing:
                self._session = None
                self._session = await self._handshake()
            return self._session

    async def _handshake(self) -> Passport:
        """Run challenge and response once, with a key pair of its own."""
        request = Request(
            version=PROTOCOL_VERSION,
            tee=self._attester.tee,
            extra_params={"supported-hash-algorithms": list(HASH_ALGORITHMS)},
        )
        answer = _accepted(await self._transport.send("POST", "auth", body=request.to_json()), "a challenge")
        challenge = Challenge.from_json(answer.body)
        cookie = answer.cookie
        if cookie is None:
            raise ProtocolError(
                "the key broker's challenge came without a session",
                hint="Check that kbs_url names a key broker.",
            )

        key = TeeKeyPair.generate()
        bound = report_data(challenge.nonce, key.public, algorithm=_selected_hash(challenge))
        attestation = Attestation(
            init_data=self._init_data,
            runtime_data=RuntimeData(nonce=challenge.nonce, tee_pubkey=key.public),
            tee_evidence=TeeEvidence(primary_evidence=await self._attester.collect(bound)),
        )
        answer = await self._transport.send("POST", "attest", body=attestation.to_json(), cookie=cookie)
        answer = _accepted(answer, "this guest's evidence")
        token = TokenResponse.from_json(answer.body, limit=MAX_RESPONSE).token
        _log.info("attested", tee=self._attester.tee)
        return Passport(token, key, _expiry(token), answer.cookie or cookie)


def _accepted(answer: Answer, what: str) -> Answer:
    if answer.status != HTTPStatus.OK:
        error: EaaError = refusal(answer, what)
        _log.warning("handshake refused", error=error.code, check=getattr(error, "check", None))
        raise error
    return answer


def _selected_hash(challenge: Challenge) -> str:
    """Return the hash algorithm that the broker selected, or the protocol's default."""
    params: Any = challenge.extra_params
    selected = (
        params.get("selected-hash-algorithm", DEFAULT_HASH) if isinstance(params, dict) else DEFAULT_HASH
    )
    if selected not in HASH_ALGORITHMS:
        raise ProtocolError("the key broker selected a hash algorithm that this guest did not offer")
    return str(selected)


def _expiry(token: str) -> float:
    """Return the ``exp`` of a JWT, 0 when there is none; the token is the broker's to verify, this only spares a handshake."""
    parts = token.split(".")
    try:
        claims = parse_json(urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)), MAX_RESPONSE)
    except (IndexError, Error, ValueError, ProtocolError):
        return 0.0
    expires = claims.get("exp") if isinstance(claims, dict) else None
    return float(expires) if isinstance(expires, int | float) and abs(expires) < 2**53 else 0.0
