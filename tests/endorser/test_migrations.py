# SPDX-License-Identifier: Apache-2.0
"""The store's tables: the steps lead to them, from nothing and from what an earlier program left."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import pytest
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import text

from eaa.endorser import fmspcs, pck_store
from eaa.endorser.schema import STEPS, metadata, pck_certificates, pck_platforms
from eaa.endorser.schema import fmspcs as fmspcs_table
from eaa.endorser.store import Store

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from eaa.simulator import ChipMaker

pytestmark = pytest.mark.anyio
NOW: Final = datetime(2026, 11, 1, tzinfo=UTC)


def differences(connection: Connection) -> list[Any]:
    """Return in what the database's own tables of the Endorser differ from the definitions."""
    context = MigrationContext.configure(connection, opts={"compare_type": True})
    return [each for each in compare_metadata(context, metadata) if STEPS.version_table not in repr(each)]


def back_to_the_first_step(connection: Connection) -> None:
    """Leave the database as the program did that knew the first step only."""
    metadata.drop_all(connection, tables=[pck_certificates, pck_platforms, fmspcs_table])
    connection.execute(text(f"UPDATE {STEPS.version_table} SET version_num = '0001'"))


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
async def test_store_of_an_earlier_program_is_brought_forward(location: str, maker: ChipMaker) -> None:
    anchors = (maker.trust_anchor(),)
    async with await Store.open(location, anchors) as store:
        await store.put(maker.collateral("tdx", NOW))
        before = store.snapshot().slots
        assert await store.connections.read(differences) == []
        await store.connections.write(back_to_the_first_step)
        assert await store.connections.read(differences) != []
    async with await Store.open(location, anchors) as store:
        assert await store.connections.read(differences) == []
        assert store.snapshot().slots == before
        assert await store.connections.read(pck_store.registered) == []
        assert await store.connections.read(fmspcs.listed) == {}


def test_head_is_the_newest_step() -> None:
    config = Config()
    config.set_main_option("script_location", STEPS.folder)
    assert ScriptDirectory.from_config(config).get_heads() == [STEPS.head]
