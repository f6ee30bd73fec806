# SPDX-License-Identifier: Apache-2.0
"""What every request goes through: an id, a deadline, a limit on its size, and an answer even when we are at fault."""

from __future__ import annotations

import asyncio
import secrets
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

import structlog
from pydantic import BaseModel, ValidationError
from starlette.responses import JSONResponse

from eaa._logging import describe_fault
from eaa.kbs import ErrorInformation, parse_json
from eaa.rats import InputError
from eaa.verdictd._logging import log
from eaa.verdictd._refusals import TooLarge

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from eaa.verdictd.metrics import Metrics

__all__ = ["RequestGuard", "json_body", "read_body", "request_id_of"]

REQUEST_DEADLINE: Final = 30.0
"""Seconds from a request's head to the end of its answer; a client that sends slower is cut off."""
MAX_ADMIN_BODY: Final = 2 << 20

_Body = TypeVar("_Body", bound=BaseModel)


class RequestGuard:
    """ASGI middleware, the outermost: no exception and no slow client gets past it."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics, deadline: float = REQUEST_DEADLINE) -> None:
        self._app = app
        self._metrics = metrics
        self._deadline = deadline

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = secrets.token_hex(12)
        scope.setdefault("state", {})["request_id"] = request_id
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        status = 0

        async def finish(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [
                    *message["headers"],
                    (b"x-request-id", request_id.encode()),
                    (b"cache-control", b"no-store"),
                    (b"x-content-type-options", b"nosniff"),
                ]
            await send(message)

        started = time.perf_counter()
        try:
            async with asyncio.timeout(self._deadline):
                await self._app(scope, receive, finish)
        except TimeoutError:
            if not status:
                await _fault(scope, request_id, 408, "the request took too long")(scope, receive, finish)
        except Exception as error:  # noqa: BLE001 - the boundary: unknown errors are logged without their text, never echoed
            log.error("request failed", **describe_fault(error))
            if not status:
                await _fault(scope, request_id, 500, "internal error")(scope, receive, finish)
        seconds = time.perf_counter() - started
        route = getattr(scope.get("route"), "path", "unknown")
        method = scope["method"] if scope["method"] in _METHODS else "other"
        self._metrics.answered(method, route, status, seconds)
        log.info("request", method=method, route=route, status=status, milliseconds=round(seconds * 1000, 2))


def request_id_of(request: Request) -> str:
    """Return the id that the answer carries as ``X-Request-Id``."""
    return str(request.state.request_id)


async def read_body(request: Request, limit: int) -> bytes:
    """Return the request's body.

    :raises TooLarge: as soon as more than ``limit`` bytes are announced or arrive.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdigit() and int(announced[:20]) > limit:
        raise _too_large(limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise _too_large(limit)
    return bytes(body)


def json_body(model: type[_Body], limit: int = MAX_ADMIN_BODY) -> Callable[[Request], Awaitable[_Body]]:
    """Return a dependency that reads the body as strict JSON of the given shape.

    The dependency raises :class:`~eaa.rats.InputError`, which names the member at fault and never its value.
    """

    async def read(request: Request) -> _Body:
        value = parse_json(await read_body(request, limit), limit)
        try:
            return model.model_validate(value)
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            where = ".".join(str(part) for part in first["loc"]) or "the body"
            raise InputError(f"{where}: {first['msg']}") from None

    # FastAPI reads annotations of dependencies at run time; the model is known here only.
    from starlette.requests import Request as RuntimeRequest  # noqa: PLC0415

    read.__annotations__ = {"request": RuntimeRequest, "return": model}
    return read


_METHODS: Final = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


def _fault(scope: Scope, request_id: str, status: int, message: str) -> JSONResponse:
    body: dict[str, Any]
    if scope["path"].startswith("/kbs/"):
        information = ErrorInformation.of("HTTPFailed", f"{message}; request {request_id}")
        body = information.model_dump() | {"request_id": request_id}
    else:
        code = "internal" if status == 500 else "request.timeout"
        body = {"error": {"code": code, "message": message, "request_id": request_id}}
    return JSONResponse(body, status, {"connection": "close"})


def _too_large(limit: int) -> TooLarge:
    return TooLarge(f"the request is larger than {limit} bytes", hint="Send less.")
