# SPDX-License-Identifier: Apache-2.0
"""The agent's REST API for the guest's own processes, as the Confidential Containers' ``api-server-rest`` has it.

It listens on loopback and answers loopback peers only. Whoever can reach it speaks for the whole guest: every process here is
inside the one boundary that the hardware measures.
"""

from __future__ import annotations

import json
from base64 import b64decode
from binascii import Error
from importlib.metadata import version
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final

import structlog
from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from eaa.agent._explain import explain
from eaa.kbs.report_data import REPORT_DATA_SIZE
from eaa.rats import EaaError

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.types import ASGIApp, Receive, Scope, Send

    from eaa.agent.attester import Attester
    from eaa.agent.client import KbsClient

__all__ = ["FEATURES", "build_rest"]

FEATURES: Final = ("resource", "attestation", "all")
_OCTETS: Final = "application/octet-stream"
_BAD_REQUEST: Final = "BAD REQUEST"
_TO_STANDARD: Final = str.maketrans("-_ ", "+/+")

_log: Final = structlog.get_logger("eaa.agent.rest")


class _Api:
    """The endpoints, over one broker and one attester."""

    def __init__(self, kbs: KbsClient, attester: Attester, feature: str) -> None:
        self._kbs = kbs
        self._attester = attester
        self._feature = feature

    async def resource(self, request: Request) -> Response:
        """``GET /cdh/resource/<repository>/<type>/<tag>``: the resource's bytes."""
        if self._feature == "attestation":
            return PlainTextResponse("Resource Feature Not Enabled", 404)
        parts = request.path_params
        return Response(
            await self._kbs.get_resource(f"{parts['r']}/{parts['t']}/{parts['g']}"), media_type=_OCTETS
        )

    async def token(self, request: Request) -> Response:
        """``GET /aa/token?token_type=kbs``: the token, and the private key that its holder needs to open what it fetches."""
        if self._feature == "resource":
            return PlainTextResponse("Attestation Feature Not Enabled", 404)
        if request.query_params.get("token_type") != "kbs":
            return PlainTextResponse(_BAD_REQUEST, 400)
        passport = await self._kbs.get_passport()
        answer = {"token": passport.token, "tee_keypair": passport.key.private_pem()}
        return Response(json.dumps(answer), media_type=_OCTETS)

    async def evidence(self, request: Request) -> Response:
        """``GET /aa/evidence?runtime_data=…[&encoding=base64]``: evidence over the caller's bytes.

        Up to 64 bytes become the report data as they are, then zeros, because verifiers of this API expect that. A broker must
        therefore not take report data alone as the agent's word: the key in it is whoever's asked. The agent offers
        this only where its configuration says so: ``rest_feature`` ``attestation`` or ``all``.
        """
        if self._feature == "resource":
            return PlainTextResponse("Attestation Feature Not Enabled", 404)
        data = _runtime_data(request)
        if data is None:
            return PlainTextResponse(_BAD_REQUEST, 400)
        evidence = await self._attester.collect(data.ljust(REPORT_DATA_SIZE, b"\0"))
        return Response(json.dumps(evidence), media_type=_OCTETS)

    async def info(self, _: Request) -> Response:
        """``GET /info``: what this agent is."""
        return JSONResponse(
            {
                "version": version("eaa"),
                "tee": self._attester.tee,
                "additional_tees": [],
                "feature": self._feature,
            }
        )


class _LoopbackOnly:
    """Refuse every peer that is not on this machine, whatever the listener is bound to."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        peer = scope.get("client")
        if scope["type"] == "http" and not (peer and _is_loopback(peer[0])):
            await PlainTextResponse("Forbidden", 403)(scope, receive, send)
            return
        await self._app(scope, receive, send)


def build_rest(kbs: KbsClient, attester: Attester, *, feature: str = "resource") -> ASGIApp:
    """Return the ASGI app; ``feature`` is ``resource``, ``attestation`` or ``all``."""
    api = _Api(kbs, attester, feature)
    app = Starlette(
        routes=[
            Route("/cdh/resource/{r}/{t}/{g}", api.resource),
            Route("/aa/token", api.token),
            Route("/aa/evidence", api.evidence),
            Route("/info", api.info),
        ],
        exception_handlers={404: _not_found, EaaError: _failed},
    )
    return _LoopbackOnly(app)


def _runtime_data(request: Request) -> bytes | None:
    """Return the caller's bytes, or None when they are missing, too many, or not in the encoding it names."""
    text = request.query_params.get("runtime_data")
    encoding = request.query_params.get("encoding")
    if text is None or encoding not in {None, "base64"}:
        return None
    if encoding is None:
        data = text.encode(errors="replace")
    else:
        unpadded = text.translate(_TO_STANDARD).rstrip("=")
        try:
            data = b64decode(unpadded + "=" * (-len(unpadded) % 4), validate=True)
        except (Error, ValueError):
            return None
    return data if len(data) <= REPORT_DATA_SIZE else None


async def _not_found(_: Request, __: Exception) -> Response:
    return PlainTextResponse("URL NOT FOUND", 404)


async def _failed(_: Request, error: Exception) -> Response:
    """Answer 500 with the explanation: this API has no other status for what its backend says."""
    assert isinstance(error, EaaError)
    _log.info("request failed", error=error.code)
    return PlainTextResponse(explain(error), 500)


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host.partition("%")[0]).is_loopback
    except ValueError:
        return False
