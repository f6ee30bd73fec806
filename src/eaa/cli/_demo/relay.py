# SPDX-License-Identifier: Apache-2.0
"""The untrusted host between guest and Verdictd: it carries the guest's messages, and keeps a copy of each.

The guest speaks plain HTTP to it, so that it sees everything there is to see. Attestation must hold against whoever it is.
"""

from __future__ import annotations

import ssl
import threading
from dataclasses import dataclass, field
from http.cookiejar import DefaultCookiePolicy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self

import httpx2

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["RecordedRequest", "Relay"]

_CARRIED: Final = ("content-type", "cookie", "set-cookie", "www-authenticate")
_TIMEOUT: Final = 30.0


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """One request as the guest sent it, and what was answered."""

    method: str
    path: str
    headers: dict[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    status: int = 0
    answer: bytes = field(default=b"", repr=False)


class Relay:
    """A relay on loopback to the Verdictd at ``url``; leaving the block ends it."""

    def __init__(self, url: str, ca_file: Path) -> None:
        context = ssl.create_default_context(cafile=ca_file)
        self._client = httpx2.Client(base_url=url, verify=context, timeout=_TIMEOUT, trust_env=False)
        # Cookies are the guests': they are carried, never kept and sent for somebody else.
        self._client.cookies.jar.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05})
        self.recorded: list[RecordedRequest] = []

    @property
    def url(self) -> str:
        """Where guests reach it."""
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *failure: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
        self._client.close()

    def carry(self, method: str, path: str, headers: dict[str, str], body: bytes) -> httpx2.Response:
        """Send a guest's request on, and record it with its answer."""
        answer = self._client.request(method, path, headers=headers, content=body)
        self.recorded.append(RecordedRequest(method, path, headers, body, answer.status_code, answer.content))
        return answer

    def last(self, path: str) -> RecordedRequest:
        """Return the newest accepted request to a path that ends so."""
        return next(
            each for each in reversed(self.recorded) if each.path.endswith(path) and each.status == 200
        )

    def replay(self, request: RecordedRequest) -> httpx2.Response:
        """Send a recorded request once more, byte for byte and with its cookie."""
        return self.carry(request.method, request.path, request.headers, request.body)


def _handler(relay: Relay) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _carry(self) -> None:
            body = self.rfile.read(int(self.headers.get("content-length", "0")))
            headers = {name: value for name in _CARRIED if (value := self.headers.get(name)) is not None}
            answer = relay.carry(self.command, self.path, headers, body)
            self.send_response(answer.status_code)
            for name, value in answer.headers.multi_items():
                if name in _CARRIED:
                    self.send_header(name, value)
            self.send_header("content-length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_GET = do_POST = _carry  # noqa: N815 - the names that http.server calls

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's signature
            """Keep quiet."""

    return Handler
