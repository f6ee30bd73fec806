# SPDX-License-Identifier: Apache-2.0
"""Keys and a sound set, made once: every value is frozen."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from sqlalchemy import text

from eaa._keys import new_key, read_private_key
from eaa.storage.connections import open_connections
from eaa.storage.schema import metadata as storage_tables
from eaa.verdict.reference_set import Input, ReferenceSet, RegisterValue
from eaa.verdict.schema import metadata
from eaa.verdict.service import ReferenceSets
from eaa.verdict.statement import Artifact

from .desk import Desk

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sqlalchemy import Connection

    from eaa._keys import PrivateKey

POSTGRESQL = os.environ.get("EAA_TEST_POSTGRESQL", "")


@pytest.fixture(scope="session")
def keys() -> tuple[PrivateKey, ...]:
    """Two Ed25519 keys and one on P-256."""
    return tuple(read_private_key(new_key(kind)[0]) for kind in ("ed25519", "ed25519", "p256"))


@pytest.fixture(scope="session")
def reference_set() -> ReferenceSet:
    """A TD's two registers."""
    return ReferenceSet(
        product="acme/web",
        version=3,
        tee="tdx",
        registers=(
            RegisterValue("mr_td", ("ab" * 48,), (Input("firmware", "ab" * 48),)),
            RegisterValue(
                "rtmr_2", ("cd" * 48, "ef" * 48), (Input("cmdline", "01" * 48), Input("initrd", "02" * 48))
            ),
        ),
        artifacts=(Artifact.of("firmware", b"OVMF"), Artifact.of("kernel", b"Linux")),
        issued_at=datetime(2026, 3, 16, 12, tzinfo=UTC),
        expires_at=datetime(2027, 3, 16, 12, tzinfo=UTC),
        supersedes=2,
        provenance=("12" * 32,),
        note="the spring release",
    )


def drop_everything(connection: Connection) -> None:
    """Leave the tests' own PostgreSQL database empty."""
    metadata.drop_all(connection)
    storage_tables.drop_all(connection)
    connection.execute(text("DROP TABLE IF EXISTS alembic_version, verdict_version"))


@pytest.fixture(params=["sqlite", *(["postgresql"] if POSTGRESQL else [])])
async def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a database that does not exist yet, or is empty."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'verdict.db'}"
    connections = await open_connections(POSTGRESQL)
    await connections.write(drop_everything)
    await connections.close()
    return POSTGRESQL


@pytest.fixture
async def desk(url: str, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet) -> AsyncIterator[Desk]:
    """An empty database, and two keys that may sign acme's products, each alone."""
    made = Desk(keys, reference_set)
    made.sets = await ReferenceSets.open(url, signers=lambda: made.policy, clock=lambda: made.time)
    yield made
    await made.sets.close()
