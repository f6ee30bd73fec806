# SPDX-License-Identifier: Apache-2.0
"""Intel's list of FMSPCs: read, kept fresh, handed out, and what the doctor makes of it."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import httpx2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.endorser import fmspcs
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.fmspcs import read_fmspcs
from eaa.endorser.needs import FMSPCS, Need, Platform, needs_of_platform
from eaa.endorser.pcs import PcsSource
from eaa.endorser.refresh import Refresher
from eaa.endorser.serve import create_app
from eaa.rats import EndorsementError
from eaa.simulator.timeline import Timeline, Trouble
from eaa.simulator.vendor_http import VendorService, VendorTransport

if TYPE_CHECKING:
    from eaa.endorser.store import Store
    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
PATH: Final = "/sgx/certification/v4/fmspcs"


class World:
    """A chip maker's service and an Endorser that is to have what platforms of one family need."""

    def __init__(self, maker: ChipMaker, store: Store, fmspc: str, timeline: Timeline | None = None) -> None:
        self.at = NOW
        self.store = store
        store.clock = lambda: self.at
        service = VendorService(maker, timeline, lambda: self.at)
        client = httpx2.AsyncClient(transport=VendorTransport(service))
        self.root = anchor_id(maker.trust_anchor())
        self.needs = needs_of_platform("tdx", Platform(self.root, fmspc, "platform"))
        source = PcsSource("https://pcs.invalid", client, root=self.root)
        self.refresher = Refresher(store, [source], wanted=self.needs)
        app = create_app(store, maker.trust_anchor())
        self.browser = httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid")

    async def health(self, kind: str) -> Any:
        objects = (await diagnose(self.store, self.needs)).objects
        return next(each for each in objects if each.need.kind == kind and each.need.slot == "standard")


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
async def test_list_is_fetched_and_served(maker: ChipMaker, store: Store) -> None:
    world = World(maker, store, maker.fmspcs["platform"].hex())
    assert (await world.browser.get(PATH)).status_code == 404
    await world.refresher.step()
    listed = (await world.browser.get(f"{PATH}?platform=all")).json()
    assert {each["fmspc"].lower() for each in listed} == {each.hex() for each in maker.fmspcs.values()}
    (server,) = (await world.browser.get(f"{PATH}?platform=E5")).json()
    assert server == {"fmspc": maker.fmspcs["platform"].hex().upper(), "platform": "E5"}
    assert (await world.browser.get(f"{PATH}?platform=E9")).status_code == 400
    first = await world.health("fmspcs")
    assert (first.state, first.vital, first.source) == ("ok", False, "https://pcs.invalid")
    assert FMSPCS in {each.need.kind for each in (await diagnose(store)).objects}, "though nobody wants it"
    world.at += 3 * DAY
    await world.refresher.step()
    assert (await world.health("fmspcs")).issued == world.at


async def test_doctor_says_when_intel_does_not_know_a_family(maker: ChipMaker, store: Store) -> None:
    world = World(maker, store, "ffffffffffff")
    await world.refresher.step()
    info = await world.health("tcb_info")
    assert info.state == "missing"
    assert "list of FMSPCs does not have this one" in info.remedy


async def test_doctor_does_not_blame_a_family_that_is_listed(maker: ChipMaker, store: Store) -> None:
    timeline = Timeline(troubles=(Trouble("status", NOW, NOW + DAY, "/tdx/*"),))
    world = World(maker, store, maker.fmspcs["platform"].hex(), timeline)
    await world.refresher.step()
    info = await world.health("tcb_info")
    assert (info.state, "FMSPCs" in info.remedy) == ("missing", False)


async def test_families_that_leave_the_list_are_served_no_more(maker: ChipMaker, store: Store) -> None:
    root, write = anchor_id(maker.trust_anchor()), store.connections.write
    await write(fmspcs.put, root, {"00" * 6: "E3", "11" * 6: "E5"}, source="one", at=NOW)
    await write(fmspcs.put, root, {"11" * 6: "E5"}, source="two", at=NOW + DAY)
    found = (await store.connections.read(fmspcs.listed))[root]
    assert (dict(found.kinds), found.at, found.source) == ({"11" * 6: "E5"}, NOW + DAY, "two")


async def test_bad_list_keeps_the_old_one(maker: ChipMaker, store: Store) -> None:
    timeline = Timeline(troubles=(Trouble("not-json", NOW + DAY, NOW + 9 * DAY, "*/fmspcs"),))
    world = World(maker, store, maker.fmspcs["platform"].hex(), timeline)
    await world.refresher.step()
    world.at = NOW + 2 * DAY
    await world.refresher.step()
    health = await world.health("fmspcs")
    assert (health.state, health.failures, "no list of FMSPCs" in health.error) == ("ok", 1, True)
    assert len((await world.browser.get(PATH)).json()) == 2


@pytest.mark.parametrize(
    "document",
    [
        {},
        [],
        "x",
        [1],
        [{"fmspc": "00"}],
        [{"fmspc": "0" * 11, "platform": "E3"}],
        [{"fmspc": "0" * 12, "platform": 3}],
    ],
)
def test_malformed_list_is_refused(document: Any) -> None:
    with pytest.raises(EndorsementError):
        read_fmspcs(json.dumps(document).encode())


@given(
    st.binary(max_size=100)
    | st.lists(st.dictionaries(st.sampled_from(["fmspc", "platform"]), st.text())).map(
        lambda value: json.dumps(value).encode()
    )
)
def test_any_bytes_give_a_list_or_an_endorsement_error(body: bytes) -> None:
    with contextlib.suppress(EndorsementError):
        assert read_fmspcs(body)


def test_need_is_one_per_chip_maker() -> None:
    needs = {
        each
        for tee in ("sgx", "tdx")
        for each in needs_of_platform(tee, Platform("root", "00" * 6, "platform"))
        if each.kind == FMSPCS
    }
    assert needs == {Need(FMSPCS, "root", "")}
