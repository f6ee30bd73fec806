# SPDX-License-Identifier: Apache-2.0
"""PCK certificates by platform, and the list of FMSPCs."""

from typing import Final

import sqlalchemy as sa
from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Create the tables."""
    create_pck()
    op.create_table(
        "endorser_fmspcs",
        sa.Column("root", sa.Text, primary_key=True),
        sa.Column("fmspc", sa.Text, primary_key=True),
        sa.Column("platform", sa.Text, nullable=False),
        sa.Column("first_listed", sa.BigInteger, nullable=False),
        sa.Column("last_listed", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )


def create_pck() -> None:
    """Create what holds registered platforms and their certificates."""
    op.create_table(
        "endorser_pck_platforms",
        sa.Column("qe_id", sa.Text, primary_key=True),
        sa.Column("pce_id", sa.Text, primary_key=True),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("encrypted_ppid", sa.Text, nullable=False),
        sa.Column("manifest", sa.Text, nullable=False),
        sa.Column("cpu_svn", sa.Text, nullable=False),
        sa.Column("pce_svn", sa.Text, nullable=False),
        sa.Column("registered_at", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "endorser_pck_certificates",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True),
        sa.Column("qe_id", sa.Text, nullable=False),
        sa.Column("pce_id", sa.Text, nullable=False),
        sa.Column("root", sa.Text, nullable=False),
        sa.Column("ppid", sa.Text, nullable=False),
        sa.Column("fmspc", sa.Text, nullable=False),
        sa.Column("ca", sa.Text, nullable=False),
        sa.Column("tcbm", sa.Text, nullable=False),
        sa.Column("components", sa.LargeBinary, nullable=False),
        sa.Column("pce_svn", sa.Integer, nullable=False),
        sa.Column("issued", sa.BigInteger, nullable=False),
        sa.Column("next_update", sa.BigInteger, nullable=False),
        sa.Column("content", sa.LargeBinary, sa.ForeignKey("endorser_objects.digest"), nullable=False),
        sa.Column("issuer_chain", sa.LargeBinary, sa.ForeignKey("endorser_objects.digest"), nullable=False),
        sa.Column("stored_at", sa.BigInteger, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
    )
    op.create_index("ix_endorser_pck_certificates_platform", "endorser_pck_certificates", ["qe_id", "pce_id"])
