# SPDX-License-Identifier: Apache-2.0
"""Keeps what is needed fresh: ahead of expiry, each object once however many processes share the store, politely.

When an object is due, who fetches it and how the last attempt ended is in the database; a process that dies leaves a lease that
ends by itself. The clock and the waiting are handed in, so that tests let days pass in milliseconds.
"""

from __future__ import annotations

import asyncio
import logging
import random
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from eaa.endorser import fmspcs, leases, pck_store, platforms
from eaa.endorser.fetching import fetch_into
from eaa.endorser.http import Busy
from eaa.endorser.needs import FMSPCS, PCK_CERTIFICATES, Need
from eaa.rats import EaaError, NotFound, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from eaa.endorser.authenticity import Subject
    from eaa.endorser.metrics import Metrics
    from eaa.endorser.sources import Source
    from eaa.endorser.store import Store

__all__ = ["RefreshPolicy", "Refresher"]

_log: Final = logging.getLogger("eaa.endorser")
_STEADY: Final = frozenset({"snp_vcek", "snp_vlek", "snp_chain"})
"""What a chip maker says once and for all: asked for again only ahead of its end."""
_RARE: Final = frozenset({PCK_CERTIFICATES, FMSPCS})
"""What changes with a TCB recovery or a new product."""


@dataclass(frozen=True, slots=True)
class RefreshPolicy:
    """How often to ask.

    What can change any day is asked for ``every`` so often, what changes a few times a year ``rarely``, and everything at the latest when the fraction ``ahead`` of its
    lifetime is left; both vary by the fraction ``jitter``. A failure is tried again after ``first_retry``, then twice that, up to
    ``last_retry``; what nobody has, after ``absent``. A lease lasts ``lease``, an attempt at most ``timeout_seconds`` per source.
    """

    every: timedelta = timedelta(hours=6)
    rarely: timedelta = timedelta(days=1)
    ahead: float = 0.25
    jitter: float = 0.1
    first_retry: timedelta = timedelta(minutes=1)
    last_retry: timedelta = timedelta(hours=1)
    absent: timedelta = timedelta(hours=6)
    lease: timedelta = timedelta(minutes=5)
    idle: timedelta = timedelta(minutes=1)
    at_once: int = 8
    timeout_seconds: float = 30.0


class Refresher:
    """Keeps a store fresh from ``sources``: what it holds, what the platforms that were seen need, and ``wanted``."""

    def __init__(
        self,
        store: Store,
        sources: Sequence[Source],
        *,
        wanted: Iterable[Need] = (),
        policy: RefreshPolicy | None = None,
        metrics: Metrics | None = None,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        chance: random.Random | None = None,
    ) -> None:
        self._store = store
        self._sources = tuple(sources)
        self._wanted = tuple(wanted)
        self._policy = policy or RefreshPolicy()
        self._metrics = metrics
        self._sleep = sleep
        self._chance = chance or random.SystemRandom()
        self._owner = uuid4().hex

    async def run(self) -> None:
        """Refresh for ever. A database that cannot be used now is waited for."""
        while True:
            wait = self._policy.idle
            try:
                wait = min(wait, await self.step() - self._store.clock())
            except UnavailableError as error:
                _log.warning("nothing can be refreshed now: %s", error)
            await self._sleep(max(wait.total_seconds(), 0.05))

    async def needed(self) -> dict[str, Need]:
        """Return what is to be kept fresh, by name: what is held, seen or wanted, and offered by a source."""
        seen = await self._store.connections.read(platforms.listed)
        families = await self._store.connections.read(fmspcs.listed)
        every = (
            *self._wanted,
            *(Need(FMSPCS, root, "") for root in families),
            *self._store.snapshot().kept(),
            *(need for each in seen for need in each.needs()),
            *await self._store.connections.read(pck_store.needs),
        )
        return {each.name: each for each in every if any(source.offers(each) for source in self._sources)}

    async def step(self) -> datetime:
        """Fetch everything that is due now, and return when something is due next.

        :raises UnavailableError: when the database cannot be used now.
        """
        await self._store.sync()
        needed = await self.needed()
        connections = self._store.connections
        rows = await connections.read(leases.listed)
        at = self._store.clock()
        if new := needed.keys() - rows.keys():
            await connections.write(leases.enlist, new, at)
            rows = await connections.read(leases.listed)
        if gone := rows.keys() - needed.keys():
            await connections.write(leases.strike, gone)
        due = [need for name, need in needed.items() if max(rows[name].due, rows[name].lease_until) <= at]
        for start in range(0, len(due), self._policy.at_once):
            await self._refresh(due[start : start + self._policy.at_once], rows)
        rows = await connections.read(leases.listed)
        waiting = [max(row.due, row.lease_until) for name, row in rows.items() if name in needed]
        return min(waiting, default=at + self._policy.idle)

    async def _refresh(self, due: list[Need], rows: dict[str, leases.Refresh]) -> None:
        """Fetch a few objects at once, as far as no other process does."""
        write, at = self._store.connections.write, self._store.clock()
        names = [each.name for each in due]
        ours = await write(leases.claim, names, self._owner, at, at + self._policy.lease)
        async with asyncio.TaskGroup() as tasks:
            attempts = {
                need.name: tasks.create_task(self._attempt(need, rows[need.name]))
                for need in due
                if need.name in ours
            }
        ended = {name: {**each.result(), "tried_at": at} for name, each in attempts.items()}
        if ended:
            await write(leases.release, self._owner, ended)

    async def _attempt(self, need: Need, row: leases.Refresh) -> dict[str, Any]:
        """Fetch one object, and return what is to be written down about that."""
        at = self._store.clock()
        try:
            taken = await fetch_into(
                self._store, self._sources, need, timeout_seconds=self._policy.timeout_seconds
            )
        except EaaError as error:
            return self._failed(need, row, error)
        self._count(need, taken.outcome)
        return {
            "due": self._due(taken.subject, at),
            "failures": 0,
            "error": "",
            "remedy": "",
            "succeeded_at": at,
            "source": taken.source,
        }

    def _failed(self, need: Need, row: leases.Refresh, error: EaaError) -> dict[str, Any]:
        at = self._store.clock()
        self._count(need, error.code)
        if isinstance(error, Busy):
            # It is not the object's fault: whoever is told to wait, waits, and comes with others a little later.
            due, failures = error.until + self._varied(self._policy.first_retry) * 0.1, row.failures
        elif isinstance(error, NotFound) and row.succeeded_at is None:
            due, failures = at + self._varied(self._policy.absent), row.failures + 1
        else:
            failures = row.failures + 1
            pause = min(self._policy.first_retry * 2 ** min(row.failures, 16), self._policy.last_retry)
            due = at + self._varied(pause, 0.5)
        _log.info("not refreshed: %s: %s", need.name, error)
        return {
            "due": due,
            "failures": failures,
            "error": str(error)[:1000],
            "remedy": error.hint[:500],
            "succeeded_at": row.succeeded_at,
            "source": row.source,
        }

    def _due(self, subject: Subject, at: datetime) -> datetime:
        lifetime = subject.next_update - subject.issued
        latest = subject.next_update - lifetime * self._policy.ahead
        every = self._policy.rarely if subject.kind in _RARE else self._policy.every
        regular = latest if subject.kind in _STEADY else min(latest, at + every)
        # A vendor that issues nothing new is asked more often as the end comes near, but never all the time.
        soonest = at + min(every, max((subject.next_update - at) / 8, self._policy.last_retry))
        return max(at + self._varied(regular - at), min(soonest, at + every * (1 - self._policy.jitter)))

    def _varied(self, span: timedelta, jitter: float | None = None) -> timedelta:
        fraction = self._policy.jitter if jitter is None else jitter
        return span * (1 + self._chance.uniform(-fraction, fraction))

    def _count(self, need: Need, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.refreshed(need.kind, outcome)
