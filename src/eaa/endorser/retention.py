# SPDX-License-Identifier: Apache-2.0
"""How much of the past is kept: everything, unless an operator sets limits.

A version may go once a later one of its channel has taken its place for long enough. What is handed out in any slot stays, and so
does what is still in force; and of a channel's history only the beginning goes, never a piece out of the middle: a day whose
collateral is gone has none, and never that of another day.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, union, update

from eaa.endorser import history
from eaa.endorser.history import number_slot
from eaa.endorser.schema import heads, objects, pck_certificates, platforms, state, versions
from eaa.rats import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Sequence
    from datetime import datetime

    from sqlalchemy import Column, Connection, Table

    from eaa.endorser.history import Version
    from eaa.endorser.store import Store

__all__ = ["Pruned", "Retention", "prune", "prune_daily"]

_log: Final = logging.getLogger("eaa.endorser")
_BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Retention:
    """The limits; None is none. With several, what is beyond any of them goes.

    With ``history_days``, evidence can be judged again as of any day of so many. With ``history_versions``, of each object and
    channel so many versions are kept. ``platforms_days`` and ``platforms`` limit for how long platforms are remembered that were
    seen, and how many of them, the last ones first.

    :raises ConfigurationError: when a limit is less than 1.
    """

    history_days: int | None = None
    history_versions: int | None = None
    platforms_days: int | None = None
    platforms: int | None = None

    def __post_init__(self) -> None:
        limits = (self.history_days, self.history_versions, self.platforms_days, self.platforms)
        if any(each is not None and each < 1 for each in limits):
            raise ConfigurationError(
                "a limit of what is kept is at least 1", hint="Leave it out to keep all."
            )

    @property
    def keeps_all(self) -> bool:
        """Whether there is no limit at all."""
        return self == Retention()


@dataclass(slots=True)
class Pruned:
    """What has gone, or would: versions by the key of their subject, and numbers of certificates, platforms and contents."""

    versions: dict[str, int] = field(default_factory=dict)
    certificates: int = 0
    platforms: int = 0
    contents: int = 0


async def prune(store: Store, retention: Retention, *, dry_run: bool = False) -> Pruned:
    """Remove what is beyond the limits, all in one transaction; with ``dry_run`` only say what that would be.

    :raises UnavailableError: when the database cannot be written.
    """
    pruned = Pruned()
    if dry_run:
        await store.connections.read(_mark, retention, store.clock(), pruned)
    else:
        await store.connections.write(_sweep, retention, store.clock(), pruned)
    return pruned


async def prune_daily(
    store: Store, retention: Retention, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep
) -> None:
    """Prune every day, for ever. A database that cannot be used now is tried again the next day."""
    while True:
        try:
            pruned = await prune(store, retention)
            _log.info("pruned %d versions, %d platforms", sum(pruned.versions.values()), pruned.platforms)
        except UnavailableError as error:
            _log.warning("nothing could be pruned: %s", error)
        await sleep(timedelta(days=1).total_seconds())


def _mark(
    connection: Connection, retention: Retention, at: datetime, pruned: Pruned
) -> tuple[list[int], list[Version], list[int], list[str]]:
    """Find what is to go: versions, versions that stay for their number's sake only, certificates and platforms."""
    handed_out = defaultdict(set)
    for row in connection.execute(select(heads)):
        handed_out[row.version_id].add(row.slot)
    gone: list[int] = []
    only_by_number: list[Version] = []
    for chain in _by_channel(history.history(connection, None)):
        for version in _superseded(chain, handed_out, retention, at):
            if version.id in handed_out:
                only_by_number.append(version)
            else:
                gone.append(version.id)
                key = version.subject.key
                pruned.versions[key] = pruned.versions.get(key, 0) + 1
    certificates = _certificates(connection, retention, at)
    unseen = _platforms(connection, retention, at)
    pruned.certificates, pruned.platforms = len(certificates), len(unseen)
    return gone, only_by_number, certificates, unseen


def _sweep(connection: Connection, retention: Retention, at: datetime, pruned: Pruned) -> None:
    """Remove it. Who removes queues with everybody who writes, so that no content goes that comes back at that moment."""
    connection.execute(select(state.c.version).with_for_update())
    gone, only_by_number, certificates, unseen = _mark(connection, retention, at, pruned)
    for version in only_by_number:
        # Its place in the channel's history is lost with its neighbours; that of its number is not.
        numbered = number_slot(version.subject.evaluation_number)
        connection.execute(update(versions).where(versions.c.id == version.id).values(channel=numbered))
    _delete(connection, versions, versions.c.id, gone)
    _delete(connection, pck_certificates, pck_certificates.c.id, certificates)
    _delete(connection, platforms, platforms.c.id, unseen)
    used = union(
        *(
            select(column)
            for table in (versions, pck_certificates)
            for column in (table.c.content, table.c.issuer_chain)
        )
    )
    pruned.contents = connection.execute(delete(objects).where(objects.c.digest.not_in(used))).rowcount


def _by_channel(every: Iterable[Version]) -> Iterable[list[Version]]:
    chains = defaultdict(list)
    for version in every:
        chains[version.subject.key, version.slot].append(version)
    return chains.values()


def _superseded(
    chain: list[Version], handed_out: dict[int, set[str]], retention: Retention, at: datetime
) -> Iterable[Version]:
    """Yield the beginning of a channel's history that is beyond the limits: never what it hands out, or is in force."""
    for index, version in enumerate(chain[:-1]):
        current = version.slot in handed_out.get(version.id, ())
        if current or version.subject.next_update >= at:
            return
        following = chain[index + 1]
        since = max(following.stored_at, following.subject.issued)
        if not _beyond(retention.history_days, since, at) and not (
            retention.history_versions is not None and len(chain) - index > retention.history_versions
        ):
            return
        yield version


def _certificates(connection: Connection, retention: Retention, at: datetime) -> list[int]:
    """Return the PCK certificates whose place a later one of the same TCB has taken for long enough."""
    c = pck_certificates.c
    chains = defaultdict(list)
    for row in connection.execute(select(c.id, c.qe_id, c.pce_id, c.tcbm, c.stored_at).order_by(c.id)):
        chains[row.qe_id, row.pce_id, row.tcbm].append(row)
    return [
        row.id
        for chain in chains.values()
        for index, row in enumerate(chain[:-1])
        if _beyond(retention.history_days, chain[index + 1].stored_at, at)
        or (retention.history_versions is not None and len(chain) - index > retention.history_versions)
    ]


def _platforms(connection: Connection, retention: Retention, at: datetime) -> list[str]:
    """Return the platforms that were not seen for too long, or are too many."""
    c = platforms.c
    seen = list(connection.execute(select(c.id, c.last_seen).order_by(c.last_seen.desc(), c.id)))
    return [
        row.id
        for index, row in enumerate(seen)
        if _beyond(retention.platforms_days, row.last_seen, at)
        or (retention.platforms is not None and index >= retention.platforms)
    ]


def _beyond(days: int | None, since: datetime, at: datetime) -> bool:
    return days is not None and since <= at - timedelta(days=days)


def _delete(connection: Connection, table: Table, column: Column[Any], values: Sequence[int | str]) -> None:
    for start in range(0, len(values), _BATCH):
        connection.execute(delete(table).where(column.in_(values[start : start + _BATCH])))
