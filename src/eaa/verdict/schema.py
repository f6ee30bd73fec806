# SPDX-License-Identifier: Apache-2.0
"""The tables of signed sets, beside those of :mod:`eaa.storage.schema` in one database: a change of either is a change of the owner's state."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Column,
    ForeignKey,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    UniqueConstraint,
)

from eaa.storage.migrate import Steps
from eaa.storage.schema import NAMING, Instant

__all__ = ["STEPS", "changes", "metadata", "provenance", "sets", "sources", "values"]

STEPS: Final = Steps("eaa.verdict:migrations", "0001", "verdict_version")
metadata: Final = MetaData(naming_convention={**NAMING, "uq": "uq_%(table_name)s_%(column_0_name)s"})

sets = Table(
    "verdict_sets",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("product", Text, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("tee", Text, nullable=False),
    Column("state", Text, nullable=False, index=True),
    Column("envelope", LargeBinary, nullable=False),
    Column("expires_at", Instant),
    Column("supersedes", BigInteger),
    Column("activated_at", Instant),
    UniqueConstraint("product", "version"),
)
"""Every set there ever was. ``digest`` is of its statement, ``activated_at`` when it first became active: no version below that ever may."""

values = Table(
    "verdict_values",
    metadata,
    Column("value", Text, primary_key=True),
    Column("register", Text, primary_key=True),
    Column("digest", ForeignKey("verdict_sets.digest"), primary_key=True),
)
"""Which sets have a value, so that where it came from is found at once."""

provenance = Table(
    "verdict_provenance",
    metadata,
    Column("digest", Text, primary_key=True),
    Column("envelope", LargeBinary, nullable=False),
)
"""Signed statements about where artifacts come from, by the SHA-256 that sets name them by."""

sources = Table(
    "verdict_sources",
    metadata,
    Column("url", Text, primary_key=True),
    Column("sequence", BigInteger, nullable=False),
    Column("asked_at", Instant),
    Column("followed_at", Instant),
    Column("error", Text, nullable=False),
    Column("held", Text, nullable=False),
)
"""The Verdicts that are subscribed to: the last index that was followed, when it was asked for, what was wrong last, and why it is held."""

changes = Table(
    "verdict_changes",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("digest", ForeignKey("verdict_sets.digest"), nullable=False, index=True),
    Column("at", Instant, nullable=False),
    Column("action", Text, nullable=False),
    Column("state", Text, nullable=False),
    Column("who", Text, nullable=False),
    Column("why", Text, nullable=False),
)
"""What happened to each set, by whom and why; rows are only added."""
