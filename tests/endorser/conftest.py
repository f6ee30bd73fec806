# SPDX-License-Identifier: Apache-2.0
"""A chip maker in software, a store that trusts it, a database server, and a world in which days pass in milliseconds."""

from __future__ import annotations

import asyncio
import os
import random
import shutil
import signal
import subprocess
import tempfile
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx2
import pytest
from sqlalchemy import text

from eaa.endorser.authenticity import anchor_id
from eaa.endorser.http import Budget
from eaa.endorser.needs import Platform, needs_of_platform
from eaa.endorser.pck import PckPlatform, RawTcb
from eaa.endorser.pcs import PcsSource
from eaa.endorser.refresh import Refresher
from eaa.endorser.schema import STEPS, metadata
from eaa.endorser.store import Store
from eaa.simulator import ChipMaker, mint
from eaa.simulator.vendor_http import VendorService, VendorTransport
from eaa.storage.connections import open_connections
from eaa.tee.registry import parse_evidence
from eaa.verifier.verifier import Verifier

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from sqlalchemy import Connection

    from eaa.rats import Appraisal
    from eaa.simulator import Machine
    from eaa.simulator.timeline import Timeline

NOW = datetime(2026, 11, 1, tzinfo=UTC)
GRAIN = timedelta(minutes=40)  # what is due meanwhile is done together, which spares the tests time


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
        # setpriv and not subprocess's user, with which it forks, and gRPC's fork handlers may crash the child.
        become = ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups", "--"] if user else []
        quiet: Any = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        data = str(folder / "data")
        initdb = [
            *become,
            str(programs / "initdb"),
            "-D",
            data,
            "-A",
            "trust",
            "-U",
            "eaa",
            "-E",
            "UTF8",
            "--no-sync",
        ]
        subprocess.run(initdb, check=True, **quiet)
        options = (
            "listen_addresses=",
            f"unix_socket_directories={folder}",
            "fsync=off",
            "max_connections=60",
        )
        command = [
            *become,
            str(programs / "postgres"),
            "-D",
            data,
            *(word for each in options for word in ("-c", each)),
        ]
        with subprocess.Popen(command, **quiet) as server:
            try:
                ready = [*become, str(programs / "pg_isready"), "-q", "-h", str(folder), "-t", "20"]
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


class World:
    """A chip maker's service with a timeline, one or more replicas of the Endorser, and the time."""

    def __init__(self, maker: ChipMaker, location: str, timeline: Timeline | None = None) -> None:
        self.maker = maker
        self.location = location
        self.at = NOW
        self.requests: list[str] = []
        self.service = VendorService(maker, timeline, lambda: self.at, sleep=self._nothing)
        self.platform = Platform(anchor_id(maker.trust_anchor()), maker.fmspcs["platform"].hex(), "platform")
        self.needs = needs_of_platform("tdx", self.platform)
        self._closing: list[Any] = []

    async def _nothing(self, seconds: float) -> None:
        await asyncio.sleep(0 if seconds < 15 else 60)

    async def replica(self, **options: Any) -> tuple[Store, Refresher]:
        """Start one more Endorser."""
        store = await Store.open(self.location, (self.maker.trust_anchor(),), clock=lambda: self.at)
        client = httpx2.AsyncClient(
            transport=VendorTransport(self.service), event_hooks={"request": [self._note]}
        )
        self._closing += [store.close, client.aclose]
        budget = Budget("pcs.invalid", clock=lambda: self.at)
        sources = options.pop("sources", None) or [PcsSource("https://pcs.invalid", client, gate=budget)]
        chance = random.Random(len(self._closing))
        options = {"wanted": self.needs, **options}
        return store, Refresher(store, sources, chance=chance, **options)

    async def _note(self, request: httpx2.Request) -> None:
        self.requests.append(f"{request.url.path}?{request.url.params}")

    async def live(self, until: datetime, *refreshers: Refresher) -> None:
        """Let the time pass, with everything done when it is due."""
        while True:
            due = [await each.step() for each in refreshers]
            if min(due) >= until:
                self.at = until
                return
            self.at = min(max(min(due), self.at + GRAIN), until)

    def appraise(self, store: Store, **machine: Any) -> Appraisal:
        """Judge a quote of now by what the store holds."""
        evidence = parse_evidence(mint(self.maker, "tdx", b"x", at=self.at, **machine).quote, tee="tdx")
        found = store.endorsements_for(evidence)
        return Verifier((self.maker.trust_anchor(),)).verify(evidence, found, at=self.at, report_data=b"x")

    async def close(self) -> None:
        for each in self._closing:
            await each()


@pytest.fixture
async def worlds(maker: ChipMaker, location: str) -> AsyncIterator[Any]:
    """Make worlds; they end with the test."""
    made: list[World] = []

    def make(timeline: Timeline | None = None) -> World:
        made.append(World(maker, location, timeline))
        return made[-1]

    yield make
    for each in made:
        await each.close()


@pytest.fixture(scope="session")
def registration(maker: ChipMaker) -> Callable[..., PckPlatform]:
    """Return what a machine is registered with, but for changes."""

    def of(machine: Machine, **changes: Any) -> PckPlatform:
        raw = RawTcb(machine.identity.sgx_svns, machine.identity.pce_svn)
        fields = {"encrypted_ppid": machine.encrypted_ppid.hex(), "raw_tcb": raw, **changes}
        return PckPlatform(anchor_id(maker.trust_anchor()), machine.qe_id.hex(), "0000", **fields)

    return of
