# SPDX-License-Identifier: Apache-2.0
"""The statements on the tables of endorsements. Each function runs in a transaction that :mod:`eaa.storage.connections` has begun."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import sha256
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import insert, select, update

from eaa.endorser.authenticity import CHANNELLED, Subject
from eaa.endorser.schema import heads, objects, state, versions

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence
    from datetime import datetime
    from typing import Any

    from sqlalchemy import Connection, Row, Select

    from eaa.rats import Endorsement

__all__ = [
    "API_V3",
    "EARLY",
    "STANDARD",
    "VLEK",
    "Outcome",
    "Proven",
    "Version",
    "keep",
    "number_slot",
    "slots_of",
]

STANDARD: Final = "standard"
EARLY: Final = "early"
API_V3: Final = "v3"
"""The slot of SGX TCB info in the form of version 3 of Intel's API, which version 4 cannot be turned into: it is signed apart."""
VLEK: Final = "vlek"
"""The slot of the list that AMD publishes where the certificates of its authorities for VLEKs point: the root's, as the other one is."""
_BATCH: Final = 500


def number_slot(number: int) -> str:
    """Return the slot of one TCB evaluation data number."""
    return f"#{number}"


class Outcome(StrEnum):
    """What became of an endorsement that was put into the store."""

    ADDED = "added"
    REPLACED = "replaced"
    UNCHANGED = "unchanged"
    KEPT_NEWER = "kept-newer"


class Proven(NamedTuple):
    """An authentic endorsement, and what it is about."""

    endorsement: Endorsement
    subject: Subject


@dataclass(frozen=True, slots=True)
class Version:
    """One version of an endorsement: contents by digest, and how it came here.

    ``slot`` is where it is handed out (in a listing of the history: the channel through which it came).
    """

    id: int
    subject: Subject
    slot: str
    content: bytes
    issuer_chain: bytes
    stored_at: datetime
    source: str
    forced: bool


def put(
    connection: Connection, items: Sequence[Proven], *, slot: str, source: str, at: datetime, force: bool
) -> list[Outcome]:
    """Take all ``items`` in below ``slot``, and return what became of each. Writers queue here, in every process."""
    connection.execute(select(state.c.version).with_for_update())
    outcomes = [_put(connection, each, slot, source, at, force=force) for each in items]
    if not {Outcome.ADDED, Outcome.REPLACED}.isdisjoint(outcomes):
        connection.execute(update(state).values(version=state.c.version + 1))
    return outcomes


def _put(
    connection: Connection, item: Proven, slot: str, source: str, at: datetime, *, force: bool
) -> Outcome:
    endorsement, subject = item
    apart = subject.kind in CHANNELLED or (subject.kind, slot) == ("snp_crl", VLEK)
    slot = slot if apart else STANDARD
    content, chain = (sha256(part).digest() for part in (endorsement.content, endorsement.issuer_chain))
    held = _head(connection, subject.key, slot)
    outcome = _outcome(held, subject, (content, chain), force=force)
    if outcome not in {Outcome.ADDED, Outcome.REPLACED}:
        return outcome
    keep(connection, {content: endorsement.content, chain: endorsement.issuer_chain})
    added = connection.execute(
        insert(versions).values(
            key=subject.key,
            kind=subject.kind,
            root=subject.root,
            scope=subject.scope,
            channel=slot,
            issued=subject.issued,
            next_update=subject.next_update,
            evaluation_number=subject.evaluation_number,
            content=content,
            issuer_chain=chain,
            stored_at=at,
            source=source,
            forced=force and outcome is Outcome.REPLACED,
        )
    )
    assert added.inserted_primary_key is not None
    (identity,) = added.inserted_primary_key
    _point(connection, subject.key, slot, identity)
    numbered = number_slot(subject.evaluation_number)
    if subject.kind in CHANNELLED and slot not in {numbered, API_V3}:
        same = _head(connection, subject.key, numbered)
        if _outcome(same, subject, (content, chain), force=force) in {Outcome.ADDED, Outcome.REPLACED}:
            _point(connection, subject.key, numbered, identity)
    return outcome


def _outcome(held: Version | None, new: Subject, digests: tuple[bytes, bytes], *, force: bool) -> Outcome:
    if held is None:
        return Outcome.ADDED
    if (held.content, held.issuer_chain) == digests:
        return Outcome.UNCHANGED
    old = held.subject
    older = new.issued < old.issued or new.evaluation_number < old.evaluation_number
    return Outcome.KEPT_NEWER if older and not force else Outcome.REPLACED


def keep(connection: Connection, contents: dict[bytes, bytes]) -> None:
    """Keep contents under their digests, as far as they are not there yet. Who calls this queues with everybody who writes."""
    known = set(connection.scalars(select(objects.c.digest).where(objects.c.digest.in_(contents))))
    new = [{"digest": each, "content": contents[each]} for each in contents if each not in known]
    if new:
        connection.execute(insert(objects), new)


def _point(connection: Connection, key: str, slot: str, version: int) -> None:
    where = (heads.c.key == key) & (heads.c.slot == slot)
    if not connection.execute(update(heads).where(where).values(version_id=version)).rowcount:
        connection.execute(insert(heads).values(key=key, slot=slot, version_id=version))


def _head(connection: Connection, key: str, slot: str) -> Version | None:
    row = connection.execute(_current().where((heads.c.key == key) & (heads.c.slot == slot))).one_or_none()
    return _version(row) if row is not None else None


def change_number(connection: Connection) -> int:
    """Return the number that grows whenever what is handed out changes."""
    number: int = connection.scalars(select(state.c.version)).one()
    return number


def current(connection: Connection) -> list[Version]:
    """Return what is in each slot now."""
    return [_version(row) for row in connection.execute(_current())]


def contents(connection: Connection, digests: Collection[bytes]) -> dict[bytes, bytes]:
    """Return the contents with these digests, as far as they are there."""
    found: dict[bytes, bytes] = {}
    wanted = list(digests)
    for start in range(0, len(wanted), _BATCH):
        some = wanted[start : start + _BATCH]
        rows = connection.execute(select(objects).where(objects.c.digest.in_(some)))
        found.update((row.digest, row.content) for row in rows)
    return found


def history(connection: Connection, key: str | None) -> list[Version]:
    """Return every version of one subject, or of all, in the order in which they came."""
    statement = select(versions, versions.c.channel.label("slot")).order_by(versions.c.id)
    if key is not None:
        statement = statement.where(versions.c.key == key)
    return [_version(row) for row in connection.execute(statement)]


def as_of(connection: Connection, at: datetime, *, stored: bool) -> list[Version]:
    """Return what was in each slot on a day: what had been stored by then, or else what had been issued by then."""
    statement = select(versions, versions.c.channel.label("slot")).order_by(versions.c.id)
    statement = statement.where((versions.c.stored_at if stored else versions.c.issued) <= at)
    slots: dict[tuple[str, str], Version] = {}
    for version in map(_version, connection.execute(statement)):
        for slot in slots_of(version):
            place = (version.subject.key, slot)
            held = slots.get(place)
            # What was stored is replayed with its forced steps; what was issued is ordered by its own dates.
            if held is None or (stored and version.forced) or not _older(version, held):
                slots[place] = replace(version, slot=slot)
    return list(slots.values())


def slots_of(version: Version) -> Iterable[str]:
    """Yield the slots in whose history a version is: that of its channel, and that of its number."""
    yield version.slot
    if version.subject.kind in CHANNELLED and version.slot in {STANDARD, EARLY}:
        yield number_slot(version.subject.evaluation_number)


def _older(new: Version, held: Version) -> bool:
    one, other = new.subject, held.subject
    return (one.evaluation_number, one.issued) < (other.evaluation_number, other.issued)


def _current() -> Select[Any]:
    return select(versions, heads.c.slot).join_from(heads, versions)


def _version(row: Row[Any]) -> Version:
    subject = Subject(row.kind, row.root, row.scope, row.issued, row.next_update, row.evaluation_number)
    return Version(
        row.id, subject, row.slot, row.content, row.issuer_chain, row.stored_at, row.source, row.forced
    )
