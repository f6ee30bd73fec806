# SPDX-License-Identifier: Apache-2.0
"""Keeping fresh, while days pass in milliseconds: on time, once, politely, and never for worse."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from eaa.endorser import leases, pck_store
from eaa.endorser.doctor import diagnose
from eaa.endorser.files import load_endorsements
from eaa.endorser.http import Budget, Busy
from eaa.endorser.needs import Need
from eaa.endorser.pcs import PcsSource
from eaa.endorser.platforms import Observer
from eaa.endorser.refresh import RefreshPolicy
from eaa.endorser.sources import FolderSource
from eaa.rats import EndorsementError
from eaa.simulator import ChipMaker, mint
from eaa.simulator.timeline import Recovery, Revocation, Timeline, Trouble
from eaa.simulator.vendor_http import VendorTransport
from eaa.tee.dcap.collateral_files import MAX_FILE, endorsements_to_files
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.rats import Appraisal

pytestmark = pytest.mark.anyio
START = datetime(2026, 11, 1, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
GRAIN = timedelta(minutes=40)  # what is due meanwhile is done together, which spares the tests time
both = pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)


def day(number: float) -> datetime:
    return START + number * DAY


def failing(appraisal: Appraisal) -> set[str]:
    return {each.id for each in appraisal.failing}


async def test_what_is_wanted_is_fetched_and_stays_fresh(worlds: Any) -> None:
    world = worlds()
    store, refresher = await world.replica()
    assert not world.appraise(store).accepted
    for passed in (0, 2, 6):
        await world.live(day(passed) + HOUR, refresher)
        world.appraise(store).accept()
        assert (await diagnose(store, world.needs)).healthy
    hours = {each.stored_at.hour for each in await store.history()}
    assert len(hours) > 3, "jitter spreads the requests"
    asked = [each for each in world.requests if "tdx/certification/v4/tcb?" in each and "early" not in each]
    assert 6 * 4 - 2 < len(asked) < 6 * 4 + 6, "every six hours or so"


@both
async def test_of_several_replicas_one_fetches(worlds: Any, registration: Any) -> None:
    world = worlds()
    replicas = [await world.replica() for _ in range(3)]
    await replicas[0][0].connections.write(pck_store.register, registration(world.maker.machine()), world.at)
    async with asyncio.TaskGroup() as tasks:
        for _, refresher in replicas:
            tasks.create_task(refresher.step())
    assert len(world.requests) == len(set(world.requests)) == len(world.needs) + 1
    for store, _ in replicas:
        await store.sync()
        world.appraise(store).accept()
    world.requests.clear()
    world.at += 27 * HOUR
    async with asyncio.TaskGroup() as tasks:
        for _, refresher in replicas:
            tasks.create_task(refresher.step())
    assert len(world.requests) == len(set(world.requests)) == len(world.needs) + 1


@both
async def test_lease_of_a_dead_process_ends(worlds: Any) -> None:
    world = worlds()
    store, refresher = await world.replica()
    (name,) = (each.name for each in world.needs if each.kind == "pck_crl")
    write = store.connections.write
    await write(leases.enlist, [each.name for each in world.needs], world.at)
    assert await write(leases.claim, [name], "dead", world.at, world.at + 5 * timedelta(minutes=1))
    await refresher.step()
    assert not any("pckcrl" in each for each in world.requests)
    await world.live(world.at + timedelta(minutes=6), refresher)
    assert sum("pckcrl" in each for each in world.requests) == 1
    world.appraise(store).accept()


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("mis-signed", "signature"),
        ("impostor", "pinned"),
        ("truncated", "JSON|CRL"),
        ("oversize", "more than"),
        ("not-json", "JSON|CRL|header"),
        ("no-chain", "header"),
        ("refused", "reached"),
        ("status", "503"),
        ("slow", "did not answer"),
        ("replayed", "older|expired"),
    ],
)
async def test_bad_answers_are_refused_and_the_old_object_is_kept(
    worlds: Any, kind: Any, reason: str
) -> None:
    trouble = Trouble(kind, START + 7 * HOUR, day(2) + HOUR, seconds=20.0, size=MAX_FILE + 1)
    world = worlds(Timeline(troubles=(trouble,)))
    policy = RefreshPolicy(timeout_seconds=0.05 if kind == "slow" else 30, last_retry=8 * HOUR)
    store, refresher = await world.replica(policy=policy)
    await world.live(START + 7 * HOUR, refresher)
    before = store.snapshot().stored[world.needs[0].key]
    await world.live(day(2), refresher)
    diagnosis = await diagnose(store, world.needs)
    (info,) = (each for each in diagnosis.objects if each.need == world.needs[0])
    assert store.snapshot().stored[world.needs[0].key] == before
    assert diagnosis.healthy, "what is held is valid for weeks"
    assert info.failures > 0
    assert re.search(reason, info.error), info.error
    world.appraise(store).accept()
    await world.live(day(2) + 14 * HOUR, refresher)
    (info,) = (each for each in (await diagnose(store, world.needs)).objects if each.need == world.needs[0])
    assert (info.failures, info.error) == (0, "")
    assert info.issued is not None
    assert info.issued >= day(2)


async def test_tcb_info_of_another_family_is_refused(worlds: Any) -> None:
    world = worlds(Timeline(troubles=(Trouble("wrong-fmspc", day(0), day(1)),)))
    store, refresher = await world.replica()
    await refresher.step()
    (info,) = (each for each in (await diagnose(store, world.needs)).objects if each.need == world.needs[0])
    assert (info.state, "was asked for" in info.error) == ("missing", True)
    assert not (await diagnose(store, world.needs)).healthy


async def test_network_lost_for_weeks_then_it_says_what_expired(worlds: Any) -> None:
    world = worlds(Timeline(troubles=(Trouble("refused", day(1), day(32)),)))
    store, refresher = await world.replica(policy=RefreshPolicy(last_retry=DAY))
    await world.live(day(8), refresher)
    world.appraise(store).accept()
    assert (await diagnose(store, world.needs)).healthy
    requests = len(world.requests)
    await world.live(day(28), refresher)
    diagnosis = await diagnose(store, world.needs)
    assert {each.state for each in diagnosis.objects if each.vital} == {"expiring", "ok"}
    assert diagnosis.healthy
    assert len(world.requests) - requests < 2 * 20 * len(world.needs), "about once a day each"
    await world.live(day(31), refresher)
    diagnosis = await diagnose(store, world.needs)
    expired = {each.need.kind for each in diagnosis.objects if each.state == "expired" and each.vital}
    assert expired == {"tcb_info", "qe_identity", "pck_crl"}
    assert not diagnosis.healthy
    assert failing(world.appraise(store)) == {
        "dcap.tcb-info.dates",
        "dcap.qe-identity.dates",
        "dcap.crl.pck-dates",
    }
    assert all(each.error and each.remedy for each in diagnosis.objects if each.state == "expired")
    await world.live(day(34), refresher)
    assert (await diagnose(store, world.needs)).healthy
    world.appraise(store).accept()


async def test_retry_after_is_kept_by_everything_that_asks_the_host(worlds: Any) -> None:
    trouble = Trouble("status", day(0), day(1), status=429, retry_after=3 * 3600)
    world = worlds(Timeline(troubles=(trouble,)))
    _, refresher = await world.replica()
    await world.live(START + 2 * HOUR, refresher)
    assert len(world.requests) <= 8, "those that were under way when the first was refused"
    before = len(world.requests)
    await world.live(START + 5 * HOUR, refresher)
    assert before < len(world.requests) <= before + 8


async def test_absent_objects_are_not_asked_for_again_and_again(worlds: Any) -> None:
    world = worlds()
    strange = Need("tcb_info", world.platform.root, "tdx/ffffffffffff")
    store, refresher = await world.replica(wanted=[strange])
    await world.live(day(2), refresher)
    assert 8 <= len(world.requests) <= 10
    (health,) = (await diagnose(store, [strange])).objects
    assert (health.state, "nothing for this platform" in health.error) == ("missing", True)


async def test_another_source_steps_in(worlds: Any, tmp_path: Path) -> None:
    world = worlds(Timeline(troubles=(Trouble("refused", day(0), day(9)),)))
    folder = tmp_path / "files"
    folder.mkdir()
    for name, data in endorsements_to_files(world.maker.collateral("tdx", START)).items():
        (folder / name).write_bytes(data)
    store, _ = await world.replica()
    client = httpx2.AsyncClient(transport=VendorTransport(world.service))
    sources = [
        PcsSource("https://pcs.invalid", client),
        FolderSource(folder, store.authenticator.authenticate),
    ]
    store, refresher = await world.replica(sources=sources)
    await refresher.step()
    world.appraise(store).accept()
    assert {each.source for each in store.snapshot().stored.values()} == {str(folder)}
    (folder / "tcb_info.json").unlink()
    await client.aclose()


def test_budget_fills_up_again_and_is_never_negative() -> None:
    at = START
    budget = Budget("host", per_minute=60, burst=3, clock=lambda: at)
    for _ in range(3):
        budget.enter()
    with pytest.raises(Busy) as caught:
        budget.enter()
    assert caught.value.until == START + timedelta(seconds=1)
    at = caught.value.until
    budget.enter()
    budget.close(at + HOUR)
    at += 59 * timedelta(minutes=1)
    with pytest.raises(Busy, match="pause"):
        budget.enter()
    at -= DAY
    with pytest.raises(Busy):
        budget.enter()


async def test_platform_that_is_seen_gets_what_it_needs(worlds: Any) -> None:
    world = worlds()
    store, refresher = await world.replica(wanted=())
    await refresher.step()
    assert world.requests == []
    observer = Observer(store)
    evidence = parse_evidence(mint(world.maker, "sgx", b"x", at=START, ca="processor").quote, tee="sgx")
    assert await observer.observe(evidence)
    assert not await observer.observe(evidence)
    diagnosis = await diagnose(store)
    assert (diagnosis.healthy, diagnosis.platforms) == (False, 1)
    assert {each.state for each in diagnosis.objects} == {"missing"}
    await refresher.step()
    diagnosis = await diagnose(store)
    assert {each.state for each in diagnosis.objects} == {"ok"}
    assert all(each.platforms == 1 for each in diagnosis.objects)
    found = store.endorsements_for(evidence)
    Verifier(store.anchors).verify(evidence, found, at=START, report_data=b"x").accept()


@both
async def test_month_with_recovery_revocation_and_outage(worlds: Any) -> None:
    """A TCB recovery that is early first, a revocation, an outage: what is handed out is right at every step."""
    timeline = Timeline(
        recoveries=(Recovery(19, early=day(5), standard=day(12), advisories=("INTEL-SA-09999",)),),
        revocations=(Revocation("machine-1", day(20)),),
        troubles=(Trouble("refused", day(7), day(8)), Trouble("status", day(19), day(20) + 3 * HOUR)),
    )
    world = worlds(timeline)
    store, refresher = await world.replica(policy=RefreshPolicy(every=12 * HOUR))
    await world.live(day(4), refresher)
    world.appraise(store).accept()
    key = world.needs[0].key
    early = store.snapshot().early(key)
    assert early is not None
    assert early.subject.evaluation_number == 18
    await world.live(day(6), refresher)
    snapshot = store.snapshot()
    early = snapshot.early(key)
    assert early is not None
    assert (early.subject.evaluation_number, snapshot.stored[key].subject.evaluation_number) == (19, 18)
    world.appraise(store).accept()
    await world.live(day(7.5), refresher)
    assert (await diagnose(store, world.needs)).healthy
    assert any(each.error for each in (await diagnose(store, world.needs)).objects)
    await world.live(day(13), refresher)
    assert store.snapshot().stored[key].subject.evaluation_number == 19
    assert world.appraise(store).unverified.tcb_status == "OutOfDate"
    await world.live(day(20) + 2 * HOUR, refresher)
    assert "dcap.pck.revocation" not in failing(world.appraise(store)), "the outage hides it"
    (crl,) = (each for each in (await diagnose(store, world.needs)).objects if each.need.kind == "pck_crl")
    assert "503" in crl.error
    await world.live(day(21), refresher)
    assert "dcap.pck.revocation" in failing(world.appraise(store))
    # And as of any day before.
    past = await store.snapshot_at(day(11))
    evidence = parse_evidence(mint(world.maker, "tdx", b"x", at=day(11)).quote, tee="tdx")
    verifier = Verifier(store.anchors)
    verifier.verify(evidence, past.endorsements_for(evidence), at=day(11), report_data=b"x").accept()


async def test_folder_source_takes_only_what_is_proven(worlds: Any, tmp_path: Path) -> None:
    world = worlds()
    store, _ = await world.replica()
    strange = ChipMaker.create(START).collateral("tdx", START)
    for name, data in endorsements_to_files(strange).items():
        (tmp_path / name).write_bytes(data)
    assert len(load_endorsements(tmp_path).items) == 4
    source = FolderSource(tmp_path, store.authenticator.authenticate)
    for need in world.needs:
        if source.offers(need):
            with pytest.raises(Exception, match="has no"):
                await source.fetch(need)
    with pytest.raises(EndorsementError, match="pinned"):
        await store.put(strange)
