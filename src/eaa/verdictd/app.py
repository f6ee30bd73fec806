# SPDX-License-Identifier: Apache-2.0
"""The HTTP application: which route leads where, who may use it, and how errors leave."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import APIRouter, Depends, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse

from eaa.rats import EaaError, InputError, NotFound
from eaa.verdictd._http import RequestGuard, request_id_of
from eaa.verdictd._logging import log
from eaa.verdictd._refusals import eaa_refusal, kbs_refusal
from eaa.verdictd.admin_api import admin_router
from eaa.verdictd.kbs_api import kbs_router
from eaa.verdictd.metrics import CONTENT_TYPE_LATEST
from eaa.verdictd.owner_api import owner_router
from eaa.verdictd.reference_sets_api import reference_sets_router

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eaa.verdictd.services import Services

__all__ = ["PUBLIC_ROUTES", "create_app"]

PUBLIC_ROUTES: Final = frozenset(
    {
        ("POST", "/kbs/v0/auth"),
        ("POST", "/kbs/v0/attest"),
        ("GET", "/kbs/v0/resource/{path:path}"),
        ("GET", "/.well-known/jwks.json"),
        ("GET", "/healthz"),
        ("GET", "/metrics"),
    }
)
"""Every route that needs no administrator; the first three have the protocol's own proof of who asks."""

_HANDSHAKE: Final = ("/kbs/v0/auth", "/kbs/v0/attest")
_PLUGINS: Final = frozenset(
    {"auth", "attest", "resource", "attestation-policy", "resource-policy", "reference-value"}
)


class MethodNotAllowed(InputError):
    """The path exists, with other methods."""

    code = "request.method"
    http_status = 405


def create_app(services: Services, *, guests: bool = True, administration: bool = True) -> FastAPI:
    """Return the application that serves ``services`` to guests, to administrators, or to both.

    An application for one of them answers 404 for whatever is the other's, also where only the method is. Nothing is global: two
    applications in one process do not meet.
    """
    app = FastAPI(title="Verdictd", openapi_url=None, docs_url=None, redoc_url=None, redirect_slashes=False)
    administrator = [Depends(_administrator_of(services))]
    if guests:
        app.include_router(kbs_router(services))
    if administration:
        app.include_router(admin_router(services), dependencies=administrator)
        app.include_router(owner_router(services), dependencies=administrator)
        if services.sets is not None:
            app.include_router(reference_sets_router(services, services.sets), dependencies=administrator)
    app.include_router(_public(services))
    app.state.tells_methods = guests and administration
    app.add_exception_handler(EaaError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _unrouted)
    app.add_exception_handler(ClientDisconnect, _gone)
    app.add_middleware(RequestGuard, metrics=services.metrics)
    return app


def _administrator_of(services: Services) -> Callable[[Request], Awaitable[None]]:
    async def administrator(request: Request) -> None:
        token = request.headers.get("authorization")
        request.state.administrator = services.administrators.authorize(token, at=services.clock())

    administrator.__annotations__ = {"request": Request, "return": None}
    return administrator


def _public(services: Services) -> APIRouter:
    router = APIRouter()

    @router.get("/.well-known/jwks.json")
    async def jwks() -> JSONResponse:
        return JSONResponse(services.tokens.jwks())

    @router.get("/healthz")
    async def healthz() -> Response:
        await services.database.state_version()
        return Response(media_type="text/plain")

    @router.get("/metrics")
    async def metrics() -> Response:
        if services.sets is not None:
            services.metrics.follows(await services.sets.sources())
        return Response(services.metrics.exposition(), media_type=CONTENT_TYPE_LATEST)

    return router


async def _refused(request: Request, error: Exception) -> Response:
    assert isinstance(error, EaaError)
    path, request_id = request.url.path, request_id_of(request)
    log.info("refused", code=error.code, reason=str(error), check=getattr(error, "check", ""))
    if not path.startswith("/kbs/"):
        return eaa_refusal(error, request_id)
    handshake = path in _HANDSHAKE
    guest = handshake or (request.method == "GET" and path.startswith("/kbs/v0/resource/"))
    variant = "AttestationError" if handshake else "HTTPFailed"
    if path.startswith("/kbs/v0/reference-value"):
        variant = "RvpsError"
    return kbs_refusal(error, request_id, variant=variant, guest=guest)


async def _invalid(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    where = ".".join(str(part) for part in error.errors()[0]["loc"])
    return await _refused(request, InputError(f"{where}: {error.errors()[0]['msg']}"))


async def _unrouted(request: Request, error: Exception) -> Response:
    """Answer what the router itself refuses: unknown paths, and methods that a path does not know."""
    assert isinstance(error, HTTPException)
    path, request_id = request.url.path, request_id_of(request)
    refused: EaaError = NotFound("there is nothing at this path")
    methods = error.status_code == 405 and request.app.state.tells_methods
    if methods:
        refused = MethodNotAllowed(f"{request.method} is not possible here")
    elif error.status_code not in {404, 405}:
        refused = InputError("the request cannot be understood")
    if not path.startswith("/kbs/"):
        response = eaa_refusal(refused, request_id)
    else:
        plugin = path.removeprefix("/kbs/v0/").partition("/")[0]
        known = path.startswith("/kbs/v0/") and plugin in _PLUGINS
        variant = "InvalidRequestPath" if known or not plugin else "PluginNotFound"
        response = kbs_refusal(refused, request_id, variant=variant, guest=False)
    for name, value in ((error.headers or {}) if methods else {}).items():
        response.headers[name] = value
    return response


async def _gone(request: Request, error: Exception) -> Response:
    """Nobody is there to read the answer."""
    del request, error
    return Response(status_code=400)
