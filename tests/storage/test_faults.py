# SPDX-License-Identifier: Apache-2.0
"""What crashes, thieves and meddlers can do to the database: nothing half, nothing readable, nothing unnoticed."""

from __future__ import annotations

import asyncio
import random
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eaa.kms import UnsealError
from eaa.rats import AccessDenied, EaaError, NotFound, UnavailableError
from eaa.storage import Database, NonceReused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from eaa.kms import LocalKeyManager

pytestmark = pytest.mark.anyio

CRASH = Path(__file__).with_name("crash.py")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """Where the database's file is, or will be."""
    return tmp_path / "verdictd.db"


@pytest.fixture
async def database(file: Path, sealer: LocalKeyManager) -> AsyncIterator[Database]:
    """An empty SQLite database: these faults are a file's."""
    opened = await Database.open(f"sqlite:///{file}", sealer=sealer)
    yield opened
    await opened.close()


def crash(*arguments: str) -> list[str]:
    """Run the crashing program and return what it told, sorted."""
    done = subprocess.run(
        [sys.executable, CRASH, *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    return sorted(done.stdout.splitlines())


def alter(file: Path, statement: str, *values: Any) -> int:
    """Change the file behind the database's back; return how many rows."""
    with closing(sqlite3.connect(file)) as connection, connection:
        return connection.execute(statement, values).rowcount


def rows(file: Path, table: str) -> list[Any]:
    """Return a table's rows."""
    with closing(sqlite3.connect(file)) as connection:
        return connection.execute(f"SELECT * FROM {table}").fetchall()


async def test_a_kill_in_mid_write_leaves_nothing_half(tmp_path: Path, sealer: LocalKeyManager) -> None:
    """Killed in the middle of each kind of transaction, the database opens and has all of what came before and nothing of it."""
    order = [
        ("CREATE TABLE releases", ()),
        ("INSERT INTO resources", ()),
        ("INSERT INTO policies", ("resources",)),
        ("INSERT INTO reference_values", ("resources", "policies")),
        ("INSERT INTO nonces", ("resources", "policies", "reference_values")),
        ("INSERT INTO verdicts", ("resources", "policies", "reference_values")),
        ("INSERT INTO sessions", ("resources", "policies", "reference_values")),
        (
            "INSERT INTO releases",
            ("resources", "policies", "reference_values", "nonces", "verdicts", "sessions"),
        ),
    ]
    files = [tmp_path / f"{number}.db" for number in range(len(order))]
    told = crash(
        *(f"{statement}=sqlite:///{file}" for (statement, _), file in zip(order, files, strict=True))
    )
    assert told == [f"ended {-signal.SIGKILL}"] * len(order)
    tables = [
        "resources",
        "policies",
        "policy_versions",
        "reference_values",
        "nonces",
        "verdicts",
        "sessions",
        "releases",
    ]
    for (statement, complete), file in zip(order, files, strict=True):
        expected = {*complete, "policy_versions"} if "policies" in complete else set(complete)
        opened = await Database.open(f"sqlite:///{file}", sealer=sealer)
        filled = {table for table in tables if rows(file, table)}
        version = await opened.state_version()
        await opened.close()
        assert filled == expected, statement
        assert version == sum(table in complete for table in ("policies", "reference_values"))
        with closing(sqlite3.connect(file)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


async def test_processes_that_start_at_once_agree(file: Path, sealer: LocalKeyManager) -> None:
    """Six processes that open a database which does not exist yet all succeed, and the tables are made once."""
    assert crash(*[f"=sqlite:///{file}"] * 6) == ["ended 0"] * 6 + ["opened 0"] * 6
    assert (
        len(rows(file, "alembic_version")) == len(rows(file, "seal_proof")) == len(rows(file, "state")) == 1
    )
    opened = await Database.open(f"sqlite:///{file}", sealer=sealer)
    await opened.close()


async def test_opening_again_keeps_the_locks(database: Database, file: Path, sealer: LocalKeyManager) -> None:
    """A second opening in this process loses no lock of the first: another process that closes last leaves the log alone."""
    await (await Database.open(f"sqlite:///{file}", sealer=sealer)).close()
    log = file.with_name(f"{file.name}-wal")
    before = log.stat().st_ino
    assert crash(f"=sqlite:///{file}") == ["ended 0", "opened 0"]
    assert log.stat().st_ino == before
    await database.put_resource("default/key/after", b"content")
    assert await database.get_resource("default/key/after") == b"content"


async def test_secrets_are_not_in_the_files(database: Database, file: Path, records: Any) -> None:
    """Neither contents nor credentials can be read from the database, its log, or after deletion, in any usual encoding."""
    secret = random.Random(1).randbytes(48)
    text = b"token of s"
    await database.put_resource("default/key/web", secret)
    await database.create_resource("default/kek/web", secret, kind="kek")
    await records.attest(database)
    await database.put_resource("default/key/web", secret + b"2")

    def stored() -> bytes:
        return b"".join(path.read_bytes() for path in file.parent.glob("verdictd.db*"))

    assert b"default/key/web" in stored()  # the search can find what is there
    await database.delete_resource("default/key/web")
    await database.close()
    for hidden in (secret, text, b"credential s", b"affirming", b'"P-256"'):
        assert hidden not in stored()
        assert hidden.hex().encode() not in stored()


async def test_sealed_contents_cannot_be_swapped(database: Database, file: Path, records: Any) -> None:
    """A ciphertext moved to another row, kind or name does not open, and is not recorded as released."""
    await records.attest(database)
    await database.put_resource("default/key/a", b"a")
    await database.put_resource("default/key/b", b"b")
    await database.put_resource("default/kek/c", b"c", kind="kek")
    swapped = (
        "UPDATE resources SET sealed = (SELECT sealed FROM resources AS other WHERE other.path = 'default/key/b')"
        " WHERE path = 'default/key/a'"
    )
    assert alter(file, swapped) == 1
    assert alter(file, "UPDATE resources SET path = 'default/key/d' WHERE path = 'default/key/b'") == 1
    assert alter(file, "UPDATE resources SET kind = 'resource' WHERE path = 'default/kek/c'") == 1
    for path in ("default/key/a", "default/key/d", "default/kek/c"):
        with pytest.raises(UnsealError, match="altered, or belong elsewhere"):
            await database.get_resource(path)
        with pytest.raises(UnsealError):
            await database.release_resource(path, session_id=None, verdict_id="v", at=records.now)
    assert await database.releases() == []


@pytest.mark.parametrize(
    "change",
    [
        "expires_at = expires_at + 3600000000",
        "verdict_id = 'v2'",
        "sealed = (SELECT sealed FROM sessions AS other WHERE other.verdict_id = 'v2')",
    ],
)
async def test_a_session_cannot_be_altered(database: Database, file: Path, records: Any, change: str) -> None:
    """Whoever can write the file can neither prolong a session nor hang it on another verdict or key."""
    await records.attest(database, "1")
    await records.attest(database, "2")
    assert alter(file, f"UPDATE sessions SET {change} WHERE verdict_id = 'v1'") == 1
    with pytest.raises(UnsealError):
        await database.session(b"credential s1", records.now)
    assert (await database.session(b"credential s2", records.now)).verdict_id == "v2"


async def test_a_stolen_digest_opens_no_session(database: Database, file: Path, records: Any) -> None:
    """What the file holds of a credential is not the credential."""
    await records.attest(database)
    digest = rows(file, "sessions")[0][0]
    with pytest.raises(NotFound):
        await database.session(digest, records.now)
    await database.put_resource("default/key/web", b"secret")
    with pytest.raises(AccessDenied):
        await database.release_resource("default/key/web", session_id=digest, verdict_id="v", at=records.now)


async def test_cancelled_requests_leave_it_working(database: Database, file: Path, records: Any) -> None:
    """However early or late clients hang up, each attestation is there as a whole or not at all, and others go on."""

    async def attest(number: int) -> None:
        await records.attest(database, str(number))

    tasks = [asyncio.create_task(attest(number)) for number in range(60)]
    for task in tasks[::2]:
        await asyncio.sleep(0.001)
        task.cancel()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert outcomes[1::2] == [None] * 30
    assert any(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    await asyncio.wait_for(records.attest(database, "last"), 10)
    verdicts = {row[0][1:] for row in rows(file, "verdicts")}
    assert {row[1][1:] for row in rows(file, "sessions")} == verdicts
    assert len(rows(file, "nonces")) == len(verdicts) > 30
    with pytest.raises(NonceReused):
        await attest(1)


async def test_a_database_that_stays_locked_is_unavailable(
    file: Path, sealer: LocalKeyManager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another program that never lets go is told as such after a while, without the statement or its values; readers go on."""
    monkeypatch.setattr("eaa.storage.connections.BUSY_SECONDS", 0.05)
    database = await Database.open(f"sqlite:///{file}", sealer=sealer)
    await database.put_resource("default/key/web", b"before")
    with closing(sqlite3.connect(file, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError, match="locked") as caught:
            await database.put_policy("resource", "default", "the text")
        assert await database.get_resource("default/key/web") == b"before"
        other.execute("ROLLBACK")
    assert "the text" not in f"{caught.value} {caught.value.__cause__}"
    await database.put_policy("resource", "default", "the text")
    await database.close()


async def test_errors_do_not_show_values(database: Database, records: Any) -> None:
    """Not even a fault of ours puts what was to be stored into its message."""
    await records.attest(database, "1")
    with pytest.raises(Exception, match=r"(?i)unique") as caught:
        await database.record_attestation(
            nonce=b"n",
            expires_at=records.now,
            verdict=records.verdict("v1", request_id="private"),
            session=None,
        )
    assert not isinstance(caught.value, EaaError)
    assert "private" not in str(caught.value)
