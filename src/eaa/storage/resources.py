# SPDX-License-Identifier: Apache-2.0
"""Rows of resources, as statements on a connection whose transaction the caller holds."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import delete, func, insert, select, update

from eaa.rats import InputError, NotFound
from eaa.storage.records import Conflict, ResourceInfo, ResourceKind
from eaa.storage.schema import resources

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection


__all__ = ["SealedResource", "add", "check_path", "fetch", "listed", "put", "remove"]

SEGMENT: Final = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*")
SEGMENT_LIMIT: Final = 255


class SealedResource(NamedTuple):
    """A resource as it lies in the database."""

    kind: ResourceKind
    version: int
    sealed: bytes


def check_path(path: str) -> None:
    """Accept ``<repo>/<type>/<tag>``.

    :raises InputError: for anything else.
    """
    segments = path.split("/")
    if len(segments) != 3 or not all(
        len(segment) <= SEGMENT_LIMIT and SEGMENT.fullmatch(segment) for segment in segments
    ):
        raise InputError(
            f"{path[:200]!r} is no resource path",
            hint="Use <repo>/<type>/<tag>, each of letters, digits, '_', '-' and, not first, '.'; for example default/key/web.",
        )


def no_resource(path: str) -> NotFound:
    """Return the error that says that nothing is at ``path``."""
    return NotFound(f"no resource {path[:800]!r}", hint="`eaa resource list` shows what is stored.")


def fetch(connection: Connection, path: str) -> SealedResource:
    """Return the row.

    :raises NotFound: when there is none.
    """
    columns = select(resources.c.kind, resources.c.version, resources.c.sealed)
    row = connection.execute(columns.where(resources.c.path == path)).one_or_none()
    if row is None:
        raise no_resource(path)
    return SealedResource(row.kind, row.version, row.sealed)


def add(
    connection: Connection, path: str, sealed: bytes, *, kind: ResourceKind, size: int, at: datetime
) -> ResourceInfo:
    """Insert the row as version 1.

    :raises sqlalchemy.exc.IntegrityError: when there is one.
    """
    connection.execute(
        insert(resources).values(path=path, kind=kind, version=1, size=size, sealed=sealed, updated_at=at)
    )
    return ResourceInfo(path, kind, 1, size, at)


def put(
    connection: Connection, path: str, sealed: bytes, *, kind: ResourceKind, size: int, at: datetime
) -> ResourceInfo:
    """Update the row to the next version, or insert it.

    :raises Conflict: when the row is of another kind.
    :raises sqlalchemy.exc.IntegrityError: when someone else has inserted it meanwhile.
    """
    lock = select(resources.c.kind, resources.c.version).where(resources.c.path == path).with_for_update()
    row = connection.execute(lock).one_or_none()
    if row is None:
        return add(connection, path, sealed, kind=kind, size=size, at=at)
    if row.kind != kind:
        raise Conflict(
            f"{path!r} holds a {row.kind}, not a {kind}",
            hint="Choose another path, or delete what is there first; images encrypted under a deleted kek stay shut.",
        )
    connection.execute(
        update(resources)
        .where(resources.c.path == path)
        .values(version=row.version + 1, size=size, sealed=sealed, updated_at=at)
    )
    return ResourceInfo(path, kind, row.version + 1, size, at)


def listed(connection: Connection, prefix: str, kind: ResourceKind | None) -> list[ResourceInfo]:
    """Return the rows without content, in order of path."""
    c = resources.c
    statement = select(c.path, c.kind, c.version, c.size, c.updated_at)
    if prefix:
        statement = statement.where(func.substr(c.path, 1, len(prefix)) == prefix)
    if kind is not None:
        statement = statement.where(c.kind == kind)
    rows = connection.execute(statement).all()
    found = [ResourceInfo(row.path, row.kind, row.version, row.size, row.updated_at) for row in rows]
    return sorted(
        found, key=lambda info: info.path
    )  # here, because the order of text differs between databases


def remove(connection: Connection, path: str) -> None:
    """Delete the row.

    :raises NotFound: when there is none.
    """
    if connection.execute(delete(resources).where(resources.c.path == path)).rowcount == 0:
        raise no_resource(path)
