# SPDX-License-Identifier: Apache-2.0
"""Platforms and their PCK certificates from the files of Intel's PCS Client Tool."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.endorser import pck_store
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.client_tool import ToolPlatforms, is_platform_list, read_tool_platforms
from eaa.endorser.pck_import import import_tool_file
from eaa.endorser.pck_serve import Tokens
from eaa.endorser.serve import create_app
from eaa.rats import EndorsementError
from eaa.simulator.publication import Publication
from eaa.simulator.timeline import Platform, Timeline

if TYPE_CHECKING:
    from eaa.endorser.store import Store
    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
API: Final = "/sgx/certification/v4"
TIMELINE: Final = Timeline(machines=(Platform("a"), Platform("c", "processor")))


def registration(maker: ChipMaker, name: str, ca: str) -> dict[str, str]:
    """Return an entry of the list of platforms, as the tool writes it: in upper case."""
    machine = maker.machine(name, ca=ca)
    return {
        "qe_id": machine.qe_id.hex().upper(),
        "pce_id": "0000",
        "cpu_svn": machine.identity.sgx_svns.hex().upper(),
        "pce_svn": "0D00",
        "enc_ppid": machine.encrypted_ppid.hex().upper(),
        "platform_manifest": "",
    }


def tool_file(maker: ChipMaker) -> dict[str, Any]:
    """Return what the tool's ``fetch`` writes for two platforms, one below each CA."""
    publication = Publication(maker, TIMELINE)
    platforms, pck_certs, chains = [], [], {}
    for name, ca in (("a", "platform"), ("c", "processor")):
        found = publication.pck_certificates(NOW, "qe_id", maker.machine(name, ca=ca).qe_id)
        platforms.append(registration(maker, name, ca))
        certs: list[dict[str, Any]] = [
            {"tcb": {}, "tcbm": each.tcbm.upper(), "cert": quote(each.certificate)} for each in found
        ]
        certs.append({"tcb": {}, "tcbm": "00" * 18, "cert": "Not available"})
        pck_certs.append({**platforms[-1], "certs": certs})
        chains[ca.upper()] = quote(found[0].issuer_chain)
    info = maker.collateral("sgx", NOW).of_kind("tcb_info")[0]
    return {
        "platforms": platforms,
        "collaterals": {
            "version": 4,
            "pck_certs": pck_certs,
            "tcbinfos": [{"fmspc": maker.machine().fmspc, "sgx_tcbinfo": json.loads(info.content)}],
            "certificates": {
                "SGX-PCK-Certificate-Issuer-Chain": chains,
                "TCB-Info-Issuer-Chain": quote(info.issuer_chain),
            },
        },
    }


async def put(store: Store, maker: ChipMaker, document: dict[str, Any]) -> httpx2.Response:
    app = create_app(store, maker.trust_anchor(), tokens=Tokens.of(admin="administer"))
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid") as client:
        return await client.put(
            f"{API}/platformcollateral", json=document, headers={"admin-token": "administer"}
        )


async def ask(store: Store, maker: ChipMaker, name: str, ca: str) -> httpx2.Response:
    machine = maker.machine(name, ca=ca)
    app = create_app(store, maker.trust_anchor())
    query = f"qeid={machine.qe_id.hex()}&pceid=0000&cpusvn={machine.identity.sgx_svns.hex()}&pcesvn=0d00"
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid") as client:
        return await client.get(f"{API}/pckcert?{query}")


async def test_file_that_an_administrator_puts_is_served(store: Store, maker: ChipMaker) -> None:
    answer = await put(store, maker, tool_file(maker))
    assert (answer.status_code, answer.json()) == (200, {"refused": []})
    for name, ca in (("a", "platform"), ("c", "processor")):
        served = await ask(store, maker, name, ca)
        assert maker.machine(name, ca=ca).pck_chain.startswith(served.content)
        assert served.headers["SGX-PCK-Certificate-CA-Type"] == ca
    assert any(each.startswith("tcb_info/") for each in store.snapshot().stored)
    assert len(await store.connections.read(pck_store.registered)) == 2


async def test_bad_platform_in_a_file_does_not_keep_the_others_out(store: Store, maker: ChipMaker) -> None:
    document = tool_file(maker)
    first, second = document["collaterals"]["pck_certs"]
    first["certs"][0]["cert"] = second["certs"][0]["cert"]
    answer = await put(store, maker, document)
    assert answer.status_code == 400
    assert len(answer.json()["refused"]) == 1
    assert (await ask(store, maker, "a", "platform")).status_code == 404
    assert (await ask(store, maker, "c", "processor")).status_code == 200


async def test_list_of_platforms_registers_them(store: Store, maker: ChipMaker) -> None:
    listed = json.dumps([registration(maker, "a", "platform")]).encode()
    assert is_platform_list(listed)
    root = anchor_id(maker.trust_anchor())
    imported = await import_tool_file(store, listed, root, source="platform_list.json")
    (platform,) = await store.connections.read(pck_store.registered)
    assert imported.platforms == [(platform.need.scope, 0)]
    assert (await ask(store, maker, "a", "platform")).status_code == 404, "nothing has been fetched yet"


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["platforms", "collaterals", "pck_certs", "certs", "qe_id", "pce_id"]),
                inner,
                max_size=4,
            )
        ),
    )
)
def test_any_document_gives_platforms_or_an_endorsement_error(document: Any) -> None:
    with contextlib.suppress(EndorsementError):
        assert isinstance(read_tool_platforms(json.dumps(document).encode()), ToolPlatforms)
