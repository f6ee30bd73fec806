# SPDX-License-Identifier: Apache-2.0
"""The first tables."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0001"
down_revision: Final = None


def upgrade() -> None:
    """Create the tables."""
    op.create_table(
        "verdict_sets",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("product", sa.Text, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("tee", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False, index=True),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
        sa.Column("expires_at", sa.BigInteger),
        sa.Column("supersedes", sa.BigInteger),
        sa.Column("activated_at", sa.BigInteger),
        sa.UniqueConstraint("product", "version"),
    )
    op.create_table(
        "verdict_values",
        sa.Column("value", sa.Text, primary_key=True),
        sa.Column("register", sa.Text, primary_key=True),
        sa.Column("digest", sa.Text, sa.ForeignKey("verdict_sets.digest"), primary_key=True),
    )
    op.create_table(
        "verdict_provenance",
        sa.Column("digest", sa.Text, primary_key=True),
        sa.Column("envelope", sa.LargeBinary, nullable=False),
    )
    op.create_table(
        "verdict_sources",
        sa.Column("url", sa.Text, primary_key=True),
        sa.Column("sequence", sa.BigInteger, nullable=False),
        sa.Column("asked_at", sa.BigInteger),
        sa.Column("followed_at", sa.BigInteger),
        sa.Column("error", sa.Text, nullable=False),
        sa.Column("held", sa.Text, nullable=False),
    )
    op.create_table(
        "verdict_changes",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("digest", sa.Text, sa.ForeignKey("verdict_sets.digest"), nullable=False, index=True),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("who", sa.Text, nullable=False),
        sa.Column("why", sa.Text, nullable=False),
    )
