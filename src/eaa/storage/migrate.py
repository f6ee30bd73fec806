# SPDX-License-Identifier: Apache-2.0
"""Bring a database to the newest tables, once, however many processes try."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, func, inspect, select, table

from eaa.rats import ConfigurationError
from eaa.storage.connections import open_connections

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from eaa.storage.connections import Connections

__all__ = ["HEAD", "migrate"]

HEAD: Final = "0001"
"""The newest step under ``migrations/versions``. Named here so that an up-to-date database opens without alembic."""

ADVISORY_LOCK: Final = 0x454141  # any number that nothing else in the database server locks

_alembic_is_global: Final = threading.Lock()
"""Alembic keeps its context in module globals: one migration per process at a time."""


async def migrate(connections: Connections, url: str) -> None:
    """Apply the steps that the database lacks, all of them or none.

    :raises ConfigurationError: when the database is of a newer program.
    """
    if await connections.read(_current_step) != HEAD:
        await asyncio.to_thread(_migrate_in_thread, url)


def _current_step(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    step: str | None = connection.scalar(
        select(table("alembic_version", column("version_num")).c.version_num)
    )
    return step


def _migrate_in_thread(url: str) -> None:
    with _alembic_is_global:
        asyncio.run(_migrate_in_one_transaction(url))


async def _migrate_in_one_transaction(url: str) -> None:
    connections = await open_connections(url)
    try:
        await connections.write(_run_steps)
    finally:
        await connections.close()


def _run_steps(connection: Connection) -> None:
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
    config.set_main_option("script_location", "eaa.storage:migrations")
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise ConfigurationError(
            f"the database's tables are of step {_current_step(connection)}, this program knows steps up to {HEAD}",
            hint="Run the newer version that wrote this database, or open another database.",
        ) from error
