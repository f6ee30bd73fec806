# SPDX-License-Identifier: Apache-2.0
"""How much of the past is kept: what goes is what was asked for, and what stays is true."""

from __future__ import annotations

import asyncio
import tempfile
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select

from eaa.endorser import history, platforms
from eaa.endorser.authenticity import Subject
from eaa.endorser.history import Proven
from eaa.endorser.platforms import Observer
from eaa.endorser.retention import Pruned, Retention, prune, prune_daily
from eaa.endorser.schema import objects
from eaa.endorser.store import Store
from eaa.rats import ConfigurationError, Endorsement
from eaa.simulator import mint
from eaa.simulator.timeline import Recovery, Timeline
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from eaa.endorser.store import Snapshot
    from eaa.simulator import ChipMaker

START: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
both = pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)


async def lived(world: Any, days: int) -> Store:
    """Return a store that has taken a new set in every day, after a recovery in between."""
    store: Store
    store, refresher = await world.replica()
    for number in range(days):
        world.at = START + number * DAY
        await refresher.step()
        await refresher.step()
    return store


@both
@pytest.mark.anyio
async def test_days_within_the_limit_are_as_before_and_older_ones_are_gone(worlds: Any) -> None:
    world = worlds(Timeline(recoveries=(Recovery(19, early=START, standard=START + 5 * DAY),)))
    store = await lived(world, 60)
    now, limit = store.snapshot().slots, Retention(history_days=20)
    before = {number: (await store.snapshot_at(START + number * DAY)).slots for number in range(60)}
    would = await prune(store, limit, dry_run=True)
    assert {number: (await store.snapshot_at(START + number * DAY)).slots for number in range(60)} == before
    gone = await prune(store, limit)
    assert (gone.versions, sum(gone.versions.values()) > 20) == (would.versions, True)
    for number, slots in before.items():
        after = (await store.snapshot_at(START + number * DAY)).slots
        assert after.items() <= slots.items(), "what is left of a day is what that day had"
        if number >= 40:
            assert after == slots
    assert not (await prune(store, limit)).versions, "nothing is left to do"
    async with await Store.open(world.location, store.anchors) as again:
        assert again.snapshot().slots == now, "what is handed out stays, the number 18 among it"
    assert any(slot == "#18" for _, slot in now)
    contents = await store.connections.read(
        lambda c: c.scalars(select(func.count()).select_from(objects)).one()
    )
    kept = await store.history()
    assert contents == len({digest for each in kept for digest in (each.content, each.issuer_chain)})
    evidence = parse_evidence(mint(world.maker, "tdx", b"x", at=START + 45 * DAY).quote, tee="tdx")
    past = await store.snapshot_at(START + 45 * DAY)
    appraisal = Verifier(store.anchors).verify(
        evidence, past.endorsements_for(evidence), at=START + 45 * DAY, report_data=b"x"
    )
    assert appraisal.unverified.tcb_status == "OutOfDate"


@pytest.mark.anyio
async def test_what_is_in_force_stays_however_many_follow(worlds: Any) -> None:
    store = await lived(worlds(), 25)
    before = len(await store.history())
    assert not (await prune(store, Retention(history_days=1, history_versions=1))).versions
    assert len(await store.history()) == before, "all of it is valid for a month"
    store.clock = lambda: START + 400 * DAY
    await prune(store, Retention(history_versions=1))
    chains = {(each.subject.key, each.slot) for each in await store.history()}
    assert len(await store.history()) == len(chains)


@both
@pytest.mark.anyio
async def test_platforms_go_by_age_and_number(store: Store, maker: ChipMaker) -> None:
    for number in range(4):
        store.clock = lambda number=number: START + number * DAY  # type: ignore[misc]
        quote = maker.machine(f"machine-{number}").quote_tdx(b"x")
        await Observer(store).observe(parse_evidence(quote, tee="tdx"))
    names = [each.id for each in await store.connections.read(platforms.listed)]
    assert len(names) == 4
    assert (await prune(store, Retention(platforms_days=1), dry_run=True)).platforms == 3
    assert (await prune(store, Retention(platforms_days=3))).platforms == 1
    assert (await prune(store, Retention(platforms=1))).platforms == 2
    (left,) = await store.connections.read(platforms.listed)
    newest = parse_evidence(maker.machine("machine-3").quote_tdx(b"x"), tee="tdx")
    assert not await Observer(store).observe(newest), "it is the one that was seen last"
    assert left.id in names


@pytest.mark.parametrize("limit", [{"history_days": 0}, {"history_versions": -1}, {"platforms": 0}])
def test_limits_are_at_least_one(limit: dict[str, int]) -> None:
    assert Retention().keeps_all
    with pytest.raises(ConfigurationError):
        Retention(**limit)


@pytest.mark.anyio
async def test_server_prunes_every_day(worlds: Any) -> None:
    store = await lived(worlds(), 3)
    store.clock = lambda: START + 400 * DAY
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await prune_daily(store, Retention(history_versions=1), sleep=sleep)
    assert slept == [86400.0, 86400.0]
    chains = {(each.subject.key, each.slot) for each in await store.history()}
    assert len(await store.history()) == len(chains)


@pytest.mark.anyio
async def test_who_reads_while_somebody_prunes_reads_again(
    worlds: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = await lived(worlds(), 3)
    store.clock = lambda: START + 400 * DAY
    read = store.connections.read
    pruned: list[Pruned] = []

    async def interrupted(work: Any, *args: Any, **kwargs: Any) -> Any:
        if work is history.contents and not pruned:
            pruned.append(await prune(store, Retention(history_versions=1)))
        return await read(work, *args, **kwargs)

    monkeypatch.setattr(store.connections, "read", interrupted)
    past = await store.snapshot_at(START)
    assert pruned[0].versions
    assert not any(each.subject.kind == "tcb_info" for each in past.stored.values()), "that day is gone"


PUTS: Final = st.lists(
    st.tuples(
        st.integers(0, 60),  # the day
        st.integers(0, 3),  # issued so many days before
        st.integers(1, 30),  # lasts so many days
        st.integers(1, 3),  # evaluation number
        st.sampled_from(["standard", "early", "#2"]),
        st.booleans(),
    ),
    max_size=25,
)


@settings(max_examples=60)
@given(PUTS, st.none() | st.integers(1, 40), st.none() | st.integers(1, 5), st.integers(0, 90), st.booleans())
def test_any_history_keeps_its_promises(
    puts: list[Any],
    days: int | None,
    number: int | None,
    today: int,
    stored: bool,  # noqa: FBT001 - Hypothesis gives it
) -> None:
    """Whatever came in: each day has what it had or less, within the limit all of it, and what is handed out stays."""

    async def check() -> None:
        with tempfile.TemporaryDirectory() as folder:
            async with await Store.open(folder) as store:
                await _put_all(store, puts)
                at = START + today * DAY
                store.clock = lambda: at
                moments = [START + each * DAY / 2 for each in range(140)]
                before = [await _as_of(store, each, stored=stored) for each in moments]
                now = store.snapshot().slots
                await prune(store, Retention(history_days=days, history_versions=number))
                for moment, slots in zip(moments, before, strict=True):
                    after = await _as_of(store, moment, stored=stored)
                    assert after.items() <= slots.items()
                    if number is None and days is not None and at - days * DAY <= moment <= at:
                        assert after == slots
                async with await Store.open(folder) as again:
                    assert again.snapshot().slots == now

    asyncio.run(check())


async def _put_all(store: Store, puts: list[Any]) -> None:
    for index, (day, before, lasts, evaluation, slot, force) in enumerate(
        sorted(puts, key=lambda each: each[0])
    ):
        issued = START + (day - before) * DAY
        subject = Subject("tcb_info", "root", "tdx/00", issued, issued + lasts * DAY, evaluation)
        proven = Proven(Endorsement("tcb_info", str(index).encode()), subject)
        slot_ = f"#{evaluation}" if slot.startswith("#") else slot
        await store.connections.write(
            history.put, [proven], slot=slot_, source="test", at=START + day * DAY, force=force
        )
    await store.sync()


async def _as_of(store: Store, at: datetime, *, stored: bool) -> dict[Any, Any]:
    snapshot: Snapshot = await store.snapshot_at(at, stored=stored)
    return dict(snapshot.slots)
