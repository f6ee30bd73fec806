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
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, select, union, update

from eaa.endorser import history
from eaa.endorser.history import number_slot, slots_of
from eaa.endorser.schema import heads, objects, pck_certificates, platforms, state, versions
from eaa.rats import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
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
    for key, every in _by_key(history.history(connection, None)).items():
        leaving = _leaving(every, handed_out, retention, at)
        only_by_number += [each for each in every if each.id in leaving & handed_out.keys()]
        if dropped := leaving - handed_out.keys():
            gone += dropped
            pruned.versions[key] = len(dropped)
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


def _by_key(every: Iterable[Version]) -> dict[str, list[Version]]:
    found = defaultdict(list)
    for version in every:
        found[version.subject.key].append(version)
    return found


def _leaving(
    every: list[Version], handed_out: Mapping[int, set[str]], retention: Retention, at: datetime
) -> set[int]:
    """Return which versions of one object leave the history of their channel, by their ids.

    Versions of several channels share the history of a number: of each history a beginning leaves, or fewer do.
    """
    channels, slots = defaultdict(list), defaultdict(list)
    for version in every:
        channels[version.slot].append(version)
        for slot in slots_of(version):
            slots[slot].append(version)
    leaving = {
        version.id for chain in channels.values() for version in _superseded(chain, handed_out, retention, at)
    }
    while True:
        gone = leaving - handed_out.keys()
        misplaced = {
            version.id
            for slot, chain in slots.items()
            for version in _misplaced(chain, gone if slot.startswith("#") else leaving)
        }
        if not misplaced:
            return leaving
        leaving -= misplaced


def _misplaced(chain: list[Version], leaving: set[int]) -> list[Version]:
    """Return what cannot leave a history: something would stay that came before it or is older, and pass for it."""
    staying = [each for each in chain if each.id not in leaving]
    if not staying:
        return []
    oldest = min(map(_rank, staying))
    return [
        each for each in chain if each.id in leaving and (each.id > staying[0].id or _rank(each) > oldest)
    ]


def _superseded(
    chain: list[Version], handed_out: Mapping[int, set[str]], retention: Retention, at: datetime
) -> list[Version]:
    """Return the beginning of a channel's history that is beyond the limits: never what it hands out, or is in force."""
    count = 0
    for index, (version, following) in enumerate(pairwise(chain)):
        current = version.slot in handed_out.get(version.id, ())
        since = max(following.stored_at, following.subject.issued)
        beyond = _beyond(retention.history_days, since, at) or (
            retention.history_versions is not None and len(chain) - index > retention.history_versions
        )
        if current or version.subject.next_update >= at or not beyond:
            break
        count += 1
    return chain[:count]


def _rank(version: Version) -> tuple[int, datetime]:
    return version.subject.evaluation_number, version.subject.issued


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
