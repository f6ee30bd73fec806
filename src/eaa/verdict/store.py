# SPDX-License-Identifier: Apache-2.0
"""The rows of signed sets, as statements on a connection whose transaction the caller holds.

Every change locks the owner's state first (:mod:`eaa.storage.owner`) and makes its version grow: changes come one after the other, each
whole, and every Verdictd on the database sees them at its next request.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from sqlalchemy import delete, func, insert, select, update

from eaa.rats import NotFound, UnavailableError
from eaa.storage.owner import grow_state, lock_state
from eaa.verdict.lifecycle import Action, SetRefused, State, next_state
from eaa.verdict.schema import changes, provenance, sets, values

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection, Row

__all__ = [
    "Cause",
    "Change",
    "NewSet",
    "StoredSet",
    "act",
    "active_after",
    "having",
    "highest_active",
    "history",
    "keep_provenance",
    "kept_provenance",
    "listed",
    "one",
    "propose",
]


@dataclass(frozen=True, slots=True)
class NewSet:
    """A set that is proposed. ``envelope`` is the signed statement, byte for byte; ``digest`` is the statement's.

    ``supersedes`` is the version that makes room when the set becomes active.
    """

    digest: str
    product: str
    version: int
    tee: str
    envelope: bytes = field(repr=False)
    expires_at: datetime | None = None
    supersedes: int | None = None


@dataclass(frozen=True, slots=True)
class StoredSet(NewSet):
    """A set and where it stands; ``activated_at`` is when it first became active."""

    state: State = State.PROPOSED
    activated_at: datetime | None = None

    @property
    def name(self) -> str:
        """Product and version, as commands take them."""
        return f"{self.product}@{self.version}"


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that happened to a set: what, when, by whom, why, and the state that it led to."""

    at: datetime
    action: Action
    state: State
    who: str
    why: str


@dataclass(frozen=True, slots=True)
class Cause:
    """Who changes something, why, and when."""

    who: str
    why: str
    at: datetime


def propose(
    connection: Connection,
    new: NewSet,
    registers: Iterable[tuple[str, str]],
    cause: Cause,
    *,
    displace: str | None = None,
) -> StoredSet:
    """Add a set, whose values are ``registers``, as proposed.

    One that is there stays as it is, but for the envelope of a proposal, whose place the new one takes. ``displace``
    names another proposal that gives up its product and version to this one, as nobody has signed it.

    :raises SetRefused: when this very set was revoked, or another has its product and version.
    """
    lock_state(connection)
    known = _find(connection, new.digest)
    if known is None:
        if displace is not None:
            _forget(connection, displace)
        same = select(sets.c.digest).where(sets.c.product == new.product, sets.c.version == new.version)
        if connection.scalar(same) is not None:
            raise SetRefused(
                f"there is another set {new.product}@{new.version}",
                check="set.taken",
                hint="Give this one a higher version.",
            )
        row = {name: getattr(new, name) for name in NewSet.__slots__}
        connection.execute(insert(sets).values(**row, state=State.PROPOSED.value))
        connection.execute(
            insert(values),
            [{"value": value, "register": name, "digest": new.digest} for name, value in registers],
        )
        _note(connection, new.digest, Action.PROPOSE, State.PROPOSED, cause)
        grow_state(connection)
        return one(connection, new.digest)
    if known.state is State.REVOKED:
        next_state(known.state, Action.PROPOSE, known.name)
    if known.state is State.PROPOSED and known.envelope != new.envelope:
        connection.execute(
            update(sets)
            .where(sets.c.digest == new.digest)
            .values(envelope=new.envelope, expires_at=new.expires_at)
        )
        _note(connection, new.digest, Action.PROPOSE, State.PROPOSED, cause)
        grow_state(connection)
        return one(connection, new.digest)
    return known


def act(
    connection: Connection,
    digest: str,
    action: Action,
    cause: Cause,
    *,
    envelope: bytes | None = None,
    alone: bool = False,
) -> StoredSet:
    """Lead a set to its next state, and with it the sets that make room for it. All of it happens or nothing.

    An activation retires the version that the set supersedes; a rollback retires every newer one.

    :param alone: no other set makes room.
    :param envelope: what was verified before this transaction: it must still be the set's.
    :raises NotFound: when there is no such set.
    :raises SetRefused: when it may not go there.
    """
    lock_state(connection)
    found = one(connection, digest)
    if envelope is not None and envelope != found.envelope:
        raise UnavailableError(f"{found.name} is being signed again just now", hint="Try again.")
    state = next_state(found.state, action, found.name)
    if state is State.ACTIVE:
        if action is Action.ACTIVATE:
            _require_newest(connection, found)
        for other in () if alone else _making_room(connection, found, action):
            _lead(
                connection,
                other,
                Action.SUPERSEDE,
                State.RETIRED,
                Cause(cause.who, f"{action} {found.name}", cause.at),
            )
    _lead(connection, found, action, state, cause)
    grow_state(connection)
    return one(connection, digest)


def count_change(connection: Connection) -> None:
    """Count a change that is in no row: all who use the active sets read them again."""
    lock_state(connection)
    grow_state(connection)


def _forget(connection: Connection, digest: str) -> None:
    """Remove a proposal as if it had never been there."""
    if one(connection, digest).state is State.PROPOSED:
        for table in (values, changes, sets):
            connection.execute(delete(table).where(table.c.digest == digest))


def active_after(connection: Connection, digest: str, action: Action, cause: Cause) -> list[StoredSet]:
    """Return the sets that would be active after :func:`act`, and change nothing.

    :raises EaaError: as :func:`act` would.
    """
    attempt = connection.begin_nested()
    try:
        act(connection, digest, action, cause)
        return listed(connection, state=State.ACTIVE)
    finally:
        attempt.rollback()


def _require_newest(connection: Connection, found: StoredSet) -> None:
    highest = highest_active(connection, found.product)
    if highest is not None and found.version <= highest:
        raise SetRefused(
            f"{found.name} is not newer than version {highest}, which was active before",
            check="set.downgraded",
            hint=f"Give it a version above {highest}, or go back to an old set with: eaa verdict rollback.",
        )


def highest_active(connection: Connection, product: str) -> int | None:
    """Return the highest version of a product that was ever active."""
    statement = select(func.max(sets.c.version)).where(
        sets.c.product == product, sets.c.activated_at.is_not(None)
    )
    highest: int | None = connection.scalar(statement)
    return highest


def _making_room(connection: Connection, found: StoredSet, action: Action) -> list[StoredSet]:
    active = [
        each
        for each in listed(connection, product=found.product, state=State.ACTIVE)
        if each.digest != found.digest
    ]
    if action is Action.ROLLBACK:
        return [each for each in active if each.version > found.version]
    return [each for each in active if each.version == found.supersedes]


def _lead(connection: Connection, found: StoredSet, action: Action, state: State, cause: Cause) -> None:
    values: dict[str, Any] = {"state": state.value}
    if state is State.ACTIVE and found.activated_at is None:
        values["activated_at"] = cause.at
    connection.execute(update(sets).where(sets.c.digest == found.digest).values(values))
    _note(connection, found.digest, action, state, cause)


def _note(connection: Connection, digest: str, action: Action, state: State, cause: Cause) -> None:
    connection.execute(
        insert(changes).values(
            digest=digest, at=cause.at, action=action.value, state=state.value, who=cause.who, why=cause.why
        )
    )


def listed(
    connection: Connection, *, product: str | None = None, state: State | None = None
) -> list[StoredSet]:
    """Return sets in order of product and version."""
    statement = select(sets)
    if product is not None:
        statement = statement.where(sets.c.product == product)
    if state is not None:
        statement = statement.where(sets.c.state == state.value)
    found = [_stored(row) for row in connection.execute(statement).all()]
    return sorted(found, key=lambda each: (each.product, each.version))


def one(connection: Connection, digest: str) -> StoredSet:
    """Return one set.

    :raises NotFound: when there is none of that digest.
    """
    found = _find(connection, digest)
    if found is None:
        raise NotFound(f"there is no set {digest[:64]!r}", hint="`eaa verdict list` shows what there is.")
    return found


def having(connection: Connection, value: str) -> list[tuple[str, str]]:
    """Return the register and the set's digest wherever a value occurs."""
    statement = select(values.c.register, values.c.digest).where(values.c.value == value)
    return [(row.register, row.digest) for row in connection.execute(statement).all()]


def keep_provenance(connection: Connection, envelopes: Mapping[str, bytes]) -> None:
    """Keep envelopes by their digest; what is kept already stays."""
    lock_state(connection)
    known = kept_provenance(connection, envelopes)
    new = [{"digest": each, "envelope": data} for each, data in envelopes.items() if each not in known]
    if new:
        connection.execute(insert(provenance), new)


def kept_provenance(connection: Connection, digests: Iterable[str]) -> dict[str, bytes]:
    """Return those envelopes that are kept, by digest."""
    statement = select(provenance).where(provenance.c.digest.in_(list(digests)))
    return {row.digest: bytes(row.envelope) for row in connection.execute(statement).all()}


def history(connection: Connection, digest: str) -> list[Change]:
    """Return what happened to a set, first things first."""
    c = changes.c
    statement = select(c.at, c.action, c.state, c.who, c.why).where(c.digest == digest).order_by(c.id)
    return [
        Change(row.at, Action(row.action), State(row.state), row.who, row.why)
        for row in connection.execute(statement).all()
    ]


def _find(connection: Connection, digest: str) -> StoredSet | None:
    row = connection.execute(select(sets).where(sets.c.digest == digest)).one_or_none()
    return None if row is None else _stored(row)


def _stored(row: Row[Any]) -> StoredSet:
    return StoredSet(
        digest=row.digest,
        product=row.product,
        version=row.version,
        tee=row.tee,
        envelope=bytes(row.envelope),
        expires_at=row.expires_at,
        supersedes=row.supersedes,
        state=State(row.state),
        activated_at=row.activated_at,
    )
