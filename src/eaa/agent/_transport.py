# SPDX-License-Identifier: Apache-2.0
"""HTTP to one key broker: bounded answers, one deadline per request, no redirects, no ambient proxy or cookies."""

from __future__ import annotations

import asyncio
import ssl
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from importlib.metadata import version
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

import httpx2

from eaa.kbs import MAX_RESPONSE, SESSION_COOKIE
from eaa.rats import ConfigurationError, ProtocolError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Answer", "Transport"]

TIMEOUT: Final = 60.0
"""Seconds for one request and its whole answer."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the broker answered; ``cookie`` is the session it set, if it did."""

    status: int
    body: bytes = field(repr=False)
    cookie: str | None = field(default=None, repr=False)


class Transport:
    """A connection pool to the broker at ``url``; close it, or use it as an async context.

    :raises ConfigurationError: on a URL that is not HTTPS (HTTP is for loopback only), or a CA file that cannot be used.
    """

    def __init__(self, url: str, ca_file: Path | None = None) -> None:
        self.url = _checked(url)
        self._http = httpx2.AsyncClient(
            verify=_tls(ca_file),
            timeout=TIMEOUT,
            trust_env=False,
            headers={
                "user-agent": f"eaa-attestation-agent/{version('eaa')}",
                "accept": "application/json",
                "accept-encoding": "identity",
            },
        )
        # A session belongs to one handshake and its key pair; a jar shared by concurrent requests would mix them up.
        self._http.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._http.aclose()

    async def send(
        self, method: str, path: str, *, body: bytes | None = None, cookie: str | None = None
    ) -> Answer:
        """Send one request to ``<url>/kbs/v0/<path>`` and read its answer.

        :raises UnavailableError: when the broker does not answer, or not in time.
        :raises ProtocolError: when its answer is longer than 4 MiB.
        """
        headers = {"cookie": f"{SESSION_COOKIE}={cookie}"} if cookie is not None else {}
        if body is not None:
            headers["content-type"] = "application/json"
        request = self._http.build_request(method, f"{self.url}/kbs/v0/{path}", content=body, headers=headers)
        try:
            async with asyncio.timeout(TIMEOUT):
                response = await self._http.send(request, stream=True)
                try:
                    return Answer(
                        response.status_code, await _read(response), response.cookies.get(SESSION_COOKIE)
                    )
                finally:
                    await response.aclose()
        except (httpx2.HTTPError, TimeoutError) as error:
            raise UnavailableError(
                f"the key broker at {self.url} does not answer: {_reason(error)}",
                hint="Check that it runs, that kbs_url names it, and that kbs_ca_file holds the CA of its certificate.",
            ) from None


async def _read(response: httpx2.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > MAX_RESPONSE:
            raise ProtocolError(f"the key broker's answer is longer than {MAX_RESPONSE} bytes")
    return bytes(body)


def _reason(error: Exception) -> str:
    """Return the transport's own words, such as the TLS alert; they hold nothing secret."""
    return str(error)[:200] or type(error).__name__


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if (
        parts.scheme not in {"https", "http"}
        or not parts.hostname
        or parts.query
        or parts.fragment
        or parts.username
    ):
        raise ConfigurationError("kbs_url is not an HTTPS URL", hint="Write it as https://host:port.")
    if parts.scheme == "http" and not _is_loopback(parts.hostname):
        raise ConfigurationError(
            "kbs_url is plain HTTP to another machine, where anyone on the way could answer in the broker's place",
            hint="Use https and give the broker's CA in kbs_ca_file.",
        )
    return url.rstrip("/")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _tls(ca_file: Path | None) -> ssl.SSLContext:
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError):
        raise ConfigurationError(
            f"kbs_ca_file {str(ca_file)!r} cannot be read as PEM certificates",
            hint="Give the CA file that the broker wrote.",
        ) from None
