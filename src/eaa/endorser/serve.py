# SPDX-License-Identifier: Apache-2.0
"""The Endorser as a service: the store, in the language of Intel's PCCS and of AMD's KDS, so that existing clients can use it.

Paths, headers and encodings as versions 4 and 3 of Intel's PCS API have them; ``rootcacrl`` (in hex) and the texts of errors as Intel's
caching service has them. An answer is what the store holds; nothing is fetched while somebody waits.
"""

from __future__ import annotations

import base64
import re
from functools import lru_cache
from hashlib import sha256
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

from starlette.applications import Starlette
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from eaa.endorser import fmspcs
from eaa.endorser.authenticity import TCB_EVALUATION_NUMBERS, anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.history import API_V3, STANDARD, VLEK
from eaa.endorser.kds import tcb_of
from eaa.endorser.metrics import Metrics
from eaa.endorser.needs import Need
from eaa.endorser.pck_serve import Tokens, pck_routes
from eaa.endorser.status_page import PAGE_HEADERS, render_status
from eaa.tee.dcap.collateral import parse_tcb_info, read_tcb_info
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from starlette.requests import Request

    from eaa.endorser.store import Store, Stored
    from eaa.rats import Endorsement, TrustAnchor

__all__ = ["create_app"]

_FMSPC: Final = re.compile(r"[0-9A-Fa-f]{12}")
_HARDWARE_ID: Final = re.compile(r"(?:[0-9A-Fa-f]{2}){8}|(?:[0-9A-Fa-f]{2}){64}")
_INVALID: Final = (400, "Invalid request parameters.")
_NO_DATA: Final = (404, "No cache data for this platform.")
_ONLY_FORM: Final = (
    "The TCB info is held in the form of API version {held} only, whose signature is not that of version {asked}."
    " Ask version {held}, or let the Endorser's operator run `eaa endorser fetch --api v{asked}`."
)
_ONLY_V4: Final = (404, _ONLY_FORM.format(held=4, asked=3))
_ONLY_V3: Final = (404, _ONLY_FORM.format(held=3, asked=4))
_CHAIN_HEADERS: Final = {
    "tcb_info": "TCB-Info-Issuer-Chain",
    "qe_identity": "SGX-Enclave-Identity-Issuer-Chain",
    "pck_crl": "SGX-PCK-CRL-Issuer-Chain",
    TCB_EVALUATION_NUMBERS: "TCB-Evaluation-Data-Numbers-Issuer-Chain",
}
_JSON: Final = "application/json"
_CRL: Final = "application/pkix-crl"
_PEM: Final = "application/x-pem-file"
_CERTIFICATE: Final = "application/x-x509-ca-cert"

_Answer = tuple[bytes, dict[str, str]]


def create_app(
    store: Store,
    anchor: TrustAnchor,
    *,
    wanted: Iterable[Need] = (),
    metrics: Metrics | None = None,
    tokens: Tokens | None = None,
) -> Starlette:
    """Return an ASGI application that serves what ``store`` holds: of Intel's kinds what is below ``anchor``, of AMD's all.

    One application speaks for one maker of Intel's kind, since most requests do not say whose collateral they want; AMD's say their
    product, and its roots are ``store``'s other anchors. ``wanted`` is what the status reports on beside what is held and seen. Without
    ``tokens`` nobody may register platforms.
    """
    wanted, metrics = tuple(wanted), metrics or Metrics()

    async def status(request: Request) -> Response:
        diagnosis = await diagnose(store, wanted)
        code = 200 if diagnosis.healthy else 503
        if request.url.path.endswith(".html") or "text/html" in request.headers.get("accept", ""):
            page = render_status(diagnosis)
            return Response(
                page, status_code=code, headers=PAGE_HEADERS, media_type="text/html; charset=utf-8"
            )
        return JSONResponse(diagnosis.to_json(), status_code=code, headers={"Vary": "Accept"})

    async def numbers(_: Request) -> Response:
        return Response(metrics.render(await diagnose(store, wanted)), media_type="text/plain; version=0.0.4")

    return Starlette(
        routes=[
            *_pccs_routes(store, anchor_id(anchor)),
            *pck_routes(store, anchor_id(anchor), tokens or Tokens()),
            *_kds_routes(store),
            Route("/status", status),
            Route("/status.html", status),
            Route("/metrics", numbers),
        ]
    )


def _pccs_routes(store: Store, root: str) -> list[Route]:
    def tcb_info(tee: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            fmspc = request.query_params.get("fmspc", "")
            if not _FMSPC.fullmatch(fmspc) or not _channel_is_valid(request):
                return _refusal(_INVALID)
            return _statement(request, store, f"tcb_info/{root}/{tee}/{fmspc.lower()}")

        return answer

    def tcb_info_v3(request: Request) -> Response:
        fmspc, update = request.query_params.get("fmspc", ""), request.query_params.get("update", "standard")
        if not _FMSPC.fullmatch(fmspc) or update.lower() not in {"early", "standard"}:
            return _refusal(_INVALID)
        snapshot, key = store.snapshot(), f"tcb_info/{root}/sgx/{fmspc.lower()}"
        stored = snapshot.slots.get((key, API_V3)) or snapshot.stored.get(key)
        if stored is not None and (_is_v4(stored.endorsement) or update.lower() == "early"):
            return _refusal(_ONLY_V4)
        return _respond(request, stored, _JSON, chain_header="SGX-TCB-Info-Issuer-Chain")

    def identity(enclave: str) -> Callable[[Request], Response]:
        def answer(request: Request) -> Response:
            if not _channel_is_valid(request):
                return _refusal(_INVALID)
            return _statement(request, store, f"qe_identity/{root}/{enclave}")

        return answer

    def numbers(tee: str) -> Callable[[Request], Response]:
        return lambda request: _found(request, store, f"{TCB_EVALUATION_NUMBERS}/{root}/{tee}", _JSON)

    def pck_crl(request: Request) -> Response:
        ca = request.query_params.get("ca", "").lower()
        encoding = request.query_params.get("encoding", "pem").lower()
        if ca not in {"platform", "processor"} or encoding not in {"pem", "der"}:
            return _refusal(_INVALID)
        return _found(request, store, f"pck_crl/{root}/{ca}", _CRL if encoding == "der" else _PEM)

    def root_crl(request: Request) -> Response:
        return _found(request, store, f"root_ca_crl/{root}", "hex")

    async def families(request: Request) -> Response:
        platform = request.query_params.get("platform", "all")
        if platform not in fmspcs.PLATFORMS:
            return _refusal(_INVALID)
        held = (await store.connections.read(fmspcs.listed)).get(root)
        if held is None:
            return _refusal(_NO_DATA)
        return JSONResponse(
            [
                {"fmspc": fmspc.upper(), "platform": kind}
                for fmspc, kind in held.kinds.items()
                if platform in {"all", kind}
            ]
        )

    v3, sgx, tdx = "/sgx/certification/v3", "/sgx/certification/v4", "/tdx/certification/v4"
    same = [
        Route(f"{base}{path}", endpoint)
        for base in (v3, sgx)
        for path, endpoint in (
            ("/qe/identity", identity("QE")),
            ("/qve/identity", identity("QVE")),
            ("/pckcrl", pck_crl),
            ("/rootcacrl", root_crl),
        )
    ]
    # Routes are tried in this order: what is asked for with every quote comes first.
    return [
        Route(f"{sgx}/tcb", tcb_info("sgx")),
        Route(f"{tdx}/tcb", tcb_info("tdx")),
        Route(f"{tdx}/qe/identity", identity("TD_QE")),
        Route(f"{sgx}/tcbevaluationdatanumbers", numbers("sgx")),
        Route(f"{tdx}/tcbevaluationdatanumbers", numbers("tdx")),
        Route(f"{sgx}/fmspcs", families),
        *same,
        Route(f"{v3}/tcb", tcb_info_v3),
    ]


def _kds_routes(store: Store) -> list[Route]:
    roots = [anchor_id(each) for each in store.anchors]

    def find(request: Request, kind: str, scope: str, form: str, slot: str = STANDARD) -> Response:
        if request.path_params["product"] not in list(Product):
            return _refusal(_NO_DATA)
        snapshot = store.snapshot()
        found = (each for root in roots for each in snapshot.meeting(Need(kind, root, scope, slot)))
        return _respond(request, next(found, None), form)

    def chain(key: str) -> Callable[[Request], Response]:
        return lambda request: find(request, "snp_chain", f"{request.path_params['product']}/{key}", _PEM)

    def crl(slot: str) -> Callable[[Request], Response]:
        return lambda request: find(request, "snp_crl", request.path_params["product"], _CRL, slot)

    def vcek(request: Request) -> Response:
        product, hardware = request.path_params["product"], request.path_params["hardware"]
        if not _HARDWARE_ID.fullmatch(hardware) or (tcb := tcb_of(request.query_params, product)) is None:
            return _refusal(_INVALID)
        return find(request, "snp_vcek", f"{product}/{hardware.lower()}/{tcb.pack().hex()}", _CERTIFICATE)

    return [
        Route("/vcek/v1/{product}/cert_chain", chain("vcek")),
        Route("/vlek/v1/{product}/cert_chain", chain("vlek")),
        Route("/vcek/v1/{product}/crl", crl(STANDARD)),
        Route("/vlek/v1/{product}/crl", crl(VLEK)),
        Route("/vcek/v1/{product}/{hardware}", vcek),
    ]


def _channel_is_valid(request: Request) -> bool:
    """Check the two parameters that choose among Intel's releases; they exclude each other."""
    update = request.query_params.get("update")
    number = request.query_params.get("tcbEvaluationDataNumber")
    if update is not None and number is not None:
        return False
    if number is not None:
        return number.isascii() and number.isdigit() and len(number) <= 9
    return update is None or update.lower() in {"early", "standard"}


def _statement(request: Request, store: Store, key: str) -> Response:
    snapshot, query = store.snapshot(), request.query_params
    if (number := query.get("tcbEvaluationDataNumber")) is not None:
        stored = snapshot.numbered(key, int(number))
    elif query.get("update", "").lower() == "early":
        stored = snapshot.early(key)
    else:
        stored = snapshot.stored.get(key)
    if stored is not None and not _is_v4(stored.endorsement):
        return _refusal(_ONLY_V3)
    return _respond(request, stored, _JSON)


def _found(request: Request, store: Store, key: str, form: str) -> Response:
    return _respond(request, store.snapshot().stored.get(key), form)


def _respond(request: Request, stored: Stored | None, form: str, *, chain_header: str = "") -> Response:
    if stored is None:
        return _refusal(_NO_DATA)
    body, headers = _prepared(stored.endorsement, form, chain_header)
    known = request.headers.get("if-none-match")
    if known is not None:
        tags = [each.strip().removeprefix("W/") for each in known.split(",")]
        if headers["ETag"] in tags or "*" in tags:
            return Response(
                status_code=304, headers={name: headers[name] for name in headers if name != "Content-Type"}
            )
    return Response(body, headers=headers)


@lru_cache(maxsize=4096)
def _is_v4(endorsement: Endorsement) -> bool:
    """Whether it is in the form of version 4 of Intel's API, which differs from version 3 in TCB info only."""
    return endorsement.kind != "tcb_info" or parse_tcb_info(read_tcb_info(endorsement.content)).version == 3


@lru_cache(maxsize=4096)
def _prepared(endorsement: Endorsement, form: str, chain_header: str) -> _Answer:
    """Return the body and headers of an answer; they depend on the content alone."""
    body, media_type = endorsement.content, form
    if form == "hex":
        body, media_type = body.hex().encode(), _CRL
    elif form == _PEM and endorsement.kind == "pck_crl":
        body = _crl_pem(body)
    tag = f'"{sha256(body + endorsement.issuer_chain).hexdigest()[:32]}"'
    # Whoever caches asks again: what is here may be replaced at any time, by a newer CRL above all.
    headers = {"Content-Type": media_type, "ETag": tag, "Cache-Control": "no-cache"}
    if name := chain_header or _CHAIN_HEADERS.get(endorsement.kind):
        headers[name] = quote(endorsement.issuer_chain, safe="")
    return body, headers


def _refusal(status: tuple[int, str]) -> Response:
    return PlainTextResponse(status[1], status_code=status[0])


def _crl_pem(der: bytes) -> bytes:
    text = base64.b64encode(der)
    lines = [text[at : at + 64] for at in range(0, len(text), 64)]
    return b"\n".join((b"-----BEGIN X509 CRL-----", *lines, b"-----END X509 CRL-----", b""))
