# SPDX-License-Identifier: Apache-2.0
"""The chip makers' own services over HTTP: Intel's PCS and AMD's KDS, with the troubles that a timeline declares.

The time comes from a clock that is handed in; each answer is determined by the chip maker, the timeline, that time and, for
budgets and request ids, by the requests before.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Final

import httpx2
from starlette.applications import Starlette
from starlette.datastructures import QueryParams
from starlette.responses import Response
from starlette.routing import Route

from eaa.simulator.kds import KeyDistribution, kds_answers
from eaa.simulator.pcs_answers import POSTED, pcs_answers
from eaa.simulator.publication import Publication
from eaa.simulator.timeline import Timeline
from eaa.simulator.vendor_call import Call, Refused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

    from eaa.simulator.amd import AmdChipMaker
    from eaa.simulator.timeline import Trouble
    from eaa.simulator.vendor import ChipMaker
    from eaa.simulator.vendor_call import Answer

    Clock = Callable[[], datetime]
    Sleep = Callable[[float], Awaitable[None]]

__all__ = ["VendorService", "VendorTransport"]

_PORTAL: Final = b"<!doctype html><title>Sign in</title><p>Sign in to use this network.</p>\n"


class VendorService:
    """An ASGI application that answers as the chip makers' services do, at the time that ``clock`` tells.

    Without ``amd``, KDS knows nothing. ``sleep`` is what slow answers wait with.
    """

    def __init__(
        self,
        maker: ChipMaker,
        timeline: Timeline | None = None,
        clock: Clock = lambda: datetime.now(UTC),
        *,
        amd: AmdChipMaker | None = None,
        sleep: Sleep = asyncio.sleep,
    ) -> None:
        self._timeline = timeline or Timeline()
        self._publication = Publication(maker, self._timeline)
        self._kds = None if amd is None else KeyDistribution(amd, self._timeline)
        self._clock = clock
        self._sleep = sleep
        self._count = 0
        self._spent: dict[Trouble, deque[datetime]] = {}
        answers = pcs_answers(self._timeline.publishing.subscription_key) | kds_answers()
        self._app = Starlette(
            routes=[
                Route(
                    path,
                    self._endpoint(answer),
                    methods=["GET", *(["POST"] if POSTED.fullmatch(path) else [])],
                )
                for path, answer in answers.items()
            ]
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        await self._app(scope, receive, send)

    def refuses(self, path: str = "/") -> bool:
        """Tell whether nobody answers requests for ``path`` now; who accepts connections has to ask."""
        return any(each.kind == "refused" for each in self._troubles(self._clock(), path))

    def _endpoint(self, answer: Answer) -> Callable[[Request], Awaitable[Response]]:
        async def respond(request: Request) -> Response:
            at, path = self._clock().astimezone(UTC), request.url.path
            self._count += 1
            troubles: dict[str, Trouble] = {each.kind: each for each in self._troubles(at, path)}
            if "refused" in troubles:
                raise ConnectionRefusedError(f"{path} is not to be reached at {at.isoformat()}")
            if "slow" in troubles:
                await self._sleep(troubles["slow"].seconds)
            response = self._refusal(troubles, at)
            if response is None:
                # In a thread, as AMD's first answers wait for keys that take seconds to make.
                query = await _parameters(request)
                response = await asyncio.to_thread(self._answer, answer, request, query, troubles, at)
            # Intel's are random; these say which request of the service's life it was.
            response.headers["Request-ID"] = sha256(f"{self._count} {path}".encode()).hexdigest()[:32]
            return response

        return respond

    def _troubles(self, at: datetime, path: str) -> list[Trouble]:
        return [each for each in self._timeline.troubles if each.applies(at, path)]

    def _refusal(self, troubles: dict[str, Trouble], at: datetime) -> Response | None:
        if trouble := troubles.get("status"):
            return _empty(trouble.status, retry_after=trouble.retry_after)
        if trouble := troubles.get("budget"):
            window, spent = timedelta(seconds=trouble.seconds), self._spent.setdefault(trouble, deque())
            while spent and spent[0] <= at - window:
                spent.popleft()
            if len(spent) >= trouble.requests:
                wait = (spent[0] + window - at) if spent else window
                return _empty(429, retry_after=max(1, -(-wait // timedelta(seconds=1))))
            spent.append(at)
        return None

    def _answer(
        self,
        answer: Answer,
        request: Request,
        query: QueryParams,
        troubles: dict[str, Trouble],
        at: datetime,
    ) -> Response:
        if "not-json" in troubles:
            return Response(_PORTAL, media_type="text/html")
        if trouble := troubles.get("stalled"):
            at = trouble.begin.astimezone(UTC)
        if trouble := troubles.get("replayed"):
            at -= timedelta(days=trouble.days)
        genuine = Call(
            request.path_params,
            query,
            request.headers,
            at,
            self._publication,
            self._kds,
            "wrong-fmspc" in troubles,
        )
        try:
            response = answer(self._by_impostor(genuine) if "impostor" in troubles else genuine)
            if "mis-signed" in troubles:
                response.body = answer(self._by_impostor(genuine)).body
        except Refused as refusal:
            return _empty(refusal.status, code=refusal.code)
        if "no-chain" in troubles:
            for name in [name for name in response.headers if name.endswith("-issuer-chain")]:
                del response.headers[name]
        if "truncated" in troubles:
            response.body = response.body[: len(response.body) // 2]
        if trouble := troubles.get("oversize"):
            response.body = bytes(response.body).ljust(trouble.size, b" ")
        response.headers["Content-Length"] = str(len(response.body))
        return response

    def _by_impostor(self, call: Call) -> Call:
        kds = None if self._kds is None else self._kds.impostor
        return call._replace(publication=self._publication.impostor, kds=kds)


class VendorTransport(httpx2.AsyncBaseTransport):
    """Lets an HTTP client speak to a service in the same process, without sockets: of any host it asks for."""

    def __init__(self, service: VendorService) -> None:
        self._service = service
        self._asgi = httpx2.ASGITransport(service)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Answer as the service does, or not at all when it refuses connections.

        :raises httpx2.ConnectError: as a client over sockets would.
        """
        if self._service.refuses(request.url.path):
            raise httpx2.ConnectError("the simulated service refuses connections", request=request)
        return await self._asgi.handle_async_request(request)


async def _parameters(request: Request) -> QueryParams:
    """Return what is asked for: the query's parameters, or with POST the members of the JSON body; none if it is no such body."""
    if request.method != "POST":
        return request.query_params
    try:
        members = json.loads(await request.body())
        return QueryParams({str(name): str(value) for name, value in members.items()})
    except (ValueError, AttributeError, RecursionError):
        return QueryParams()


def _empty(status: int, *, retry_after: int | None = None, code: str = "") -> Response:
    headers = {} if retry_after is None else {"Retry-After": str(retry_after)}
    if code:
        headers["Error-Code"] = code
    return Response(status_code=status, headers=headers)
