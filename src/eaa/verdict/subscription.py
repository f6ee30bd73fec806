# SPDX-License-Identifier: Apache-2.0
"""A subscription to a Verdict elsewhere: its index is asked for in the background, never while a guest waits.

The Verdict is believed that it wants its sets where it lists them, as its index is signed, and not that they are good: each set is held to
the signers that are configured here. While the Verdict cannot be reached, everything stays as it was.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import httpx2

from eaa.rats import ConfigurationError, EaaError, UnavailableError
from eaa.verdict.envelope import MAX_ENVELOPE
from eaa.verdict.errors import StatementError
from eaa.verdict.index import open_index
from eaa.verdict.presented import parse_presented

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable

    from eaa._keys import PublicKey
    from eaa.verdict.index import Index
    from eaa.verdict.service import ReferenceSets

__all__ = ["Source", "Subscriber"]

_log: Final = logging.getLogger("eaa.verdict")
WAIT: Final = 30
"""Seconds that a Verdict may put its answer off until something changes."""
_TIMEOUT: Final = 30.0
_LEAST: Final = 1.0
"""Seconds from one question to the next, whatever the Verdict answers."""
_FIRST_RETRY: Final = 1.0
_LAST_RETRY: Final = 60.0


@dataclass(frozen=True, slots=True)
class Source:
    """A Verdict that is subscribed to: its address, the key that signs its index, and the token that it wants to see."""

    url: str
    index_key: PublicKey
    token: str = field(repr=False)
    tls: ssl.SSLContext | None = None

    def __post_init__(self) -> None:
        address = urlsplit(self.url)
        if address.scheme != "https" or not address.hostname:
            raise ConfigurationError(
                f"{self.url} is no https URL",
                hint="A Verdict is asked over TLS only: the token would be seen.",
            )


class Subscriber:
    """Keeps the sets here where a Verdict has them."""

    def __init__(
        self,
        sets: ReferenceSets,
        source: Source,
        *,
        client: httpx2.AsyncClient | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._sets, self._source, self._sleep = sets, source, sleep
        self._client = client or httpx2.AsyncClient(
            base_url=source.url,
            verify=source.tls if source.tls is not None else True,
            follow_redirects=False,
            timeout=httpx2.Timeout(_TIMEOUT, read=_TIMEOUT + WAIT),
            # A compressed answer could grow without bound while it is unpacked.
            headers={"accept-encoding": "identity"},
            trust_env=False,
        )
        self._followed: int | None = None
        self._incomplete = False

    async def run(self) -> None:
        """Follow the Verdict for ever. What goes wrong is written down, and tried again after a while."""
        pause = _FIRST_RETRY
        time = asyncio.get_running_loop().time
        while True:
            asked = time()
            try:
                await self.step(wait=WAIT)
                pause = _FIRST_RETRY
                await self._sleep(_LAST_RETRY if self._incomplete else max(0.0, asked + _LEAST - time()))
            except EaaError as error:
                _log.warning("the Verdict at %s is not followed now: %s", self._source.url, error)
                await self._note(error)
                await self._sleep(pause * random.uniform(0.5, 1.5))  # noqa: S311 - so that not all come back at once
                pause = min(pause * 2, _LAST_RETRY)

    async def _note(self, error: EaaError) -> None:
        try:
            await self._sets.note_failure(self._source.url, str(error))
        except UnavailableError as unavailable:
            _log.warning("that cannot be written down: %s", unavailable)

    async def step(self, *, wait: int = 0) -> bool:
        """Ask for an index that is newer than the last, and follow it; return whether there was one.

        :raises UnavailableError: when the Verdict cannot be reached, or the database cannot be used.
        :raises SignatureRefused: when its index is not signed by its key.
        :raises AccessDenied: when its index is older than the last one.
        :raises StatementError: when what it sends is no index.
        """
        tag = {} if self._followed is None else {"if-none-match": f'"{self._followed}"'}
        answer = await self._get(f"/verdict/v1/index?wait={wait}", tag)
        if answer is None:
            return False
        index = open_index(answer, self._source.index_key)
        problems = await self._fetch_missing(index)
        problems += await self._sets.follow(self._source.url, index)
        if problems:
            await self._sets.note_failure(self._source.url, "; ".join(problems))
            _log.warning("not all of index %s is followed: %s", index.sequence, "; ".join(problems))
        # What was refused may be signed, or its signers configured, without the Verdict's doing: it is tried again.
        self._incomplete = bool(problems)
        self._followed = None if problems else index.sequence
        return True

    async def _fetch_missing(self, index: Index) -> list[str]:
        """Fetch the sets that are not here, and propose them; return what was refused."""
        problems = []
        for digest in await self._sets.missing(index):
            try:
                data = await self._get(f"/verdict/v1/sets/{digest}", {})
                if data is None or _digest_of(data) != digest:
                    raise StatementError(f"{self._source.url} sends something else for the set {digest}")
                await self._sets.propose(data, who=self._source.url, why=f"index {index.sequence}")
            except UnavailableError:
                raise
            except EaaError as error:
                problems.append(f"{digest[:16]}: {error}")
        return problems

    async def _get(self, path: str, headers: dict[str, str]) -> bytes | None:
        """Return the body of an answer, or nothing if there is nothing new."""
        headers = {"authorization": f"Bearer {self._source.token}", **headers}
        try:
            async with self._client.stream("GET", path, headers=headers) as response:
                if response.status_code == 304:
                    return None
                if response.status_code != 200:
                    raise UnavailableError(
                        f"{self._source.url} answers {response.status_code}",
                        hint="Check the address and the token.",
                    )
                if response.headers.get("content-encoding", "identity") != "identity":
                    raise StatementError(f"{self._source.url} compresses, which was not asked for")
                body = bytearray()
                async for piece in response.aiter_bytes():
                    body += piece
                    if len(body) > MAX_ENVELOPE:
                        raise StatementError(f"{self._source.url} sends more than {MAX_ENVELOPE} bytes")
        except (httpx2.HTTPError, httpx2.StreamError) as error:
            raise UnavailableError(
                f"{self._source.url} cannot be reached: {type(error).__name__}",
                hint="What was active stays so. Check the address, the network and the certificate authority.",
            ) from error
        return bytes(body)


def _digest_of(envelope: bytes) -> str:
    return parse_presented(envelope).set.digest
