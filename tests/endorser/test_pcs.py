# SPDX-License-Identifier: Apache-2.0
"""The PCS client against services that behave, and services that do not."""

from __future__ import annotations

import asyncio
import gzip
import ssl
import time
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse, RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from eaa.endorser import pcs
from eaa.endorser.serve import create_app
from eaa.rats import ConfigurationError, EaaError, EndorsementError, InputError, NotFound, UnavailableError
from eaa.tee.dcap.collateral_files import MAX_FILE

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from contextlib import AbstractContextManager

    from starlette.requests import Request

    from eaa.endorser.store import Store
    from eaa.rats import Endorsements
    from eaa.simulator import ChipMaker

    Serving = Callable[[Any], AbstractContextManager[str]]

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
TDX = pcs.Wanted("10a06f080000", "tdx", "platform")


async def fetch(url: str, wanted: pcs.Wanted = TDX, **options: Any) -> Endorsements:
    # Reading the system's certificate authorities takes longer than a whole test; http does not need them.
    async with pcs.new_client(timeout_seconds=2, tls=ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)) as client:
        return await pcs.fetch(url, wanted, client, **options)


def wanted_for(maker: ChipMaker, tee: Any, ca: Any = "platform", **more: Any) -> pcs.Wanted:
    return pcs.Wanted(maker.machine(ca=ca).fmspc, tee, ca, **more)


@pytest.mark.parametrize(("tee", "ca"), [("tdx", "platform"), ("sgx", "platform"), ("sgx", "processor")])
async def test_fetches_what_a_pccs_serves(
    store: Store, maker: ChipMaker, serving: Serving, tee: str, ca: str
) -> None:
    expected = maker.collateral(tee, NOW, ca=ca)
    await store.put(expected)
    with serving(create_app(store, maker.trust_anchor())) as url:
        for tail in ("", "/", "/sgx/certification/v4", "/tdx/certification/v4/"):
            assert await fetch(url + tail, wanted_for(maker, tee, ca)) == expected
        with pytest.raises(NotFound):
            await fetch(url, pcs.Wanted("000000000000", "tdx", "platform"))


async def test_asks_for_channel_or_evaluation_number(
    store: Store, maker: ChipMaker, serving: Serving
) -> None:
    await store.put(maker.collateral("tdx", NOW, evaluation=18))
    with serving(create_app(store, maker.trust_anchor())) as url:
        for more in ({"update": "early"}, {"update": "standard"}, {"evaluation_number": 18}):
            await fetch(url, wanted_for(maker, "tdx", **more))
        with pytest.raises(NotFound):
            await fetch(url, wanted_for(maker, "tdx", evaluation_number=17))


async def test_reads_the_headers_of_version_3(maker: ChipMaker, serving: Serving) -> None:
    """Version 3 of the API names the TCB info's chain otherwise."""
    collateral = maker.collateral("sgx", NOW)
    tcb_info, identity, pck_crl, root_crl = collateral.items
    chain = quote(tcb_info.issuer_chain)

    def respond(body: bytes, **headers: str) -> Callable[[Request], Response]:
        return lambda _: Response(body, headers={name.replace("_", "-"): headers[name] for name in headers})

    base = "/sgx/certification/v3"
    app = Starlette(
        routes=[
            Route(f"{base}/tcb", respond(tcb_info.content, SGX_TCB_Info_Issuer_Chain=chain)),
            Route(f"{base}/qe/identity", respond(identity.content, SGX_Enclave_Identity_Issuer_Chain=chain)),
            Route(
                f"{base}/pckcrl",
                respond(pck_crl.content, SGX_PCK_CRL_Issuer_Chain=quote(pck_crl.issuer_chain)),
            ),
            Route("/root.der", respond(root_crl.content)),
        ]
    )
    with serving(app) as url:
        wanted = wanted_for(maker, "sgx", version="v3")
        assert await fetch(url, wanted, root_crl_url=f"{url}/root.der") == collateral


def answering(answer: Callable[[Request], Any]) -> Starlette:
    return Starlette(routes=[Route("/{path:path}", answer)])


async def _endless() -> AsyncIterator[bytes]:
    for _ in range(MAX_FILE // 65536 + 64):
        yield b"\0" * 65536


async def _slow(request: Request) -> Response:
    await asyncio.sleep(1)
    return PlainTextResponse("")


async def _drip() -> AsyncIterator[bytes]:
    while True:
        yield b" "
        await asyncio.sleep(0.05)


BOMB = gzip.compress(b"{" + b" " * (32 * 1024 * 1024))


@pytest.mark.parametrize(
    ("answer", "error", "reason"),
    [
        (lambda _: Response(b"garbage"), EndorsementError, "not a CRL|header"),
        (lambda _: Response(b""), EndorsementError, "not a CRL|header"),
        (lambda _: Response(b'{"tcbInfo":{},"signature":"00"}'), EndorsementError, "http"),
        (lambda _: RedirectResponse("/elsewhere"), EndorsementError, "redirects"),
        (lambda _: StreamingResponse(_endless()), EndorsementError, "more than"),
        (lambda _: Response(BOMB, headers={"Content-Encoding": "gzip"}), EndorsementError, "compressed"),
        (lambda _: Response(status_code=401), EndorsementError, "answers 401"),
        (lambda _: Response(status_code=204), EndorsementError, "answers 204"),
        (lambda _: Response(status_code=404), NotFound, "nothing for this platform"),
        (lambda _: Response(status_code=429), UnavailableError, "answers 429"),
        (lambda _: Response(status_code=503), UnavailableError, "answers 503"),
    ],
)
async def test_misbehaving_service_gives_a_clear_error(
    serving: Serving, answer: Callable[[Request], Any], error: type[EaaError], reason: str
) -> None:
    with serving(answering(answer)) as url, pytest.raises(error, match=reason) as caught:
        await fetch(url)
    assert url in str(caught.value)


def respond_with(body: bytes, headers: dict[str, str], _request: Request) -> Response:
    return Response(body, headers=headers)


async def test_statement_of_the_wrong_kind_or_form_is_refused(maker: ChipMaker, serving: Serving) -> None:
    _, identity, *_ = maker.collateral("tdx", NOW).items
    headers = {"TCB-Info-Issuer-Chain": quote(identity.issuer_chain)}
    for body, reason in (
        (identity.content, "qe_identity where a tcb_info"),
        (identity.content[:-1], "not the JSON"),
        (b"garbage", "not the JSON"),
    ):
        app = answering(partial(respond_with, body, headers))
        with serving(app) as url, pytest.raises(EndorsementError, match=reason):
            await fetch(url)


@pytest.mark.parametrize("answer", [_slow, lambda _: StreamingResponse(_drip())])
async def test_slow_service_is_given_up(serving: Serving, answer: Any) -> None:
    with serving(answering(answer)) as url:
        begin = time.monotonic()
        with pytest.raises(UnavailableError, match=r"did not answer within 0\.3 seconds"):
            await fetch(url, timeout_seconds=0.3)
        assert time.monotonic() - begin < 2


async def test_unreachable_service_is_unavailable() -> None:
    with pytest.raises(UnavailableError, match="cannot be reached") as caught:
        await fetch("http://127.0.0.1:1")
    assert caught.value.hint


@pytest.mark.parametrize(
    "url",
    [
        "http://pcs.invalid",
        "ftp://127.0.0.1",
        "file:///etc/passwd",
        "https://",
        "https://user:secret@pcs.invalid",
        "https://pcs.invalid?x=1",
        "https://[::1",
        "https://pcs.invalid:port",
        "not a url",
        "",
    ],
)
async def test_only_plain_https_addresses_are_asked(url: str) -> None:
    with pytest.raises(ConfigurationError):
        await fetch(url)
    with pytest.raises(ConfigurationError):
        await fetch("https://127.0.0.1:1", root_crl_url=url or " ")


@pytest.mark.parametrize(
    "arguments",
    [
        ("50806F000000", "tdx", "platform"),
        ("50806f", "tdx", "platform"),
        ("50806f000000", "tdx", "platform", "early", 17),
        ("50806f000000", "tdx", "platform", None, None, "v3"),
    ],
)
def test_impossible_wishes_are_refused(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(InputError):
        pcs.Wanted(*arguments)
