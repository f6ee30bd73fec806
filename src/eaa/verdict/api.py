# SPDX-License-Identifier: Apache-2.0
"""Verdict as a service: the signed index and the sets for whoever subscribes, and the administration of sets for their owner.

What software somebody expects is theirs: reading needs the subscribers' token, changing the administrator's. There are no workloads on record
here, so that a change's effect is for each Verdictd to tell.
"""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from base64 import b64decode
from hmac import compare_digest
from typing import TYPE_CHECKING, Any, Final

from starlette.applications import Starlette
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from eaa._json import parse_json
from eaa.rats import AccessDenied, EaaError, InputError
from eaa.rim.corim import MEDIA_TYPE
from eaa.verdict.corim import is_corim
from eaa.verdict.envelope import MAX_ENVELOPE, seal

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request

    from eaa._keys import PrivateKey
    from eaa.verdict.service import ReferenceSets

__all__ = ["MAX_WAIT", "SignedIndex", "create_app"]

_log: Final = logging.getLogger("eaa.verdict")
MAX_WAIT: Final = 60.0
"""Seconds that an answer is put off for a subscriber who waits for a change."""
_LOOK: Final = 0.5
"""Seconds between two looks at the database: another process may have made the change."""
MAX_WAITERS: Final = 256
"""Subscribers whose answer is put off at one time; others are answered at once, and ask again."""
_MAX_BODY: Final = MAX_ENVELOPE + (4 << 20)
_MAX_TOKEN: Final = 4096
_DEADLINE: Final = 30.0


class SignedIndex:
    """The index, signed once per change."""

    def __init__(self, sets: ReferenceSets, key: PrivateKey) -> None:
        self._sets, self._key = sets, key
        self._sequence, self._signed = -1, b""
        self.waiting = 0

    async def newer_than(self, sequence: int | None, wait: float) -> tuple[int, bytes] | None:
        """Return the index with its number, or nothing if it is still number ``sequence`` after ``wait`` seconds."""
        current = await self._sets.state_version()
        if current == sequence and wait > 0 and self.waiting < MAX_WAITERS:
            self.waiting += 1
            try:
                current = await self._changed(current, min(wait, MAX_WAIT))
            finally:
                self.waiting -= 1
        if current == sequence:
            return None
        if self._sequence != current:
            index = await self._sets.index()
            self._signed = await asyncio.to_thread(seal, index.to_statement(), [self._key])
            self._sequence = index.sequence
        return self._sequence, self._signed

    async def _changed(self, sequence: int, wait: float) -> int:
        """Return the number once it is another than ``sequence``, or after ``wait`` seconds."""
        deadline = asyncio.get_running_loop().time() + wait
        while (current := await self._sets.state_version()) == sequence:
            left = deadline - asyncio.get_running_loop().time()
            if left <= 0:
                break
            await asyncio.sleep(min(_LOOK, left))
        return current


def create_app(
    sets: ReferenceSets,
    index: SignedIndex,
    *,
    reader_token: str,
    administrator: Callable[[str | None], str],
) -> Starlette:
    """Return the application. ``administrator`` returns who sent an ``Authorization`` header, or raises :class:`~eaa.rats.AccessDenied`."""

    def reader(request: Request) -> str:
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        usable = scheme.lower() == "bearer" and len(token) <= _MAX_TOKEN
        if usable and compare_digest(token.strip().encode(), reader_token.encode()):
            return "subscriber"
        return administrator(request.headers.get("authorization"))

    def owner(request: Request) -> str:
        return administrator(request.headers.get("authorization"))

    async def healthz(_: Request) -> Response:
        await sets.state_version()
        return Response(media_type="text/plain")

    return Starlette(
        routes=[
            Route("/healthz", healthz),
            *_distribution(sets, index, reader),
            *_administration(sets, reader, owner),
        ]
    )


def _distribution(sets: ReferenceSets, index: SignedIndex, reader: Callable[[Request], str]) -> list[Route]:
    """Return what subscribers ask for."""

    async def get_index(request: Request, _: str) -> Response:
        tag = request.headers.get("if-none-match", "").strip().removeprefix("W/").strip('"')
        known = int(tag) if tag.isascii() and tag.isdigit() and len(tag) < 20 else None
        found = await index.newer_than(known, _seconds(request.query_params.get("wait", "0")))
        if found is None:
            return Response(status_code=304, headers={"etag": f'"{known}"'})
        return Response(found[1], media_type="application/json", headers={"etag": f'"{found[0]}"'})

    async def get_set(request: Request, _: str) -> Response:
        digest = request.path_params["digest"]
        envelope = await sets.envelope(digest)
        kind = MEDIA_TYPE if is_corim(envelope) else "application/json"
        return Response(envelope, media_type=kind, headers={"etag": f'"{digest}"'})

    return [
        Route("/verdict/v1/index", _guarded(reader, get_index, deadline=MAX_WAIT + _DEADLINE)),
        Route("/verdict/v1/sets/{digest}", _guarded(reader, get_set)),
    ]


def _administration(
    sets: ReferenceSets, reader: Callable[[Request], str], owner: Callable[[Request], str]
) -> list[Route]:
    """Return what the command line asks for, as a Verdictd answers it."""

    async def listed(request: Request, _: str) -> Response:
        query = request.query_params
        found = await sets.listed(query.get("product"), query.get("state"))
        return JSONResponse({"reference_sets": found})

    async def explain(request: Request, _: str) -> Response:
        return JSONResponse({"reference_sets": await sets.explain(request.query_params.get("value", ""))})

    async def sources(_request: Request, _: str) -> Response:
        return JSONResponse({"sources": await sets.sources()})

    async def get(request: Request, _: str) -> Response:
        return JSONResponse(await sets.get(request.path_params["name"]))

    async def propose(request: Request, who: str) -> Response:
        body = await _body(request, {"envelope", "why", "provenance"})
        proposed = await sets.propose(
            _envelope(body.get("envelope")),
            who=who,
            why=_text(body, "why"),
            provenance=[_decoded(each) for each in body.get("provenance") or ()],
        )
        return JSONResponse(proposed, 201)

    async def change(request: Request, who: str) -> Response:
        body = await _body(request, {"why", "dry_run", "workloads"})
        name, action = request.path_params["name"], request.path_params["action"]
        effect: dict[str, Any] = {"looked_at": 0, "changes": []}
        if body.get("dry_run") is True:
            await sets.preview(name, action)
            return JSONResponse({"done": False, "set": await sets.get(name), **effect})
        changed = await sets.change(name, action, who=who, why=_text(body, "why"))
        return JSONResponse({"done": True, "set": changed, **effect})

    base = "/eaa/v0/reference-sets"
    return [
        Route(base, _guarded(reader, listed)),
        Route(base, _guarded(owner, propose), methods=["POST"]),
        Route(f"{base}/explain", _guarded(reader, explain)),
        Route(f"{base}/sources", _guarded(reader, sources)),
        Route(f"{base}/{{name:path}}/{{action}}", _guarded(owner, change), methods=["POST"]),
        Route(f"{base}/{{name:path}}", _guarded(reader, get)),
    ]


def _guarded(
    who: Callable[[Request], str],
    handler: Callable[[Request, str], Awaitable[Response]],
    *,
    deadline: float = _DEADLINE,
) -> Callable[[Request], Awaitable[Response]]:
    """Return the handler behind the question who asks, with a deadline; no exception gets past it."""

    async def answer(request: Request) -> Response:
        request_id = secrets.token_hex(12)
        try:
            async with asyncio.timeout(deadline):
                return await handler(request, who(request))
        except AccessDenied as error:
            status = 401 if error.check == "admin.token" else error.http_status
            return _refusal(error, status, request_id)
        except EaaError as error:
            return _refusal(error, error.http_status, request_id)
        except TimeoutError:
            return _refusal(InputError("the request took too long"), 408, request_id)
        except Exception as error:  # noqa: BLE001 - the boundary: unknown errors are logged without their text, never echoed
            _log.error("request %s failed: %s", request_id, type(error).__name__)
            return JSONResponse(
                {"error": {"code": "internal", "message": "internal error", "request_id": request_id}}, 500
            )

    return answer


def _refusal(error: EaaError, status: int, request_id: str) -> Response:
    told = {
        "code": error.code,
        "message": str(error),
        "hint": error.hint,
        "check": getattr(error, "check", ""),
        "request_id": request_id,
    }
    return JSONResponse({"error": {name: value for name, value in told.items() if value}}, status)


async def _body(request: Request, members: set[str]) -> dict[str, Any]:
    data = bytearray()
    async for chunk in request.stream():
        data += chunk
        if len(data) > _MAX_BODY:
            raise InputError(f"the request is larger than {_MAX_BODY} bytes")
    value = parse_json(bytes(data), _MAX_BODY)
    if not isinstance(value, dict) or value.keys() - members:
        raise InputError(f"the request is no JSON object of {', '.join(sorted(members))}")
    return value


def _text(body: dict[str, Any], name: str) -> str:
    value = body.get(name, "")
    if not isinstance(value, str):
        raise InputError(f"{name} is no text")
    return value


def _envelope(value: Any) -> bytes:
    """Return a signed set as it was sent: an envelope as an object, a CoRIM in base64."""
    if isinstance(value, dict):
        return json.dumps(value).encode()
    if not isinstance(value, str):
        raise InputError("envelope is neither an object nor the base64 of a signed CoRIM")
    return _decoded(value, "envelope")


def _decoded(text: Any, name: str = "a provenance") -> bytes:
    try:
        return b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise InputError(f"{name} is not base64") from None


def _seconds(text: str) -> float:
    if not (text.isascii() and text.isdigit() and len(text) < 4):
        raise InputError("wait is no number of seconds")
    return float(text)
