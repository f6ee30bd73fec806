# SPDX-License-Identifier: Apache-2.0
"""The Endorser as a service: the store, in the language of Intel's PCCS, so that existing clients of DCAP can use it.

Paths, headers and encodings as Intel's PCS API version 4 has them; ``rootcacrl`` (in hex) and the texts of errors as Intel's
caching service has them. An answer is what the store holds; nothing is fetched because somebody asks.
"""

from __future__ import annotations

import base64
import re
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from eaa.endorser.authenticity import anchor_id

if TYPE_CHECKING:
    from collections.abc import Callable

    from starlette.requests import Request

    from eaa.endorser.store import Snapshot, Store
    from eaa.rats import Endorsement, TrustAnchor

__all__ = ["create_app"]

_FMSPC: Final = re.compile(r"[0-9A-Fa-f]{12}")
_INVALID: Final = (400, "Invalid request parameters.")
_NO_DATA: Final = (404, "No cache data for this platform.")
_CHAIN_HEADERS: Final = {
    "tcb_info": "TCB-Info-Issuer-Chain",
    "qe_identity": "SGX-Enclave-Identity-Issuer-Chain",
    "pck_crl": "SGX-PCK-CRL-Issuer-Chain",
}


def create_app(store: Store, anchor: TrustAnchor) -> Starlette:
    """Return an ASGI application that serves what ``store`` holds below ``anchor``.

    One application speaks for one chip maker, since most requests do not say whose collateral they want.
    """
    root = anchor_id(anchor)

    def tcb_info(tee: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            fmspc = request.query_params.get("fmspc", "")
            if not _FMSPC.fullmatch(fmspc) or not _channel_is_valid(request):
                return _refusal(_INVALID)
            return _statement(request, store.snapshot(), ("tcb_info", root, f"{tee}/{fmspc.lower()}"))

        return answer

    def identity(enclave: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            if not _channel_is_valid(request):
                return _refusal(_INVALID)
            return _statement(request, store.snapshot(), ("qe_identity", root, enclave))

        return answer

    def pck_crl(request: Request) -> Response:
        ca = request.query_params.get("ca", "").lower()
        encoding = request.query_params.get("encoding", "pem").lower()
        if ca not in {"platform", "processor"} or encoding not in {"pem", "der"}:
            return _refusal(_INVALID)
        found = store.snapshot().find("pck_crl", root, ca)
        if found is None:
            return _refusal(_NO_DATA)
        if encoding == "der":
            return _respond(request, found, found.content, "application/pkix-crl")
        return _respond(request, found, _crl_pem(found.content), "application/x-pem-file")

    def root_crl(request: Request) -> Response:
        found = store.snapshot().find("root_ca_crl", root)
        if found is None:
            return _refusal(_NO_DATA)
        return _respond(request, found, found.content.hex().encode(), "application/pkix-crl")

    return Starlette(
        routes=[
            Route("/sgx/certification/v4/tcb", tcb_info("sgx")),
            Route("/tdx/certification/v4/tcb", tcb_info("tdx")),
            Route("/sgx/certification/v4/qe/identity", identity("QE")),
            Route("/tdx/certification/v4/qe/identity", identity("TD_QE")),
            Route("/sgx/certification/v4/qve/identity", identity("QVE")),
            Route("/sgx/certification/v4/pckcrl", pck_crl),
            Route("/sgx/certification/v4/rootcacrl", root_crl),
        ]
    )


def _channel_is_valid(request: Request) -> bool:
    """Check the two parameters that choose among Intel's releases; they exclude each other."""
    update = request.query_params.get("update")
    number = request.query_params.get("tcbEvaluationDataNumber")
    if update is not None and number is not None:
        return False
    if number is not None:
        return number.isascii() and number.isdigit() and len(number) <= 9
    return update is None or update.lower() in {"early", "standard"}


def _statement(request: Request, snapshot: Snapshot, key: tuple[str, str, str]) -> Response:
    stored = snapshot.stored.get("/".join(key))
    if stored is None:
        return _refusal(_NO_DATA)
    number = request.query_params.get("tcbEvaluationDataNumber")
    if number is not None and int(number) != stored.subject.evaluation_number:
        return _refusal(_NO_DATA)
    return _respond(request, stored.endorsement, stored.endorsement.content, "application/json")


def _respond(request: Request, endorsement: Endorsement, body: bytes, media_type: str) -> Response:
    tag = f'"{sha256(body + endorsement.issuer_chain).hexdigest()[:32]}"'
    # Whoever caches asks again: what is here may be replaced at any time, by a newer CRL above all.
    headers = {"ETag": tag, "Cache-Control": "no-cache"}
    if chain_header := _CHAIN_HEADERS.get(endorsement.kind):
        headers[chain_header] = quote(endorsement.issuer_chain, safe="")
    known = [each.strip().removeprefix("W/") for each in request.headers.get("if-none-match", "").split(",")]
    if tag in known or "*" in known:
        return Response(status_code=304, headers=headers)
    return Response(body, headers=headers, media_type=media_type)


def _refusal(status: tuple[int, str]) -> Response:
    return PlainTextResponse(status[1], status_code=status[0])


def _crl_pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b""))
