# SPDX-License-Identifier: Apache-2.0
"""A change of who may sign is noticed without a change of any set."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest

from eaa.rats import ConfigurationError, UnavailableError
from eaa.verdict.signer_watch import SignerWatch

if TYPE_CHECKING:
    from eaa.verdict.signers import SignerPolicy

    from .desk import Desk

pytestmark = pytest.mark.anyio


async def test_a_change_is_counted_once(desk: Desk) -> None:
    broken: list[str] = []

    def signers() -> SignerPolicy:
        if broken:
            raise ConfigurationError("unsound")
        return desk.policy

    await desk.active(1)
    before = await desk.sets.state_version()
    watch = SignerWatch(signers, desk.sets.count_change)
    await watch.look()
    assert await desk.sets.state_version() == before
    desk.policy = desk.policy_of(desk.keys[1:2])
    await watch.look()
    await watch.look()
    assert await desk.sets.state_version() == before + 1
    broken.append("now")
    await watch.look()
    assert await desk.sets.state_version() == before + 2


async def test_what_cannot_be_written_down_is_tried_again(desk: Desk) -> None:
    looks: list[float] = []
    counted: list[int] = []

    async def changed() -> None:
        counted.append(len(looks))
        if len(looks) < 3:
            raise UnavailableError("the database is locked")

    async def sleep(seconds: float) -> None:
        looks.append(seconds)
        if len(looks) == 5:
            raise asyncio.CancelledError

    watch = SignerWatch(lambda: desk.policy, changed)
    desk.policy = desk.policy_of(desk.keys[1:2])
    with pytest.raises(asyncio.CancelledError):
        await watch.run(sleep=sleep)
    assert counted == [1, 2, 3]
    assert looks == [1.0] * 5
