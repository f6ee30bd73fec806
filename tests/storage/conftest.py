# SPDX-License-Identifier: Apache-2.0
"""A database for each test, and records to put into it.

The tests run on SQLite, and also on PostgreSQL when ``EAA_TEST_POSTGRESQL`` holds the URL of an empty database for them.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import text

from eaa.kms import LocalKeyManager
from eaa.storage import Database, SessionRecord, VerdictRecord
from eaa.storage.connections import open_connections
from eaa.storage.schema import metadata

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection

POSTGRESQL = os.environ.get("EAA_TEST_POSTGRESQL", "")


@dataclass(frozen=True)
class Records:
    """Makes records that differ in what the test says and in nothing else."""

    now: datetime = datetime(2026, 11, 1, 12, 0, 0, 123456, tzinfo=UTC)
    minute: timedelta = timedelta(minutes=1)

    def verdict(self, name: str = "v", **changes: Any) -> VerdictRecord:
        """Return an accepting verdict."""
        fields: dict[str, Any] = {
            "id": name,
            "at": self.now,
            "tee": "tdx",
            "accepted": True,
            "evidence_digest": bytes(range(32)),
            "document": {"accepted": True, "checks": [{"id": "tdx.td.debug", "result": "pass"}]},
            "request_id": f"request of {name}",
        }
        return VerdictRecord(**fields | changes)

    def session(self, name: str = "s", verdict: str = "v", **changes: Any) -> SessionRecord:
        """Return a session of five minutes on a verdict."""
        fields: dict[str, Any] = {
            "id": f"credential {name}".encode(),
            "tee": "tdx",
            "verdict_id": verdict,
            "tee_public_key": {"kty": "EC", "crv": "P-256", "x": "…", "y": "…"},
            "claims": {"submods": {"cpu0": {"ear.status": "affirming"}}},
            "token": f"token of {name}",
            "expires_at": self.now + 5 * self.minute,
        }
        return SessionRecord(**fields | changes)

    async def attest(self, database: Database, name: str = "", **changes: Any) -> None:
        """Record an accepted attestation: nonce ``n…``, verdict ``v…`` and session ``s…``."""
        await database.record_attestation(
            nonce=f"n{name}".encode(),
            expires_at=self.now + 5 * self.minute,
            verdict=self.verdict(f"v{name}", **changes),
            session=self.session(f"s{name}", f"v{name}"),
        )


@pytest.fixture(scope="session")
def records() -> Records:
    """What to put into a database."""
    return Records()


@pytest.fixture(scope="session")
def sealer() -> LocalKeyManager:
    """A real key manager."""
    return LocalKeyManager(bytes(range(32)))


def drop_everything(connection: Connection) -> None:
    """Leave the tests' own PostgreSQL database empty."""
    metadata.drop_all(connection)
    connection.execute(text("DROP TABLE IF EXISTS alembic_version"))


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet, or is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'verdictd.db'}"
    connections = await open_connections(POSTGRESQL)
    await connections.write(drop_everything)
    await connections.close()
    return POSTGRESQL


@pytest.fixture
async def database(url: str, sealer: LocalKeyManager) -> AsyncIterator[Database]:
    """An empty database."""
    opened = await Database.open(url, sealer=sealer)
    yield opened
    await opened.close()


@pytest.fixture
async def twin(database: Database, url: str, sealer: LocalKeyManager) -> AsyncIterator[Database]:
    """The same database as another process would have it open."""
    opened = await Database.open(url, sealer=sealer)
    yield opened
    await opened.close()
