# SPDX-License-Identifier: Apache-2.0
"""Opening: once or often, from nothing or from what was there, and never with the wrong key."""

from __future__ import annotations

import os
import sqlite3
import stat
from contextlib import closing
from typing import TYPE_CHECKING, Any

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory

from eaa.kms import LocalKeyManager
from eaa.rats import ConfigurationError, UnavailableError
from eaa.storage import Database, migrate
from eaa.storage.connections import open_connections
from eaa.storage.schema import metadata

if TYPE_CHECKING:
    from pathlib import Path

    from sqlalchemy import Connection

pytestmark = pytest.mark.anyio


async def test_what_was_stored_is_there_after_reopening(
    url: str, sealer: LocalKeyManager, records: Any
) -> None:
    """Opening again changes nothing and loses nothing."""
    for count in range(1, 4):
        database = await Database.open(url, sealer=sealer)
        await records.attest(database, str(count))
        await database.put_resource("default/key/web", b"content")
        assert (await database.list_resources())[0].version == count
        assert len(await database.list_verdicts()) == count
        await database.close()
        await database.close()


async def test_the_steps_lead_to_the_tables(url: str, sealer: LocalKeyManager) -> None:
    """The migrations and the table definitions that the statements are written with agree."""
    await (await Database.open(url, sealer=sealer)).close()
    connections = await open_connections(url)

    def differences(connection: Connection) -> list[Any]:
        context = MigrationContext.configure(connection, opts={"compare_type": True})
        return list(compare_metadata(context, metadata))

    assert await connections.read(differences) == []
    await connections.close()


def test_head_is_the_newest_step() -> None:
    """The shortcut for up-to-date databases knows the newest step, and the steps are one line."""
    config = Config()
    config.set_main_option("script_location", "eaa.storage:migrations")
    assert ScriptDirectory.from_config(config).get_heads() == [migrate.STATE.head]


async def test_another_root_key_is_told_at_once(url: str, sealer: LocalKeyManager) -> None:
    """The error names both keys by id and says what is needed; the right key still opens."""
    await (await Database.open(url, sealer=sealer)).close()
    other = LocalKeyManager(bytes(32))
    with pytest.raises(ConfigurationError, match="root key") as caught:
        await Database.open(url, sealer=other)
    assert sealer.key_id in str(caught.value)
    assert other.key_id in str(caught.value)
    assert "in use when the database was made" in caught.value.hint
    await (await Database.open(url, sealer=sealer)).close()


class Unreachable:
    """A key manager that cannot be reached."""

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        raise UnavailableError("no connection to the KMS")

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        raise UnavailableError("no connection to the KMS")


async def test_a_key_manager_out_of_reach_is_not_a_wrong_key(url: str, sealer: LocalKeyManager) -> None:
    """Before and after the database was made; and the database is made all the same when it is back."""
    with pytest.raises(UnavailableError, match="KMS"):
        await Database.open(url, sealer=Unreachable())
    await (await Database.open(url, sealer=sealer)).close()
    with pytest.raises(UnavailableError, match="KMS"):
        await Database.open(url, sealer=Unreachable())


async def test_a_newer_programs_database_is_left_alone(tmp_path: Path, sealer: LocalKeyManager) -> None:
    """An unknown step is an error that says so, and nothing is changed."""
    file = tmp_path / "verdictd.db"
    await (await Database.open(f"sqlite:///{file}", sealer=sealer)).close()
    with closing(sqlite3.connect(file)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    before = file.read_bytes()
    with pytest.raises(ConfigurationError, match="step 9999") as caught:
        await Database.open(f"sqlite:///{file}", sealer=sealer)
    assert "newer" in caught.value.hint
    assert file.read_bytes() == before


async def test_a_new_file_is_its_owners_only(tmp_path: Path, sealer: LocalKeyManager) -> None:
    """Whatever the umask; the log files inherit it."""
    before = os.umask(0)
    try:
        database = await Database.open(f"sqlite:///{tmp_path / 'verdictd.db'}", sealer=sealer)
        modes = {name: stat.S_IMODE((tmp_path / name).stat().st_mode) for name in os.listdir(tmp_path)}  # noqa: PTH208
    finally:
        os.umask(before)
    await database.close()
    assert modes == dict.fromkeys(["verdictd.db", "verdictd.db-wal", "verdictd.db-shm"], 0o600)


@pytest.mark.parametrize(
    ("content", "match"), [(b"this is no database, but text" * 40, "not a database"), (None, "cannot open")]
)
async def test_an_unusable_file_is_told(
    tmp_path: Path, sealer: LocalKeyManager, content: bytes | None, match: str
) -> None:
    """Something else's file is kept as it is; a missing folder is not made."""
    file = tmp_path / "verdictd.db" if content else tmp_path / "missing" / "verdictd.db"
    if content:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=match):
        await Database.open(f"sqlite:///{file}", sealer=sealer)
    assert not content or file.read_bytes() == content


@pytest.mark.parametrize(
    "url",
    [
        "",
        "verdictd.db",
        "sqlite://",
        "sqlite:///:memory:",
        "mysql://user:hunter2@host/x",
        "no+such://hunter2@h",
    ],
)
async def test_unusable_urls_are_refused(sealer: LocalKeyManager, url: str) -> None:
    """The hint shows what to write, and a password in the URL is not repeated."""
    with pytest.raises(ConfigurationError) as caught:
        await Database.open(url, sealer=sealer)
    assert "sqlite:///" in caught.value.hint
    assert "hunter2" not in str(caught.value) + caught.value.hint


async def test_a_damaged_file_is_told_as_an_error(
    tmp_path: Path, sealer: LocalKeyManager, records: Any
) -> None:
    """Bytes that rot in the middle of the file give an error that says so, not a wrong answer."""
    file = tmp_path / "verdictd.db"
    database = await Database.open(f"sqlite:///{file}", sealer=sealer)
    await database.put_resource("default/key/web", bytes(100_000))
    await database.close()
    content = bytearray(file.read_bytes())
    content[8192:] = bytes(len(content) - 8192)
    file.write_bytes(content)
    with pytest.raises(UnavailableError, match="the database is damaged"):
        await Database.open(f"sqlite:///{file}", sealer=sealer)
