# SPDX-License-Identifier: Apache-2.0
"""Version 3 of Intel's API: served where an object has its form, refused with a reason where it has not."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final
from urllib.parse import unquote

import httpx2
import pytest

from eaa.endorser.pcs import PcsSource, Wanted, fetch
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.rats import Endorsements
from eaa.simulator import mint
from eaa.simulator.vendor_http import VendorTransport
from eaa.tee.dcap.collateral import parse_tcb_info, read_tcb_info
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

pytestmark = pytest.mark.anyio
START: Final = datetime(2026, 11, 1, tzinfo=UTC)
V3, V4 = "/sgx/certification/v3", "/sgx/certification/v4"


async def in_version_3(world: Any) -> tuple[Any, Endorsements]:
    """Return a store and what the chip maker's service says in version 3, of which the first piece is the TCB info."""
    store, _ = await world.replica(wanted=())
    async with httpx2.AsyncClient(transport=VendorTransport(world.service)) as client:
        wanted = Wanted(world.platform.fmspc, "sgx", "platform", version="v3")
        return store, await fetch("https://pcs.invalid", wanted, client)


def browser(world: Any, store: Any) -> httpx2.AsyncClient:
    app = create_app(store, world.maker.trust_anchor())
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid")


async def test_both_forms_are_held_and_served_each_in_its_version(worlds: Any) -> None:
    world = worlds()
    store, old = await in_version_3(world)
    await store.put(Endorsements(old.items[:1]), slot="v3")
    await store.put(world.maker.collateral("sgx", START))
    async with browser(world, store) as client:
        query = f"tcb?fmspc={world.platform.fmspc.upper()}"
        third, fourth = await client.get(f"{V3}/{query}"), await client.get(f"{V4}/{query}")
        assert (third.json()["tcbInfo"]["version"], fourth.json()["tcbInfo"]["version"]) == (2, 3)
        assert unquote(third.headers["SGX-TCB-Info-Issuer-Chain"]).encode() == old.items[0].issuer_chain
        assert "TCB-Info-Issuer-Chain" not in third.headers
        assert "SGX-TCB-Info-Issuer-Chain" not in fourth.headers
        assert (await client.get(f"{V3}/{query}&update=standard")).status_code == 200
        for path in ("qe/identity", "pckcrl?ca=platform", "pckcrl?ca=platform&encoding=der", "rootcacrl"):
            one, other = await client.get(f"{V3}/{path}"), await client.get(f"{V4}/{path}")
            assert (one.status_code, one.content) == (200, other.content)
            chains = [{name for name in each.headers if "chain" in name} for each in (one, other)]
            assert chains[0] == chains[1]


async def test_form_that_is_not_held_is_refused_with_a_reason(worlds: Any) -> None:
    world = worlds()
    store, old = await in_version_3(world)
    query = f"tcb?fmspc={world.platform.fmspc}"
    async with browser(world, store) as client:
        assert (await client.get(f"{V3}/{query}")).text == "No cache data for this platform."
        await store.put(Endorsements(old.items[:1]), slot="v3")
        answer = await client.get(f"{V4}/{query}")
        assert (answer.status_code, "API version 3 only" in answer.text) == (404, True)
    async with browser(world, store) as client:
        for wrong in ("tcb", "tcb?fmspc=x", f"{query}&update=never"):
            assert (await client.get(f"{V3}/{wrong}")).status_code == 400
        assert (await client.get("/tdx/certification/v3/tcb?fmspc=" + "0" * 12)).status_code == 404


async def test_form_of_version_4_is_not_passed_off_as_version_3(worlds: Any) -> None:
    world = worlds()
    store, _ = await world.replica(wanted=())
    await store.put(world.maker.collateral("sgx", START))
    async with browser(world, store) as client:
        answer = await client.get(f"{V3}/tcb?fmspc={world.platform.fmspc}")
        assert (answer.status_code, "API version 4 only" in answer.text) == (404, True)


async def test_older_form_is_renewed_and_judges_evidence_where_it_is_all_there_is(worlds: Any) -> None:
    world = worlds()
    store, old = await in_version_3(world)
    for need, item in zip(
        Wanted(world.platform.fmspc, "sgx", "platform", version="v3").needs(), old.items, strict=True
    ):
        await store.put(Endorsements((item,)), slot=need.slot)
    evidence = parse_evidence(mint(world.maker, "sgx", b"x", at=START).quote, tee="sgx")
    found = store.endorsements_for(evidence)
    Verifier(store.anchors).verify(evidence, found, at=START, report_data=b"x").accept()
    world.at += timedelta(days=2)
    async with httpx2.AsyncClient(transport=VendorTransport(world.service)) as client:
        await Refresher(store, [PcsSource("https://pcs.invalid", client)]).step()
    key = f"tcb_info/{world.platform.root}/sgx/{world.platform.fmspc}"
    renewed = store.snapshot().slots[key, "v3"]
    assert renewed.subject.issued == world.at
    assert parse_tcb_info(read_tcb_info(renewed.endorsement.content)).version == 2
