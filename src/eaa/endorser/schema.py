# SPDX-License-Identifier: Apache-2.0
"""The Endorser's tables, as the newest migration leaves them. They may share a database with Verdictd's."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
)

from eaa.storage.migrate import Steps
from eaa.storage.schema import NAMING, Instant

__all__ = [
    "STEPS",
    "fmspcs",
    "heads",
    "metadata",
    "objects",
    "pck_certificates",
    "pck_platforms",
    "platforms",
    "refreshes",
    "state",
    "versions",
]

STEPS: Final = Steps("eaa.endorser:migrations", "0002", "endorser_alembic_version")

metadata: Final = MetaData(naming_convention=NAMING)

state = Table(
    "endorser_state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: a number that grows whenever what is handed out changes. Its lock is what writers queue for."""

objects = Table(
    "endorser_objects",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)
"""Contents under their SHA-256; never changed, never deleted."""

versions = Table(
    "endorser_versions",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("key", Text, nullable=False, index=True),
    Column("kind", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("channel", Text, nullable=False),
    Column("issued", Instant, nullable=False),
    Column("next_update", Instant, nullable=False),
    Column("evaluation_number", Integer, nullable=False),
    Column("content", LargeBinary, ForeignKey("endorser_objects.digest"), nullable=False),
    Column("issuer_chain", LargeBinary, ForeignKey("endorser_objects.digest"), nullable=False),
    Column("stored_at", Instant, nullable=False),
    Column("source", Text, nullable=False),
    Column("forced", Boolean, nullable=False),
)
"""Everything that was ever taken in, in order."""

heads = Table(
    "endorser_heads",
    metadata,
    Column("key", Text, primary_key=True),
    Column("slot", Text, primary_key=True),
    Column("version_id", ForeignKey("endorser_versions.id"), nullable=False),
)
"""What is handed out now: slot ``standard`` and ``early`` for Intel's release channels, ``#17`` for an evaluation number."""

refreshes = Table(
    "endorser_refreshes",
    metadata,
    Column("name", Text, primary_key=True),
    Column("due", Instant, nullable=False),
    Column("lease_owner", Text, nullable=False),
    Column("lease_until", Instant, nullable=False),
    Column("failures", Integer, nullable=False),
    Column("error", Text, nullable=False),
    Column("remedy", Text, nullable=False),
    Column("tried_at", Instant),
    Column("succeeded_at", Instant),
    Column("source", Text, nullable=False),
)
"""For each object that is kept fresh: when it is due, who fetches it now, and how the last attempt ended."""

platforms = Table(
    "endorser_platforms",
    metadata,
    Column("id", Text, primary_key=True),
    Column("tee", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("scope", Text, nullable=False),
    Column("ca", Text, nullable=False),
    Column("levels", Text, nullable=False),
    Column("first_seen", Instant, nullable=False),
    Column("last_seen", Instant, nullable=False),
)
"""Platforms whose evidence was seen: what they need, and the levels (JSON) that a forecast rates."""

pck_platforms = Table(
    "endorser_pck_platforms",
    metadata,
    Column("qe_id", Text, primary_key=True),
    Column("pce_id", Text, primary_key=True),
    Column("root", Text, nullable=False),
    Column("encrypted_ppid", Text, nullable=False),
    Column("manifest", Text, nullable=False),
    Column("cpu_svn", Text, nullable=False),
    Column("pce_svn", Text, nullable=False),
    Column("registered_at", Instant, nullable=False),
)
"""Platforms that an operator has registered, so that their PCK certificates are kept; everything in hex."""

pck_certificates = Table(
    "endorser_pck_certificates",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("qe_id", Text, nullable=False),
    Column("pce_id", Text, nullable=False),
    Column("root", Text, nullable=False),
    Column("ppid", Text, nullable=False),
    Column("fmspc", Text, nullable=False),
    Column("ca", Text, nullable=False),
    Column("tcbm", Text, nullable=False),
    Column("components", LargeBinary, nullable=False),
    Column("pce_svn", Integer, nullable=False),
    Column("issued", Instant, nullable=False),
    Column("next_update", Instant, nullable=False),
    Column("content", LargeBinary, ForeignKey("endorser_objects.digest"), nullable=False),
    Column("issuer_chain", LargeBinary, ForeignKey("endorser_objects.digest"), nullable=False),
    Column("stored_at", Instant, nullable=False),
    Column("source", Text, nullable=False),
    Index("ix_endorser_pck_certificates_platform", "qe_id", "pce_id"),
)
"""Every PCK certificate that was ever taken in; of those with the same TCBm the last one counts."""

fmspcs = Table(
    "endorser_fmspcs",
    metadata,
    Column("root", Text, primary_key=True),
    Column("fmspc", Text, primary_key=True),
    Column("platform", Text, nullable=False),
    Column("first_listed", Instant, nullable=False),
    Column("last_listed", Instant, nullable=False),
    Column("source", Text, nullable=False),
)
"""The families of platforms that the chip maker lists, and has ever listed."""
