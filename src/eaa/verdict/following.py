# SPDX-License-Identifier: Apache-2.0
"""How sets are led to where an index of another Verdict has them, as statements on a connection whose transaction the caller holds.

The rules are those of :mod:`eaa.verdict.lifecycle`, whoever asks: a Verdict elsewhere can bring back nothing that was revoked here, and
make nothing active that is older than what was. An index that is older than the last one is refused whole.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import insert, select, update

from eaa.rats import AccessDenied, EaaError, NotFound
from eaa.storage.owner import lock_state
from eaa.verdict import store
from eaa.verdict.lifecycle import Action, State
from eaa.verdict.schema import sources

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from eaa.verdict.index import Index, Listed

__all__ = [
    "SourceState",
    "accept_older",
    "act_and_hold",
    "follow",
    "missing",
    "note_failure",
    "resume",
    "source_of",
    "sources_listed",
]

_STEPS: Final = {
    (State.PROPOSED, State.ACTIVE): Action.ACTIVATE,
    (State.RETIRED, State.ACTIVE): Action.ROLLBACK,
    (State.ACTIVE, State.RETIRED): Action.RETIRE,
    (State.PROPOSED, State.REVOKED): Action.REVOKE,
    (State.ACTIVE, State.REVOKED): Action.REVOKE,
    (State.RETIRED, State.REVOKED): Action.REVOKE,
}
"""What leads a set from where it stands here to where the index has it. A set that is proposed here need not be retired."""
_NONE: Final = -1
"""The sequence of a Verdict of which no index was followed."""


@dataclass(frozen=True, slots=True)
class SourceState:
    """How it stands with a Verdict that is subscribed to.

    ``error`` is empty when the last attempt went well, ``held`` unless somebody here went another way than the Verdict.
    """

    url: str
    sequence: int
    asked_at: datetime | None
    followed_at: datetime | None
    error: str
    held: str


def follow(connection: Connection, url: str, index: Index, cause: store.Cause) -> list[str]:
    """Lead the sets that are known here to where the index has them; return why some could not be led.

    What retires and revokes is done first, and older versions become active before newer ones.

    :raises AccessDenied: when the index is older than the last one of this Verdict, or the Verdict is held.
    """
    lock_state(connection)
    known = source_of(connection, url)
    if known.held:
        raise AccessDenied(
            f"{url} is not followed: {known.held}",
            check="index.held",
            hint=f"To follow it again: eaa verdict sources --resume {url}",
        )
    if index.sequence < known.sequence:
        raise AccessDenied(
            f"{url} sent index {index.sequence}, which is older than {known.sequence}",
            check="index.older",
            hint=f"If that Verdict was restored from a backup: eaa verdict sources --accept-older {url}",
        )
    refused = [reason for each in _ordered(connection, index) if (reason := _lead(connection, each, cause))]
    _write(
        connection,
        url,
        sequence=index.sequence,
        asked_at=cause.at,
        followed_at=cause.at,
        error="; ".join(refused)[:1000],
    )
    return refused


def _ordered(connection: Connection, index: Index) -> list[tuple[store.StoredSet, State]]:
    here = {each.digest: each for each in store.listed(connection)}
    wanted = [(here[each.digest], each.state) for each in index.sets if each.digest in here]
    return sorted(wanted, key=lambda each: (each[1] is State.ACTIVE, each[0].version))


def _lead(connection: Connection, wanted: tuple[store.StoredSet, State], cause: store.Cause) -> str:
    """Lead one set; return why it cannot be, or nothing. What others of the product are, the index says: none makes room."""
    found, state = wanted
    attempt = connection.begin_nested()
    try:
        if (action := _STEPS.get((found.state, state))) is not None:
            store.act(connection, found.digest, action, cause, alone=True)
        if found.state is State.REVOKED and state is not State.REVOKED:
            attempt.rollback()
            return f"{found.name} is revoked here, and {state} there"
    except EaaError as error:
        attempt.rollback()
        return str(error)
    attempt.commit()
    return ""


def missing(connection: Connection, index: Index) -> list[Listed]:
    """Return the sets of an index that are not here, but for those that were revoked before they ever were."""
    here = {each.digest for each in store.listed(connection)}
    return [each for each in index.sets if each.digest not in here and each.state is not State.REVOKED]


def source_of(connection: Connection, url: str) -> SourceState:
    """Return how it stands with one Verdict."""
    row = connection.execute(select(sources).where(sources.c.url == url)).one_or_none()
    return SourceState(url, _NONE, None, None, "", "") if row is None else SourceState(*row)


def sources_listed(connection: Connection) -> list[SourceState]:
    """Return every Verdict that was ever subscribed to, in order of address."""
    rows = connection.execute(select(sources)).all()
    return sorted((SourceState(*row) for row in rows), key=lambda each: each.url)


def note_failure(connection: Connection, url: str, error: str, at: datetime) -> None:
    """Write down that a Verdict could not be followed; what was followed before stays."""
    lock_state(connection)
    _write(connection, url, asked_at=at, error=error[:1000])


def act_and_hold(
    connection: Connection, digest: str, action: Action, cause: store.Cause, *, envelope: bytes
) -> store.StoredSet:
    """Do what somebody here asks for. Who retires a set or goes back to one holds the Verdict that the set came from.

    Its next index would otherwise undo that. A revoked set stays so whatever an index says.
    """
    found = store.act(connection, digest, action, cause, envelope=envelope)
    origin = store.history(connection, digest)[0].who
    if action in {Action.RETIRE, Action.ROLLBACK} and any(
        each.url == origin for each in sources_listed(connection)
    ):
        _write(connection, origin, held=f"{action} of {found.name} by {cause.who}")
    return found


def resume(connection: Connection, url: str) -> SourceState:
    """Follow a Verdict again that was held.

    :raises NotFound: when it is not subscribed to.
    """
    lock_state(connection)
    _require_known(connection, url)
    _write(connection, url, held="")
    return source_of(connection, url)


def _require_known(connection: Connection, url: str) -> None:
    if all(each.url != url for each in sources_listed(connection)):
        raise NotFound(f"{url[:200]} was never subscribed to", hint="`eaa verdict sources` lists them.")


def accept_older(connection: Connection, url: str) -> SourceState:
    """Let the next index of a Verdict be older than the last one, once.

    :raises NotFound: when it is not subscribed to.
    """
    lock_state(connection)
    _require_known(connection, url)
    _write(connection, url, sequence=_NONE)
    return source_of(connection, url)


def _write(connection: Connection, url: str, **values: Any) -> None:
    changed = connection.execute(update(sources).where(sources.c.url == url).values(values))
    if changed.rowcount == 0:
        connection.execute(
            insert(sources).values({"url": url, "sequence": _NONE, "error": "", "held": "", **values})
        )
