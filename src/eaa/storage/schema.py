# SPDX-License-Identifier: Apache-2.0
"""The tables, as the newest migration leaves them, in types that SQLite and PostgreSQL share."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    ForeignKeyConstraint,
    Integer,
    LargeBinary,
    MetaData,
    Table,
    Text,
    TypeDecorator,
)

if TYPE_CHECKING:
    from sqlalchemy import Dialect

__all__ = [
    "NAMING",
    "Instant",
    "metadata",
    "nonces",
    "policies",
    "policy_versions",
    "reference_values",
    "releases",
    "resources",
    "seal_proof",
    "sessions",
    "state",
    "verdicts",
]

EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
MICROSECOND: Final = timedelta(microseconds=1)


class Instant(TypeDecorator[datetime]):
    """An instant as whole microseconds since 1970 UTC: exact, ordered and the same in every database."""

    impl = BigInteger
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> int | None:  # noqa: ARG002 - fixed by SQLAlchemy
        """Encode; a datetime without a zone is a mistake in our code and is refused."""
        return None if value is None else microseconds(value)

    def process_result_value(self, value: int | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002 - fixed by SQLAlchemy
        """Decode to an aware datetime in UTC."""
        return None if value is None else EPOCH + value * MICROSECOND


def microseconds(at: datetime) -> int:
    """Return whole microseconds since 1970 UTC.

    :raises ValueError: when ``at`` has no time zone.
    """
    if at.tzinfo is None:
        raise ValueError("a datetime without a time zone names no instant")
    return (at - EPOCH) // MICROSECOND


NAMING: Final = {
    "ix": "ix_%(column_0_label)s",
    "fk": "fk_%(table_name)s_%(column_0_name)s_%(referred_table_name)s",
    "pk": "pk_%(table_name)s",
}
"""Constraints have names that migrations can call them by."""

metadata: Final = MetaData(naming_convention=NAMING)

state = Table(
    "state",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
)
"""One row: how often policies and reference values have changed. Whoever changes them locks it first."""

seal_proof = Table(
    "seal_proof",
    metadata,
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("sealed", LargeBinary, nullable=False),
)
"""One row, sealed when the database was made: it opens under the right root key only."""

resources = Table(
    "resources",
    metadata,
    Column("path", Text, primary_key=True),
    Column("kind", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("size", BigInteger, nullable=False),
    Column("sealed", LargeBinary, nullable=False),
    Column("updated_at", Instant, nullable=False),
)

policy_versions = Table(
    "policy_versions",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, primary_key=True, autoincrement=False),
    Column("digest", Text, nullable=False),
    Column("text", Text, nullable=False),
    Column("updated_at", Instant, nullable=False),
)
"""Every policy text there ever was; rows are only added."""

policies = Table(
    "policies",
    metadata,
    Column("kind", Text, primary_key=True),
    Column("name", Text, primary_key=True),
    Column("version", Integer, nullable=False),
    ForeignKeyConstraint(
        ["kind", "name", "version"],
        ["policy_versions.kind", "policy_versions.name", "policy_versions.version"],
    ),
)
"""Which version of each policy is in force."""

reference_values = Table(
    "reference_values",
    metadata,
    Column("name", Text, primary_key=True),
    Column("value", Text, nullable=False),
    Column("expires_at", Instant),
    Column("updated_at", Instant, nullable=False),
)

nonces = Table(
    "nonces",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("expires_at", Instant, nullable=False, index=True),
)
"""SHA-256 of every spent nonce. That the digest is the primary key is what makes a nonce single-use."""

verdicts = Table(
    "verdicts",
    metadata,
    Column("id", Text, primary_key=True),
    Column("at", Instant, nullable=False, index=True),
    Column("tee", Text, nullable=False),
    Column("accepted", Boolean, nullable=False),
    Column("evidence_digest", LargeBinary, nullable=False),
    Column("document", Text, nullable=False),
    Column("request_id", Text, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("digest", LargeBinary, primary_key=True),
    Column("verdict_id", ForeignKey("verdicts.id"), nullable=False, index=True),
    Column("sealed", LargeBinary, nullable=False),
    Column("expires_at", Instant, nullable=False, index=True),
)
"""``digest`` is the SHA-256 of the session's id. Nothing is released on a verdict that has no session any more."""

releases = Table(
    "releases",
    metadata,
    Column("id", BigInteger().with_variant(Integer, "sqlite"), primary_key=True),
    Column("at", Instant, nullable=False),
    Column("path", Text, nullable=False),
    Column("resource_version", Integer, nullable=False),
    Column("verdict_id", ForeignKey("verdicts.id"), nullable=False, index=True),
    Column("session_digest", LargeBinary),
)
"""What left. ``session_digest`` is no foreign key: sessions are purged, this record is not."""
