# SPDX-License-Identifier: Apache-2.0
"""What a PCCS does for machines that make quotes: PCK certificates by platform, and the registration of platforms.

Paths, parameters, headers and tokens as Intel's caching service has them. Anybody may ask for a certificate; only who has a token
may make the Endorser keep them for a platform, as that makes it ask Intel.
"""

from __future__ import annotations

import hmac
import json
import re
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from eaa.endorser import leases, pck_store
from eaa.endorser.client_tool import MAX_TOOL_FILE
from eaa.endorser.pck import PckCertificate, PckPlatform, RawTcb, select_certificate
from eaa.endorser.pck_import import import_tool_file
from eaa.rats import EaaError, InputError
from eaa.tee.dcap.collateral import parse_tcb_info, read_tcb_info

if TYPE_CHECKING:
    from sqlalchemy import Connection
    from starlette.requests import Request

    from eaa.endorser.store import Store
    from eaa.tee.dcap.collateral import TcbInfo

__all__ = ["Tokens", "pck_routes"]

MAX_REGISTRATION: Final = 256 * 1024
_QE_ID: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){1,130}")
_ENCRYPTED_PPID: Final = re.compile(r"(?:[0-9A-Fa-f]{768})?")
_PCE_ID: Final = re.compile(r"[0-9A-Fa-f]{4}")
_INVALID: Final = (400, "Invalid request parameters.")
_NO_DATA: Final = (404, "No cache data for this platform.")
_UNAUTHORIZED: Final = (401, "Authentication failed. Give the token that the Endorser was started with.")


@dataclass(frozen=True, slots=True)
class Tokens:
    """The digests of the two tokens of a PCCS: the user's registers platforms, the administrator's may import, too."""

    user: bytes = field(default=b"", repr=False)
    admin: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, user: str = "", admin: str = "") -> Tokens:
        """Take the tokens themselves; an empty one opens nothing."""
        return cls(*(sha256(each.encode()).digest() if each else b"" for each in (user, admin)))

    def user_may(self, request: Request) -> bool:
        """Whether the request comes from somebody who may register platforms."""
        return _matches(request.headers.get("user-token", ""), self.user) or self.admin_may(request)

    def admin_may(self, request: Request) -> bool:
        """Whether the request comes from an administrator."""
        return _matches(request.headers.get("admin-token", ""), self.admin)


def _matches(given: str, digest: bytes) -> bool:
    return bool(digest) and hmac.compare_digest(sha256(given.encode()).digest(), digest)


def pck_routes(store: Store, root: str, tokens: Tokens) -> list[Route]:
    """Return the routes for platforms of the chip maker whose root has the id ``root``."""

    async def certificate(request: Request) -> Response:
        query = request.query_params
        qe_id, pce_id = query.get("qeid", ""), query.get("pceid", "")
        try:
            raw = RawTcb.of(query.get("cpusvn", ""), query.get("pcesvn", ""))
        except InputError:
            return _refusal(_INVALID)
        sound = _QE_ID.fullmatch(qe_id) and _PCE_ID.fullmatch(pce_id)
        if not sound or not _ENCRYPTED_PPID.fullmatch(query.get("encrypted_ppid", "")):
            return _refusal(_INVALID)
        read = store.connections.read
        held = await read(pck_store.certificates, qe_id.lower(), pce_id.lower())
        ours = [each for each in held if each.root == root]
        info = _tcb_info(store, root, ours[0].fmspc) if ours else None
        found = select_certificate(ours, raw, info)
        return _refusal(_NO_DATA) if found is None else _certificate(found)

    async def register(request: Request) -> Response:
        if not tokens.user_may(request):
            return _refusal(_UNAUTHORIZED)
        try:
            platform = PckPlatform.from_json(json.loads(await _body(request, MAX_REGISTRATION)), root)
            await store.connections.write(_register, platform, store)
        except (ValueError, RecursionError):
            return _refusal(_INVALID)
        except InputError as error:
            return _refused(error)
        return PlainTextResponse("Operation successful.")

    async def platforms(request: Request) -> Response:
        if not tokens.admin_may(request):
            return _refusal(_UNAUTHORIZED)
        known = await store.connections.read(pck_store.registered)
        return JSONResponse([each.to_json() for each in known])

    async def collateral(request: Request) -> Response:
        if not tokens.admin_may(request):
            return _refusal(_UNAUTHORIZED)
        try:
            data = await _body(request, MAX_TOOL_FILE)
            imported = await import_tool_file(store, data, root, source="platformcollateral")
        except EaaError as error:
            return _refused(error)
        return JSONResponse({"refused": imported.refused}, status_code=400 if imported.refused else 200)

    routes = []
    for version in ("v3", "v4"):
        base = f"/sgx/certification/{version}"
        routes += [
            Route(f"{base}/pckcert", certificate),
            Route(f"{base}/platforms", register, methods=["POST", "PUT"]),
            Route(f"{base}/platforms", platforms),
            Route(f"{base}/platformcollateral", collateral, methods=["PUT"]),
        ]
    return routes


def _register(connection: Connection, platform: PckPlatform, store: Store) -> None:
    at = store.clock()
    if pck_store.register(connection, platform, at):
        leases.hasten(connection, platform.need.name, at)


def _tcb_info(store: Store, root: str, fmspc: str) -> TcbInfo | None:
    held = store.snapshot().stored.get(f"tcb_info/{root}/sgx/{fmspc}")
    return parse_tcb_info(read_tcb_info(held.endorsement.content)) if held is not None else None


def _certificate(found: PckCertificate) -> Response:
    headers = {
        "SGX-TCBm": found.tcbm.upper(),
        "SGX-FMSPC": found.fmspc.upper(),
        "SGX-PCK-Certificate-CA-Type": found.ca,
        "SGX-PCK-Certificate-Issuer-Chain": quote(found.issuer_chain, safe=""),
        "Cache-Control": "no-cache",
    }
    return Response(found.certificate, headers=headers, media_type="application/x-pem-file")


async def _body(request: Request, limit: int) -> bytes:
    """Read a body of at most ``limit`` bytes.

    :raises InputError: when it has more.
    """
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > limit:
            raise InputError(f"the request has more than {limit} bytes")
    return bytes(body)


def _refusal(status: tuple[int, str]) -> Response:
    return PlainTextResponse(status[1], status_code=status[0])


def _refused(error: EaaError) -> Response:
    return PlainTextResponse(f"{error} {error.hint}".strip(), status_code=error.http_status)
