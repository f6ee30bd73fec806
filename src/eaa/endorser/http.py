# SPDX-License-Identifier: Apache-2.0
"""How a vendor's service or another cache is asked: TLS verified, no redirects, no compression, bounded in size and time.

Where to ask comes from whoever configures it, never from what was received.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Final, Protocol
from urllib.parse import urlsplit

import httpx2

from eaa.rats import ConfigurationError, EndorsementError, NotFound, UnavailableError
from eaa.tee.dcap.collateral_files import MAX_FILE

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

__all__ = ["Answer", "Budget", "Busy", "Gate", "checked", "get", "new_client", "post"]

_LOOPBACK: Final = frozenset({"127.0.0.1", "::1", "localhost"})
_LONGEST_WAIT: Final = timedelta(days=1)
"""The longest ``Retry-After`` that is believed."""


class Busy(UnavailableError):
    """A service that does not want to be asked before ``until``."""

    def __init__(self, message: str, until: datetime, *, hint: str = "") -> None:
        super().__init__(message, hint=hint or "It is asked again by itself.")
        self.until = until


class Gate(Protocol):
    """Decides whether a host may be asked now."""

    def enter(self) -> None:
        """Count one request.

        :raises Busy: when there are to be no requests now.
        """
        ...

    def close(self, until: datetime) -> None:
        """Let nobody through before ``until``: the host has asked for it."""
        ...

    def now(self) -> datetime:
        """Return the time, in UTC."""
        ...


class Budget:
    """A host's budget: ``burst`` requests at once, refilled at ``per_minute``; shared by all who ask the host."""

    def __init__(
        self,
        host: str,
        *,
        per_minute: float = 60.0,
        burst: int = 20,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._host = host
        self._per_second = per_minute / 60
        self._burst = float(burst)
        self._tokens = float(burst)
        self._clock = clock
        self._counted = self._opens = clock()

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return self._clock()

    def enter(self) -> None:
        """Count one request.

        :raises Busy: when the budget is spent, or the host has asked for a pause.
        """
        at = self._clock()
        if at < self._opens:
            raise Busy(
                f"{self._host} has asked for a pause until {self._opens:%Y-%m-%dT%H:%M:%SZ}", self._opens
            )
        gained = (at - self._counted).total_seconds() * self._per_second
        self._tokens = min(self._burst, self._tokens + max(gained, 0.0))
        self._counted = at
        if self._tokens < 1:
            wait = timedelta(seconds=(1 - self._tokens) / self._per_second)
            raise Busy(f"the budget of requests to {self._host} is spent", at + wait)
        self._tokens -= 1

    def close(self, until: datetime) -> None:
        """Let nobody through before ``until``."""
        self._opens = max(self._opens, until)


@dataclass(frozen=True, slots=True)
class Answer:
    """The body and headers of an answer with status 200."""

    url: str
    body: bytes
    headers: Mapping[str, str]

    def header(self, *names: str) -> str:
        """Return the first of several headers that is there.

        :raises EndorsementError: when none is.
        """
        value = next((self.headers[name] for name in names if name in self.headers), None)
        if value is None:
            raise EndorsementError(f"{self.url}: the answer lacks the header {names[0]}")
        return value


def new_client(*, timeout_seconds: float = 15.0, tls: ssl.SSLContext | None = None) -> httpx2.AsyncClient:
    """Return a client with what :func:`get` relies on: TLS verified (by ``tls``, or the system's roots), no redirects."""
    return httpx2.AsyncClient(
        verify=tls if tls is not None else True,
        follow_redirects=False,
        timeout=timeout_seconds,
        # A compressed answer could grow without bound while it is unpacked.
        headers={"Accept-Encoding": "identity", "User-Agent": "eaa-endorser"},
    )


async def get(
    client: httpx2.AsyncClient,
    url: str,
    query: Mapping[str, str],
    gate: Gate | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Ask for ``url``; ``headers`` go with the request and into no message.

    :raises NotFound: when the service has nothing there.
    :raises Busy: when it says when to come again, or ``gate`` does.
    :raises UnavailableError: when it cannot be reached in time, or says that it is broken.
    :raises EndorsementError: when the answer is a redirect, compressed, too large, or a refusal.
    """
    return await _ask(client, client.build_request("GET", url, params=query, headers=headers), url, gate)


async def post(
    client: httpx2.AsyncClient,
    url: str,
    body: object,
    gate: Gate | None = None,
    *,
    headers: Mapping[str, str] | None = None,
) -> Answer:
    """Send ``body`` to ``url`` as JSON; everything else is as with :func:`get`.

    :raises NotFound: when the service has nothing there.
    :raises Busy: when it says when to come again, or ``gate`` does.
    :raises UnavailableError: when it cannot be reached in time, or says that it is broken.
    :raises EndorsementError: when the answer is a redirect, compressed, too large, or a refusal.
    """
    return await _ask(client, client.build_request("POST", url, json=body, headers=headers), url, gate)


async def _ask(client: httpx2.AsyncClient, request: httpx2.Request, url: str, gate: Gate | None) -> Answer:
    if gate is not None:
        gate.enter()
    try:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            _require_success(url, response, gate)
            if response.headers.get("content-encoding", "identity") != "identity":
                raise EndorsementError(f"{url}: the answer is compressed, which was not asked for")
            body = bytearray()
            async for piece in response.aiter_raw():
                body += piece
                if len(body) > MAX_FILE:
                    raise EndorsementError(f"{url}: the answer has more than {MAX_FILE} bytes")
        finally:
            await response.aclose()
    except (httpx2.HTTPError, httpx2.StreamError) as error:
        raise UnavailableError(
            f"{url} cannot be reached: {type(error).__name__}",
            hint="Check the address, the network and the certificate authority; then try again.",
        ) from error
    return Answer(url, bytes(body), response.headers)


def _require_success(url: str, response: httpx2.Response, gate: Gate | None) -> None:
    status = response.status_code
    if status == 200:
        return
    if status in {404, 410}:
        raise NotFound(
            f"{url} has nothing for this platform", hint="Check FMSPC, TEE and CA, or chip and TCB."
        )
    if status == 429 or status >= 500:
        at = gate.now() if gate is not None else datetime.now(UTC)
        until = _retry_at(response.headers.get("retry-after", ""), at)
        if until is None:
            raise UnavailableError(f"{url} answers {status}", hint="Try again later.")
        if gate is not None and status == 429:
            gate.close(until)
        raise Busy(f"{url} answers {status}", until, hint=f"Try again after {until:%Y-%m-%dT%H:%M:%SZ}.")
    if 300 <= status < 400:
        raise EndorsementError(f"{url} redirects, which is not followed", hint="Configure the final address.")
    if status in {401, 403}:
        raise EndorsementError(
            f"{url} answers {status}",
            hint="It wants an API key, or another one; `eaa endorser serve --help` says how Intel's is given.",
        )
    raise EndorsementError(
        f"{url} answers {status}", hint="Check that the address is that of the right service."
    )


def _retry_at(text: str, at: datetime) -> datetime | None:
    """Read ``Retry-After`` (RFC 9110, 10.2.3): seconds or a date; None when it says nothing that can be used."""
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return at + min(timedelta(seconds=int(text)), _LONGEST_WAIT)
    try:
        when = parsedate_to_datetime(text)
    except ValueError:
        return None
    if when.tzinfo is None:
        return None
    return min(max(when.astimezone(UTC), at), at + _LONGEST_WAIT)


def checked(url: str) -> str:
    """Return ``url`` if it may be asked: https, or http to this machine; no credentials, query or fragment.

    :raises ConfigurationError: otherwise.
    """
    try:
        parts = urlsplit(url)
        host, _ = httpx2.URL(url).host, parts.port
    except (ValueError, httpx2.InvalidURL) as error:
        raise ConfigurationError(f"{url!r} is not a URL") from error
    safe = parts.scheme == "https" or (parts.scheme == "http" and host in _LOOPBACK)
    if not host or not safe or parts.query or parts.fragment or "@" in parts.netloc:
        raise ConfigurationError(
            f"{url!r} is not the plain https URL of a service",
            hint="Give an https URL without credentials or query; http is for this machine only.",
        )
    return url
