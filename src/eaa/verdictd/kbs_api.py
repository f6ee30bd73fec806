# SPDX-License-Identifier: Apache-2.0
"""The KBS protocol 0.4.0 for guests: ``/kbs/v0/auth``, ``/kbs/v0/attest``, ``/kbs/v0/resource/<repo>/<type>/<tag>``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastapi import APIRouter, Request, Response
from starlette.responses import JSONResponse

from eaa import kbs
from eaa.rats import AccessDenied
from eaa.verdictd._http import read_body, request_id_of
from eaa.verdictd.attestation import Attestations
from eaa.verdictd.owner_state import OwnerState
from eaa.verdictd.release import Releases

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.verdictd.services import Services

__all__ = ["kbs_router"]


def kbs_router(services: Services) -> APIRouter:
    """Return the three routes of the protocol."""
    router = APIRouter(prefix="/kbs/v0")
    owner = OwnerState(services.database, services.sets)
    attestations, releases = Attestations(services, owner), Releases(services, owner)

    def answer(content: bytes, cookie: str, expires: datetime) -> Response:
        # The life in seconds and not the instant of the end: a guest's clock may be wrong, and is not to end its session.
        life = math.ceil((expires - services.clock()).total_seconds())
        return _with_cookie(Response(content, media_type="application/json"), cookie, life)

    @router.post("/auth")
    async def auth(request: Request) -> Response:
        message = kbs.Request.from_json(await read_body(request, kbs.MAX_REQUEST))
        message.require_version()
        challenge, cookie = attestations.challenge(message.tee)
        return answer(kbs.Challenge(nonce=challenge.nonce).to_json(), cookie, challenge.expires)

    @router.post("/attest")
    async def attest(request: Request) -> Response:
        cookie = request.cookies.get(kbs.SESSION_COOKIE)
        if cookie is None:
            raise AccessDenied(
                "there is no session cookie",
                check="session.cookie",
                hint=f"Send the cookie {kbs.SESSION_COOKIE} that /kbs/v0/auth set.",
            )
        body = await read_body(request, kbs.MAX_ATTESTATION)
        message = kbs.Attestation.from_json(body, limit=kbs.MAX_ATTESTATION)
        session = await attestations.attest(cookie, message, request_id=request_id_of(request))
        return answer(kbs.TokenResponse(token=session.token).to_json(), cookie, session.expires)

    @router.get("/resource/{path:path}")
    async def resource(path: str, request: Request) -> Response:
        released = await releases.release(
            path,
            cookie=request.cookies.get(kbs.SESSION_COOKIE),
            bearer=_bearer(request),
            query=dict(request.query_params),
        )
        return JSONResponse(released)

    return router


def _with_cookie(response: Response, cookie: str, life: int) -> Response:
    """Set the session cookie for ``life`` seconds."""
    response.set_cookie(
        kbs.SESSION_COOKIE,
        cookie,
        max_age=life,
        path="/kbs/v0",
        secure=True,
        httponly=True,
        samesite="strict",
    )
    return response


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" and token else None
