# SPDX-License-Identifier: Apache-2.0
"""Troubles of the chip maker's service: each as a client meets it, on its day and its paths only."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote_to_bytes

import pytest

from eaa.endorser.authenticity import Authenticator
from eaa.rats import EndorsementError, NotFound, UnavailableError
from eaa.simulator.timeline import Recovery, Timeline, Trouble

if TYPE_CHECKING:
    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
WorldOf = Callable[..., Any]
DAY_0: Final = datetime(2026, 11, 1, tzinfo=UTC)
DAY: Final = timedelta(days=1)
SECOND: Final = timedelta(seconds=1)
V4: Final = "/sgx/certification/v4"


def day(number: float) -> datetime:
    return DAY_0 + number * DAY


RECOVERY: Final = Recovery(19, early=day(5), standard=day(12), advisories=("INTEL-SA-09999",))


def trouble(kind: Any, **more: Any) -> Timeline:
    return Timeline(troubles=(Trouble(kind, day(1), day(2), **more),))


@pytest.mark.parametrize(
    ("timeline", "raised", "match"),
    [
        (trouble("refused"), UnavailableError, "cannot be reached: ConnectError"),
        (trouble("status"), UnavailableError, "answers 503"),
        (trouble("status", status=500), UnavailableError, "answers 500"),
        (trouble("status", status=404), NotFound, "nothing for this platform"),
        (trouble("budget", requests=3, seconds=60), UnavailableError, "answers 429"),
        (trouble("truncated"), EndorsementError, "/(tcb|identity|pckcrl|rootcacrl): "),
        (trouble("oversize"), EndorsementError, "more than 4194304 bytes"),
        (trouble("not-json"), EndorsementError, "/(tcb|identity|pckcrl|rootcacrl): "),
        (trouble("no-chain"), EndorsementError, "lacks the header"),
    ],
)
async def test_a_trouble_is_met_on_its_day_only(
    maker: ChipMaker, world_of: WorldOf, timeline: Timeline, raised: type[Exception], match: str
) -> None:
    world = world_of(maker, timeline, day(1) - SECOND)
    assert await world.status() == "UpToDate"
    for now in (day(1), day(2) - SECOND):
        world.at = now
        with pytest.raises(raised, match=match):
            await world.fetch()
    world.at = day(2)
    assert await world.status() == "UpToDate"


@pytest.mark.parametrize("kind", ["mis-signed", "impostor"])
async def test_others_signatures_are_told_from_genuine_ones(
    maker: ChipMaker, world_of: WorldOf, kind: Any
) -> None:
    world = world_of(maker, trouble(kind), day(1))
    authenticator = Authenticator((maker.trust_anchor(),))
    genuine_chain = {each.issuer_chain for each in maker.collateral("tdx", day(1)).items}
    for each in (await world.fetch()).items:
        with pytest.raises(EndorsementError):
            authenticator.authenticate(each)
        assert (each.issuer_chain in genuine_chain) == (kind == "mis-signed" or each.kind == "root_ca_crl")
    pck = await world.get(f"{V4}/pckcerts?qeid={maker.machine().qe_id.hex()}&pceid=0000")
    assert unquote_to_bytes(pck.json()[0]["cert"]) not in maker.machine().pck_chain


async def test_another_family_is_answered_for(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, trouble("wrong-fmspc", paths="*/tcb"), day(1))
    tcb_info = Authenticator((maker.trust_anchor(),)).authenticate((await world.fetch()).items[0])
    assert tcb_info.scope == "tdx/eaa0ff000000"
    with pytest.raises(ValueError, match="Fmspc mismatch"):
        await world.status()


async def test_a_stall_lets_collateral_expire(maker: ChipMaker, world_of: WorldOf) -> None:
    timeline = Timeline(troubles=(Trouble("stalled", day(1), day(60)),), recoveries=(RECOVERY,))
    world = world_of(maker, timeline, day(31) - SECOND)
    assert await world.status() == "UpToDate"
    world.at = day(31) + SECOND
    with pytest.raises(ValueError, match="TCBInfo expired"):
        await world.status()
    world.at = day(60)
    assert await world.status() == "OutOfDate"


async def test_a_replay_is_genuine_but_older(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, trouble("replayed", days=7), day(1))
    authenticator = Authenticator((maker.trust_anchor(),))
    assert {authenticator.authenticate(each).issued for each in (await world.fetch()).items} == {day(-6)}


async def test_slow_answers_wait_and_no_longer_than_told(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, trouble("slow", seconds=2.5), day(1))
    await world.get(f"{V4}/qe/identity")
    world.at = day(2)
    await world.get(f"{V4}/qe/identity")
    assert world.waits == [2.5]


async def test_a_budget_refills_and_says_when(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, trouble("budget", requests=2, seconds=10), day(1))
    statuses = []
    for _ in range(3):
        statuses.append((await world.get(f"{V4}/qe/identity")).status_code)
        world.at += 3 * SECOND
    assert statuses == [200, 200, 429]
    refused = await world.get(f"{V4}/qe/identity")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
    world.at += SECOND
    assert (await world.get(f"{V4}/qe/identity")).status_code == 200


async def test_a_trouble_is_met_on_its_paths_only(maker: ChipMaker, world_of: WorldOf) -> None:
    world = world_of(maker, trouble("status", status=429, retry_after=7, paths="/sgx/*/pckcrl"), day(1))
    refused = await world.get(f"{V4}/pckcrl?ca=platform")
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "7")
    assert (await world.get(f"{V4}/rootcacrl")).status_code == 200
