# SPDX-License-Identifier: Apache-2.0
"""A small key broker that speaks the protocol, a guest to ask it, and switches for what may go wrong."""

from __future__ import annotations

import asyncio
import json
import secrets
from base64 import b64encode
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.responses import Response
from starlette.routing import Route

from eaa.agent.client import KbsClient
from eaa.kbs import (
    SESSION_COOKIE,
    Attestation,
    Challenge,
    ErrorInformation,
    InitData,
    Request,
    TeePubKey,
    TokenResponse,
    encrypt,
    report_data,
)

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from starlette.requests import Request as HttpRequest


def jwt(expires: float | None) -> str:
    """A token that nobody verifies here."""
    parts = ({"alg": "ES256"}, {"exp": expires} if expires is not None else {})
    return ".".join([*(b64encode(json.dumps(part).encode()).decode().rstrip("=") for part in parts), "c2ln"])


@dataclass
class FakeAttester:
    """Evidence that says what it was asked to bind."""

    tee: str = "tdx"
    collected: list[bytes] = field(default_factory=list)
    fault: Exception | None = None

    async def collect(self, report_data: bytes) -> dict[str, Any]:
        if self.fault is not None:
            raise self.fault
        self.collected.append(report_data)
        return {"quote": report_data.hex()}


@dataclass
class FakeKbs:
    """The broker. Tests change its fields; ``answers`` replace what it would say, each once, path by path."""

    url: str = ""
    resources: dict[str, bytes] = field(default_factory=dict)
    answers: dict[str, list[Response]] = field(default_factory=dict)
    sessions: dict[str, TeePubKey | None] = field(default_factory=dict)
    keys_seen: list[TeePubKey] = field(default_factory=list)
    init_data_seen: list[InitData | None] = field(default_factory=list)
    calls: list[str] = field(default_factory=list)
    extra_params: Any = ""
    hash_algorithm: str = "sha384"
    token_expires: float | None = 2_000_000_000.0
    delay: float = 0.0

    def app(self) -> Starlette:
        prefix = "/kbs/v0"
        return Starlette(
            routes=[
                Route(f"{prefix}/auth", self._auth, methods=["POST"]),
                Route(f"{prefix}/attest", self._attest, methods=["POST"]),
                Route(f"{prefix}/resource/{{path:path}}", self._resource),
            ]
        )

    def answer(self, call: str, status: int, body: bytes | str = b"") -> None:
        """Answer the next ``call`` (``auth``, ``attest`` or ``resource``) like this."""
        self.answers.setdefault(call, []).append(Response(body, status))

    def refuse(self, call: str, detail: str, *, variant: str = "PolicyDeny", status: int = 401) -> None:
        self.answer(call, status, ErrorInformation.of(variant, detail).to_json())

    async def _prepared(self, call: str) -> Response | None:
        self.calls.append(call)
        await asyncio.sleep(self.delay)
        waiting = self.answers.get(call)
        return waiting.pop(0) if waiting else None

    async def _auth(self, http: HttpRequest) -> Response:
        if prepared := await self._prepared("auth"):
            return prepared
        Request.from_json(await http.body()).require_version()
        session = secrets.token_hex(16)
        self.sessions[session] = None
        nonce = b64encode(session.encode()).decode()
        response = Response(Challenge(nonce=nonce, extra_params=self.extra_params).to_json())
        response.set_cookie(SESSION_COOKIE, session, path=None)
        return response

    async def _attest(self, http: HttpRequest) -> Response:
        if prepared := await self._prepared("attest"):
            return prepared
        session = http.cookies[SESSION_COOKIE]
        message = Attestation.from_json(await http.body())
        runtime = message.runtime_data
        expected = report_data(runtime.nonce, runtime.tee_pubkey, algorithm=self.hash_algorithm)
        assert runtime.nonce == b64encode(session.encode()).decode()
        assert message.tee_evidence.primary_evidence == {"quote": expected.hex()}
        self.sessions[session] = runtime.tee_pubkey
        self.keys_seen.append(runtime.tee_pubkey)
        self.init_data_seen.append(message.init_data)
        return Response(TokenResponse(token=jwt(self.token_expires)).to_json())

    async def _resource(self, http: HttpRequest) -> Response:
        if prepared := await self._prepared("resource"):
            return prepared
        key = self.sessions.get(http.cookies.get(SESSION_COOKIE, ""))
        path = http.path_params["path"]
        if key is None:
            return Response(ErrorInformation.of("TokenNotFound", "no session").to_json(), 401)
        if path not in self.resources:
            return Response(ErrorInformation.of("InvalidRequestPath", "no such resource").to_json(), 404)
        return Response(json.dumps(encrypt(self.resources[path], key)))


@asynccontextmanager
async def served(app: Any, **options: Any) -> AsyncIterator[int]:
    """Serve ``app`` on a port of loopback for as long as the block runs."""
    config = uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, lifespan="off", **options)
    server = uvicorn.Server(config)
    config.load()
    server.lifespan = config.lifespan_class(config)
    # Without the server's main loop and shutdown, which look every tenth of a second whether they are done.
    await server.startup()
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.servers[0].close()
        for connection in list(server.server_state.connections):
            connection.transport.abort()
        await asyncio.sleep(0)


@pytest.fixture
def attester() -> FakeAttester:
    return FakeAttester()


@pytest.fixture
def serve() -> Any:
    return served


@pytest.fixture
async def kbs(anyio_backend: str) -> AsyncIterator[FakeKbs]:
    broker = FakeKbs(resources={"default/key/1": bytes(range(32))})
    async with served(broker.app()) as port:
        broker.url = f"http://127.0.0.1:{port}"
        yield broker


@pytest.fixture
async def client(kbs: FakeKbs, attester: FakeAttester) -> AsyncIterator[KbsClient]:
    async with KbsClient(kbs.url, attester) as made:
        yield made


@pytest.fixture(autouse=True)
def quiet_logs() -> Iterator[list[Any]]:
    """Collect what is logged; a test may look for what must not be in it."""
    import structlog

    with structlog.testing.capture_logs() as logs:
        yield logs
