# SPDX-License-Identifier: Apache-2.0
"""Statements of one TCB evaluation data number: kept fresh as long as Intel lists it, like the channels."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

import httpx2
import pytest

from eaa.endorser.authenticity import anchor_id
from eaa.endorser.doctor import diagnose
from eaa.endorser.needs import Need
from eaa.endorser.pcs import PcsSource
from eaa.endorser.serve import create_app
from eaa.simulator.timeline import Recovery, Timeline, Trouble

pytestmark = pytest.mark.anyio
START: Final = datetime(2026, 11, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TIMELINE: Final = Timeline(
    recoveries=(Recovery(19, early=START + DAY, standard=START + 2 * DAY),),
    troubles=(Trouble("status", START + 9 * DAY, START + 10 * DAY, status=503),),
)


def numbered(requests: list[str]) -> list[str]:
    return [each for each in requests if "tcbEvaluationDataNumber" in each]


async def test_number_that_no_channel_hands_out_any_more_is_renewed_by_itself(worlds: Any) -> None:
    world = worlds(TIMELINE)
    store, refresher = await world.replica()
    await world.live(START + 3 * HOUR, refresher)
    assert numbered(world.requests) == [], "18 comes with the standard channel"
    await world.live(START + 3 * DAY, refresher)
    key = world.needs[0].key
    before = store.snapshot().slots[key, "#18"].subject
    assert before.evaluation_number == 18
    await world.live(START + 8 * DAY, refresher)
    asked = {each.partition("?")[0] for each in numbered(world.requests)}
    assert asked == {"/tdx/certification/v4/tcb", "/tdx/certification/v4/qe/identity"}
    after = store.snapshot().slots[key, "#18"].subject
    assert (after.evaluation_number, after.issued > before.issued) == (18, True)
    assert after.next_update > START + 30 * DAY
    app = create_app(store, world.maker.trust_anchor())
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://e.invalid") as client:
        query = f"fmspc={world.platform.fmspc}&tcbEvaluationDataNumber=18"
        answer = await client.get(f"/tdx/certification/v4/tcb?{query}")
        assert answer.json()["tcbInfo"]["tcbEvaluationDataNumber"] == 18
        listed = (await client.get("/tdx/certification/v4/tcbevaluationdatanumbers")).json()
        numbers = listed["tcbEvaluationDataNumbers"]["tcbEvalNumbers"]
        assert [each["tcbEvaluationDataNumber"] for each in numbers] == [19, 18]


async def test_doctor_reports_on_numbers_but_evidence_does_without(worlds: Any) -> None:
    world = worlds(TIMELINE)
    store, refresher = await world.replica()
    await world.live(START + 9 * DAY, refresher)
    await world.live(START + 9 * DAY + 12 * HOUR, refresher)
    objects = {each.need.name: each for each in (await diagnose(store, world.needs)).objects}
    name = f"{world.needs[0].key}?#18"
    assert (objects[name].vital, objects[name].evaluation_number) == (False, 18)
    assert "503" in objects[name].error


async def test_number_that_intel_lists_no_more_is_left_as_it_is(worlds: Any) -> None:
    world = worlds(TIMELINE)
    store, refresher = await world.replica(wanted=())
    await store.put(world.maker.collateral("tdx", START, evaluation=17), slot="#17")
    kept = {(each.kind, each.slot) for each in store.snapshot().kept()}
    assert kept >= {("tcb_info", "#17"), ("qe_identity", "#17"), ("pck_crl", "standard")}, (
        "what has no number has one slot"
    )
    await world.live(START + HOUR, refresher)
    assert len(numbered(world.requests)) == 2
    root = anchor_id(world.maker.trust_anchor())
    _, listing = await world.replica(wanted=(Need("tcb_evaluation_numbers", root, "tdx"),))
    await listing.step()
    await store.sync()
    assert {each.slot for each in store.snapshot().kept()} == {"standard"}
    world.requests.clear()
    await world.live(START + 3 * DAY, listing)
    assert numbered(world.requests) == []
    assert store.snapshot().numbered(world.needs[0].key, 17) is not None, "it stays at hand"


def test_version_3_is_not_asked_for_numbers() -> None:
    source = PcsSource("https://pcs.invalid", httpx2.AsyncClient(), version="v3")
    assert source.offers(Need("tcb_info", "root", "sgx/000000000000"))
    assert not source.offers(Need("tcb_info", "root", "sgx/000000000000", "#18"))
