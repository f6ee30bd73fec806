# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the servers do."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all async tests: gRPC's poller outlives a test and would call into a closed one."""
    yield  # noqa: PT022 - a returning fixture would let the loop go at once


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real evidence, beside the checkout or where ``EAA_VECTORS`` points."""
    folder = Path(os.environ.get("EAA_VECTORS", Path(__file__).parents[2] / "shared" / "vectors"))
    if not (folder / "manifest.json").is_file():
        pytest.skip("real evidence is not here: set EAA_VECTORS to a folder with manifest.json")
    return folder


@pytest.fixture(scope="session")
def postgresql(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a PostgreSQL database for the tests: ``EAA_TEST_POSTGRESQL``, or a server of our own on a socket in a folder."""
    if url := os.environ.get("EAA_TEST_POSTGRESQL"):
        yield url
        return
    if not (programs := _postgresql_programs()):
        pytest.skip("there is no PostgreSQL: install it, or set EAA_TEST_POSTGRESQL to the URL of an empty database")
    folder = Path(tempfile.mkdtemp(prefix="eaa-pg-"))  # a socket's path must be short
    user = "postgres" if os.geteuid() == 0 else None  # it refuses to run as root
    try:
        if user is not None:
            shutil.chown(folder, user)
        quiet: Any = {"user": user, "cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        data = str(folder / "data")
        initdb = [programs / "initdb", "-D", data, "-A", "trust", "-U", "eaa", "-E", "UTF8", "--no-sync"]
        subprocess.run(initdb, check=True, **quiet)
        options = ("listen_addresses=", f"unix_socket_directories={folder}", "fsync=off", "max_connections=60")
        command = [programs / "postgres", "-D", data, *(word for each in options for word in ("-c", each))]
        with subprocess.Popen(command, **quiet) as server:
            try:
                ready = [programs / "pg_isready", "-q", "-h", str(folder), "-t", "20"]
                deadline = time.monotonic() + 20
                while subprocess.run(ready, check=False, **quiet).returncode:
                    assert server.poll() is None and time.monotonic() < deadline, "PostgreSQL did not start"
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
