# SPDX-License-Identifier: Apache-2.0
"""Bring a database to the newest tables, once, however many processes try."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, func, inspect, select, table

from eaa.rats import ConfigurationError
from eaa.storage.connections import open_connections

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from eaa.storage.connections import Connections

__all__ = ["STATE", "Steps", "migrate"]


@dataclass(frozen=True, slots=True)
class Steps:
    """A sequence of migrations: where its steps lie (``package:folder``), the newest one, and the table that says how far it came.

    The newest step is named here so that an up-to-date database opens without alembic.
    """

    folder: str
    head: str
    version_table: str


STATE: Final = Steps("eaa.storage:migrations", "0002", "alembic_version")
"""The tables of :mod:`eaa.storage.schema`."""

ADVISORY_LOCK: Final = 0x454141  # any number that nothing else in the database server locks

_alembic_is_global: Final = threading.Lock()
"""Alembic keeps its context in module globals: one migration per process at a time."""


async def migrate(connections: Connections, url: str, steps: Steps = STATE) -> None:
    """Apply the ``steps`` that the database lacks, all of them or none. Several sequences may share a database.

    :raises ConfigurationError: when the database is of a newer program.
    """
    if await connections.read(_current_step, steps) != steps.head:
        await asyncio.to_thread(_migrate_in_thread, url, steps)


def _current_step(connection: Connection, steps: Steps) -> str | None:
    if not inspect(connection).has_table(steps.version_table):
        return None
    step: str | None = connection.scalar(
        select(table(steps.version_table, column("version_num")).c.version_num)
    )
    return step


def _migrate_in_thread(url: str, steps: Steps) -> None:
    with _alembic_is_global:
        asyncio.run(_migrate_in_one_transaction(url, steps))


async def _migrate_in_one_transaction(url: str, steps: Steps) -> None:
    connections = await open_connections(url)
    try:
        await connections.write(_run_steps, steps)
    finally:
        await connections.close()


def _run_steps(connection: Connection, steps: Steps) -> None:
    # Imported here because a database that is up to date, which nearly every start finds, does not need it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

    # On SQLite the transaction has the write lock from its start. Either way a second process waits here, and then finds
    # nothing left to do.
    if connection.dialect.name == "postgresql":
        connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
    attributes: dict[str, Any] = {"connection": connection}
    config = Config(attributes=attributes)
    config.set_main_option("script_location", steps.folder)
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"the database's tables are of step {_current_step(connection, steps)}, "
            f"this program knows steps up to {steps.head}",
            hint="Run the newer version that wrote this database, or open another database.",
        ) from error
