# SPDX-License-Identifier: Apache-2.0
"""The statements on the table of refreshes: what is due, who has taken it, how it ended.

A lease makes one of several processes fetch an object; it ends by itself, so a process that dies holds nobody up.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select, update

from eaa.endorser.schema import refreshes, state

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import Connection

__all__ = ["Refresh"]

_NEVER: Final = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Refresh:
    """How it stands with keeping one object fresh; ``error`` and ``remedy`` are of the last attempt, empty if it went well."""

    name: str
    due: datetime
    lease_until: datetime
    failures: int
    error: str
    remedy: str
    tried_at: datetime | None
    succeeded_at: datetime | None
    source: str


def listed(connection: Connection) -> dict[str, Refresh]:
    """Return every row by name."""
    c = refreshes.c
    columns = (
        c.name,
        c.due,
        c.lease_until,
        c.failures,
        c.error,
        c.remedy,
        c.tried_at,
        c.succeeded_at,
        c.source,
    )
    return {row.name: Refresh(*row) for row in connection.execute(select(*columns))}


def enlist(connection: Connection, names: Collection[str], due: datetime) -> None:
    """Add rows for ``names`` that have none. Who adds rows queues with everybody who writes."""
    connection.execute(select(state.c.version).with_for_update())
    known = set(connection.scalars(select(refreshes.c.name)))
    rows = [
        {
            "name": name,
            "due": due,
            "lease_owner": "",
            "lease_until": _NEVER,
            "failures": 0,
            "error": "",
            "remedy": "",
            "source": "",
        }
        for name in names
        if name not in known
    ]
    if rows:
        connection.execute(insert(refreshes), rows)


def hasten(connection: Connection, name: str, at: datetime) -> None:
    """Let an object that is kept fresh be due at once: what it could be asked for with has changed."""
    connection.execute(update(refreshes).where(refreshes.c.name == name).values(due=at))


def strike(connection: Connection, names: Collection[str]) -> None:
    """Remove the rows of what nobody needs any more."""
    for name in names:
        connection.execute(delete(refreshes).where(refreshes.c.name == name))


def claim(
    connection: Connection, names: Sequence[str], owner: str, at: datetime, until: datetime
) -> set[str]:
    """Take the leases of objects that are due, unless another process has them; return which are ours."""
    ours = set()
    for name in sorted(names):  # always in one order, so that two processes never wait for each other
        free = (refreshes.c.name == name) & (refreshes.c.due <= at) & (refreshes.c.lease_until <= at)
        claimed = connection.execute(
            update(refreshes).where(free).values(lease_owner=owner, lease_until=until)
        )
        if claimed.rowcount == 1:
            ours.add(name)
    return ours


def release(connection: Connection, owner: str, ended: dict[str, dict[str, Any]]) -> None:
    """Write down how attempts ended and give the leases back, as far as they are still ours."""
    for name in sorted(ended):
        ours = (refreshes.c.name == name) & (refreshes.c.lease_owner == owner)
        values = {**ended[name], "lease_owner": "", "lease_until": _NEVER}
        connection.execute(update(refreshes).where(ours).values(values))
