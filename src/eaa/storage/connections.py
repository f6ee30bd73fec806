# SPDX-License-Identifier: Apache-2.0
"""Connections: where the database is, and what differs between one engine and another.

SQLite has one writer at a time; readers never wait for it (write-ahead log). Transactions that write take the write lock at
their first statement, so that none fails half-way for having read first; within a process they queue for one connection.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import event, make_url
from sqlalchemy.exc import ArgumentError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from eaa.rats import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import URL, Connection
    from sqlalchemy.engine.interfaces import DBAPIConnection
    from sqlalchemy.pool import ConnectionPoolEntry

__all__ = ["Connections", "locate", "prepare_file", "write_engine"]

DRIVERS: Final = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}
BUSY_SECONDS: Final = 10.0
"""How long to wait for another process's transaction."""
READERS: Final = 4


def locate(url: str) -> URL:
    """Return the parsed URL with the driver that EAA uses.

    :raises ConfigurationError: when it is no URL of a database that EAA can keep its state in.
    """
    try:
        parsed = make_url(url)
    except (ArgumentError, ValueError):
        parsed = None
    backend = parsed.get_backend_name() if parsed else ""
    if parsed is None or backend not in DRIVERS:
        raise ConfigurationError(  # the URL may hold a password: it is not repeated
            f"no database of kind {backend!r} can be used" if backend else "the database URL cannot be read",
            hint="Give sqlite:////absolute/path.db, or postgresql://user@host/name.",
        )
    if backend == "sqlite" and (parsed.database or ":memory:") == ":memory:":
        raise ConfigurationError(
            "a database in memory would lose every key when the process ends",
            hint="Give a file: sqlite:////absolute/path.db.",
        )
    return parsed.set(drivername=DRIVERS[backend])


def prepare_file(url: URL) -> None:
    """Make the SQLite file, readable by its owner only, and switch it to the write-ahead log. Blocks; for SQLite only.

    :raises ConfigurationError: when the file cannot be made or is not a database.
    """
    path = Path(url.database or "")
    try:
        # The log and the shared-memory file inherit these permissions.
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise ConfigurationError(
            f"cannot open the database {path}: {error.strerror}",
            hint="The folder must exist and belong to the user that runs this program.",
        ) from error
    deadline = time.monotonic() + BUSY_SECONDS
    with closing(sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)) as connection:
        while True:
            try:
                connection.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as error:
                # Two processes that switch at once: one is told "locked" at once, whatever the timeout.
                if error.sqlite_errorcode != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                    raise UnavailableError(
                        f"the database {path} cannot be used now: {error}",
                        hint="See whether another program holds it, and whether the disk is full or read-only.",
                    ) from error
                time.sleep(0.02)
            except sqlite3.DatabaseError as error:
                raise ConfigurationError(
                    f"{path} is not a usable database: {error}",
                    hint="Restore the file from a backup, or name another one.",
                ) from error
            else:
                return


def write_engine(url: URL) -> AsyncEngine:
    """Return an engine for transactions that write."""
    if url.get_backend_name() != "sqlite":
        return create_async_engine(url, hide_parameters=True, pool_pre_ping=True)
    engine = create_async_engine(
        url, hide_parameters=True, pool_size=1, max_overflow=0, connect_args={"timeout": BUSY_SECONDS}
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        connection.isolation_level = None  # the driver's own BEGIN is off; the one below is on
        _set_pragmas(
            connection,
            "foreign_keys = ON",
            "synchronous = FULL",  # a nonce that was spent stays spent when the power fails
            "secure_delete = ON",
            "trusted_schema = OFF",
        )

    @event.listens_for(engine.sync_engine, "begin")
    def on_begin(connection: Connection) -> None:
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    return engine


def read_engine(url: URL) -> AsyncEngine:
    """Return an engine for single SELECTs, each its own snapshot, without the round trips of a transaction."""
    if url.get_backend_name() != "sqlite":
        return create_async_engine(
            url,
            hide_parameters=True,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
        )
    engine = create_async_engine(
        url,
        hide_parameters=True,
        pool_size=READERS,
        max_overflow=0,
        isolation_level="AUTOCOMMIT",
        skip_autocommit_rollback=True,
        connect_args={"timeout": BUSY_SECONDS},
    )

    @event.listens_for(engine.sync_engine, "connect")
    def on_connect(connection: DBAPIConnection, _: ConnectionPoolEntry) -> None:
        _set_pragmas(connection, "query_only = ON", "trusted_schema = OFF")

    return engine


def _set_pragmas(connection: Any, *pragmas: str) -> None:
    cursor = connection.cursor()
    for pragma in pragmas:
        cursor.execute(f"PRAGMA {pragma}")
    cursor.close()


@contextmanager
def _translated() -> Iterator[None]:
    """Say what the database cannot do now as :class:`UnavailableError`; what we did wrong stays the exception it is."""
    try:
        yield
    except (OperationalError, InterfaceError, PoolTimeoutError, OSError) as error:
        reason = error.orig if isinstance(error, OperationalError | InterfaceError) else error
        raise UnavailableError(
            f"the database cannot be used now: {reason}",
            hint="See whether another program holds it, and whether it runs and its disk has room.",
        ) from error


@dataclass(frozen=True, slots=True)
class Connections:
    """The two engines of one database."""

    reader: AsyncEngine
    writer: AsyncEngine

    @classmethod
    async def open(cls, url: str) -> Connections:
        """Return engines for the database; a SQLite file is made if need be.

        :raises ConfigurationError: when the URL or the file cannot be used, or the driver is not installed.
        """
        location = locate(url)
        if location.get_backend_name() == "sqlite":
            await asyncio.to_thread(prepare_file, location)
        try:
            return cls(read_engine(location), write_engine(location))
        except ModuleNotFoundError as error:
            raise ConfigurationError(
                f"the driver for this database is not installed: {error.name}",
                hint=f"Install {error.name}, or use a sqlite:/// URL.",
            ) from error

    async def close(self) -> None:
        """Close every connection."""
        await self.reader.dispose()
        await self.writer.dispose()

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection for one SELECT."""
        with _translated():
            async with self.reader.connect() as connection:
                yield connection

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[AsyncConnection]:
        """Yield a connection in a transaction that commits at the end, or rolls back when an exception leaves the block."""
        with _translated():
            async with self.writer.begin() as connection:
                yield connection
