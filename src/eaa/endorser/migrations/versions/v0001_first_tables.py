# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the tables."""
    create_store()
    create_refresh()


def create_store() -> None:
    """Create what holds the endorsements and their history."""
    state = op.create_table(
        "endorser_state",
        sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
        sa.Column("version", sa.BigInteger, nullable=False),
    )
    op.bulk_insert(state, [{"id": 1, "version": 0}])
    op.create_table(
        "endorser_objects",
        sa.Column("digest", sa.LargeBinary, primary_key=True),
        sa.Column("content", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "endorser_versions",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("key", sa.Text, nullable=False, index=True),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("channel", sa.Text, nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("evaluation_number", sa.Integer, nullable=False),
        sa.Column("content", sa.LargeBinary, sa.ForeignKey("endorser_objects.digest"), nullable=False),
        sa.Column("issuer_chain", sa.LargeBinary, sa.ForeignKey("endorser_objects.digest"), nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("forced", sa.Boolean, nullable=False),
    )
    op.create_table(
        "endorser_heads",
        sa.Column("key", sa.Text, primary_key=True),
        sa.Column("slot", sa.Text, primary_key=True),
        sa.Column(
            "version_id",
            sa.BigInteger().with_variant(sa.Integer, "sqlite"),
            sa.ForeignKey("endorser_versions.id"),
            nullable=False,
        ),
    )


def create_refresh() -> None:
    """Create what keeps them fresh: one row per object, and the platforms that need them."""
    op.create_table(
        "endorser_refreshes",
        sa.Column("name", sa.Text, primary_key=True),
        sa.Column("due", sa.BigInteger, nullable=False),
        sa.Column("lease_owner", sa.Text, nullable=False),
        sa.Column("lease_until", sa.BigInteger, nullable=False),
        sa.Column("failures", sa.Integer, nullable=False),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("remedy", sa.Text, nullable=False),
        sa.Column("tried_at", sa.BigInteger),
        sa.Column("succeeded_at", sa.BigInteger),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.create_table(
        "endorser_platforms",
        sa.Column("id", sa.Text, primary_key=True),
        sa.Column("tee", sa.Text, nullable=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("ca", sa.Text, nullable=False),
        sa.Column("levels", sa.Text, nullable=False),
        sa.Column("first_seen", sa.BigInteger, nullable=False),
        sa.Column("last_seen", sa.BigInteger, nullable=False),
    )
