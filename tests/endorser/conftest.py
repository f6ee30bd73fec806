# SPDX-License-Identifier: Apache-2.0
"""A chip maker in software, a store that trusts it, and a server on loopback."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from eaa.endorser.schema import STEPS, metadata
from eaa.endorser.store import Store
from eaa.simulator import ChipMaker
from eaa.storage.connections import open_connections

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from sqlalchemy import Connection

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def maker() -> ChipMaker:
    """One chip maker for every test."""
    return ChipMaker.create(NOW)


def _drop_everything(connection: Connection) -> None:
    metadata.drop_all(connection)
    connection.execute(text(f"DROP TABLE IF EXISTS {STEPS.version_table}"))


@pytest.fixture
async def location(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store can be that does not exist yet: a folder, or an empty PostgreSQL database for tests that ask for it."""
    if getattr(request, "param", "sqlite") == "sqlite":
        return str(tmp_path / "store")
    url: str = request.getfixturevalue("postgresql")
    connections = await open_connections(url)
    await connections.write(_drop_everything)
    await connections.close()
    return url


@pytest.fixture
async def store(location: str, maker: ChipMaker) -> AsyncIterator[Store]:
    """An empty store below the chip maker's root."""
    async with await Store.open(location, (maker.trust_anchor(),)) as opened:
        yield opened


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL database for the tests: ``EAA_TEST_POSTGRESQL``, or a server of our own on a socket in a folder."""
    if url := os.environ.get("EAA_TEST_POSTGRESQL"):
        yield url
        return
    if not (programs := _postgresql_programs()):
        pytest.skip(
            "there is no PostgreSQL: install it, or set EAA_TEST_POSTGRESQL to the URL of an empty database"
        )
    folder = Path(tempfile.mkdtemp(prefix="eaa-pg-"))  # a socket's path must be short
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    try:
        if user is not None:
            shutil.chown(folder, user)
        quiet: Any = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        data = str(folder / "data")
        initdb = [str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "eaa", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, **quiet)
        options = (
            "listen_addresses=",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=60",
        )
        command = [
            str(programs / "postgres"),
            "-D",
            data,
            *(word for each in options for word in ("-c", each)),
        ]
        with subprocess.Popen(command, **quiet) as server:
            try:
                ready = [str(programs / "pg_isready"), "-q", "-h", str(folder), "-t", "20"]
                deadline = time.monotonic() + 20
                while subprocess.run(ready, check=False, **quiet).returncode:
                    assert server.poll() is None, "PostgreSQL has ended"
                    assert time.monotonic() < deadline, "PostgreSQL did not start"
                    time.sleep(0.05)
                yield f"postgresql://eaa@/postgres?host={folder}"
            finally:
                server.send_signal(signal.SIGINT)  # a fast shutdown
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _postgresql_programs() -> Path | None:
    """Return the folder of the server's programs, which Debian keeps out of the search path."""
    if found := shutil.which("initdb"):
        return Path(found).resolve().parent
    return max(Path("/usr/lib/postgresql").glob("*/bin"), default=None)
