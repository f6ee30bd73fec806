# SPDX-License-Identifier: Apache-2.0
"""Connections: where the database is, and what differs between one engine and another.

SQLite has one writer at a time; readers never wait for it (write-ahead log). Transactions that write take the write lock at
their first statement, so that none fails half-way for having read first; within a process they queue for one connection.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, ParamSpec, Protocol, TypeVar

from sqlalchemy import create_engine, event, make_url
from sqlalchemy.exc import ArgumentError, DatabaseError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from eaa.rats import ConfigurationError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sqlalchemy import URL, Connection

__all__ = ["Connections", "open_connections"]

P = ParamSpec("P")
T = TypeVar("T")

DRIVERS: Final = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+asyncpg"}
BUSY_SECONDS: Final = 10.0
"""How long to wait for another process's transaction."""
READERS: Final = 4
_making: Final = threading.Lock()
"""Held while a new file's descriptor is open, so that no connection of this process can have locks on it."""


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
        _make_private(path)
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


def _make_private(path: Path) -> None:
    """Make the file unless it is there; SQLite's log and shared-memory file inherit its permissions.

    A file that is there must not be touched: whoever closes a descriptor of it loses every lock that the process has on it (POSIX
    fcntl, F_SETLK), SQLite's among them, and another process that closes the database would then delete the log under our hands.
    """
    with _making, suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600))


class Connections(Protocol):
    """Runs work on one database. Work is a plain function whose first argument is a connection."""

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that only SELECTs; each SELECT sees a snapshot of its own."""
        ...

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work in a transaction that commits when it returns and rolls back when it raises."""
        ...

    async def close(self) -> None:
        """Close every connection."""
        ...


async def open_connections(url: str) -> Connections:
    """Return connections to the database; a SQLite file is made if need be.

    :raises ConfigurationError: when the URL or the file cannot be used, or the driver is not installed.
    """
    location = locate(url)
    if location.get_backend_name() == "sqlite":
        await asyncio.to_thread(prepare_file, location)
        return FileConnections(location)
    try:
        return ServerConnections(location)
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"the driver for this database is not installed: {error.name}",
            hint=f"Install {error.name}, or use a sqlite:/// URL.",
        ) from error


class FileConnections:
    """SQLite: a transaction runs as a whole in a thread.

    One hand-over between threads per transaction, and not several per statement, makes this five times as fast as an
    asynchronous driver; and a transaction that has begun ends by itself when the task that waits for it is cancelled.
    """

    def __init__(self, location: URL) -> None:
        """Take the parsed URL; connections are made when they are needed."""
        self._readers = ThreadPoolExecutor(READERS, "storage-reader")
        self._writers = ThreadPoolExecutor(1, "storage-writer")
        self._reader = create_engine(
            location,
            hide_parameters=True,
            pool_size=READERS,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
            connect_args={"timeout": BUSY_SECONDS},
        )
        self._writer = create_engine(
            location, hide_parameters=True, pool_size=1, connect_args={"timeout": BUSY_SECONDS}
        )
        event.listen(self._reader, "connect", _prepare_reader)
        event.listen(self._writer, "connect", _prepare_writer)
        event.listen(self._writer, "begin", _begin_with_write_lock)

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that only SELECTs; each SELECT sees a snapshot of its own."""

        def run() -> T:
            with _translated(), self._reader.connect() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._readers, run)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work in a transaction. Within a process transactions that write come one after the other."""

        def run() -> T:
            with _translated(), self._writer.begin() as connection:
                return work(connection, *args, **kwargs)

        return await asyncio.get_running_loop().run_in_executor(self._writers, run)

    async def close(self) -> None:
        """Let running transactions end, then close every connection."""

        def run() -> None:
            self._readers.shutdown()
            self._writers.shutdown()
            self._reader.dispose()
            self._writer.dispose()

        await asyncio.to_thread(run)


def _prepare_reader(connection: sqlite3.Connection, _: object) -> None:
    connection.execute("PRAGMA query_only = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _prepare_writer(connection: sqlite3.Connection, _: object) -> None:
    connection.isolation_level = None  # the driver's own BEGIN is off; _begin_with_write_lock is on
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute("PRAGMA synchronous = FULL")  # a nonce that was spent stays spent when the power fails
    connection.execute("PRAGMA secure_delete = ON")
    connection.execute("PRAGMA trusted_schema = OFF")


def _begin_with_write_lock(connection: Connection) -> None:
    connection.exec_driver_sql("BEGIN IMMEDIATE")


class ServerConnections:
    """A database server, spoken to with an asynchronous driver."""

    def __init__(self, location: URL) -> None:
        """Take the parsed URL; connections are made when they are needed.

        :raises ModuleNotFoundError: when the driver is not installed.
        """
        from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - slow, and SQLite does without

        self._writer = create_async_engine(location, hide_parameters=True, pool_pre_ping=True)
        self._reader = create_async_engine(
            location,
            hide_parameters=True,
            pool_pre_ping=True,
            isolation_level="AUTOCOMMIT",
            skip_autocommit_rollback=True,
        )

    async def read(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work that only SELECTs; each SELECT sees a snapshot of its own."""
        with _translated():
            async with self._reader.connect() as connection:
                return await connection.run_sync(work, *args, **kwargs)

    async def write(
        self, work: Callable[Concatenate[Connection, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> T:
        """Run work in a transaction."""
        with _translated():
            async with self._writer.begin() as connection:
                return await connection.run_sync(work, *args, **kwargs)

    async def close(self) -> None:
        """Close every connection."""
        await self._reader.dispose()
        await self._writer.dispose()


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
    except DatabaseError as error:
        if type(error) is not DatabaseError:  # its subclasses are our mistakes, or what the caller waits for
            raise
        raise UnavailableError(
            f"the database is damaged: {error.orig}",
            hint="Stop every program that uses it and restore a backup.",
        ) from error
