# SPDX-License-Identifier: Apache-2.0
"""Bring a database to the newest tables, once, however many processes try."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import column, func, inspect, select, table

from eaa.rats import ConfigurationError
from eaa.storage.connections import write_engine

if TYPE_CHECKING:
    from sqlalchemy import URL, Connection
    from sqlalchemy.ext.asyncio import AsyncEngine

__all__ = ["HEAD", "migrate"]

HEAD: Final = "0001"
"""The newest step under ``migrations/versions``. Named here so that an up-to-date database opens without alembic."""

ADVISORY_LOCK: Final = 0x454141  # any number that nothing else in the database server locks

_alembic_is_global: Final = threading.Lock()
"""Alembic keeps its context in module globals: one migration per process at a time."""


async def migrate(writer: AsyncEngine) -> None:
    """Apply the steps that ``writer``'s database lacks, all of them or none.

    :raises ConfigurationError: when the database is of a newer program.
    """
    async with writer.connect() as connection:
        current = await connection.run_sync(_current_step)
    if current == HEAD:
        return
    await asyncio.to_thread(_migrate_in_thread, writer.url)


def _current_step(connection: Connection) -> str | None:
    if not inspect(connection).has_table("alembic_version"):
        return None
    step: str | None = connection.scalar(
        select(table("alembic_version", column("version_num")).c.version_num)
    )
    return step


def _migrate_in_thread(url: URL) -> None:
    with _alembic_is_global:
        asyncio.run(_migrate_in_one_transaction(url))


async def _migrate_in_one_transaction(url: URL) -> None:
    engine = write_engine(url)
    try:
        # On SQLite the transaction holds the write lock from its first statement; a second process waits for it and then
        # finds nothing left to do.
        async with engine.begin() as connection:
            if connection.dialect.name == "postgresql":
                await connection.execute(select(func.pg_advisory_xact_lock(ADVISORY_LOCK)))
            await connection.run_sync(_run_steps)
    finally:
        await engine.dispose()


def _run_steps(connection: Connection) -> None:
    # Imported here because a database that is up to date, which nearly every start finds, does not need it.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.util import CommandError  # noqa: PLC0415

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
