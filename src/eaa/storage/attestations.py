# SPDX-License-Identifier: Apache-2.0
"""Rows of nonces, verdicts, sessions and releases, as statements on a connection whose transaction the caller holds."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from eaa.rats import AccessDenied, NotFound
from eaa.storage.records import NonceReused, ReleaseRecord, VerdictRecord
from eaa.storage.schema import nonces, releases, sessions, verdicts
from eaa.storage.sealing import StoredSession

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Row
    from sqlalchemy.ext.asyncio import AsyncConnection

__all__ = [
    "add_release",
    "add_session",
    "add_verdict",
    "latest_releases",
    "latest_verdicts",
    "one_verdict",
    "purge",
    "require_releasable",
    "spend_nonce",
    "valid_session",
]

NONCE_GRACE: Final = timedelta(minutes=10)
"""How long a spent nonce is remembered after its expiry: longer than any request that found it unexpired can still run."""


async def spend_nonce(connection: AsyncConnection, digest: bytes, expires_at: datetime) -> None:
    """Note that the nonce is spent.

    :raises NonceReused: when it was before; the transaction can then only roll back.
    """
    try:
        await connection.execute(insert(nonces).values(digest=digest, expires_at=expires_at))
    except IntegrityError:
        raise NonceReused from None


async def add_verdict(connection: AsyncConnection, verdict: VerdictRecord, document: str) -> None:
    """Insert a verdict; ``document`` is its document as JSON text."""
    await connection.execute(
        insert(verdicts).values(
            id=verdict.id,
            at=verdict.at,
            tee=verdict.tee,
            accepted=verdict.accepted,
            evidence_digest=verdict.evidence_digest,
            document=document,
            request_id=verdict.request_id,
        )
    )


async def add_session(connection: AsyncConnection, stored: StoredSession) -> None:
    """Insert a session."""
    await connection.execute(insert(sessions).values(stored._asdict()))


async def valid_session(connection: AsyncConnection, digest: bytes, at: datetime) -> StoredSession | None:
    """Return the session, or None when there is none or it has expired at ``at``."""
    c = sessions.c
    statement = select(c.digest, c.verdict_id, c.sealed, c.expires_at)
    row = (await connection.execute(statement.where(c.digest == digest, c.expires_at > at))).one_or_none()
    return None if row is None else StoredSession(*row)


async def require_releasable(
    connection: AsyncConnection, verdict_id: str, session_digest: bytes | None, at: datetime
) -> None:
    """Return if something may be released on this verdict, in this session, at ``at``.

    :raises AccessDenied: otherwise.
    """
    accepted = await connection.scalar(select(verdicts.c.accepted).where(verdicts.c.id == verdict_id))
    if accepted is not True:
        raise AccessDenied(
            "nothing is released without a recorded verdict that accepts the evidence",
            check="release.verdict",
            hint="Attest again; `eaa explain` shows why evidence was rejected.",
        )
    if session_digest is None:
        return
    session = await valid_session(connection, session_digest, at)
    if session is None or session.verdict_id != verdict_id:
        raise AccessDenied(
            "the session has expired or does not belong to this verdict",
            check="release.session",
            hint="Attest again to open a new session.",
        )


async def add_release(
    connection: AsyncConnection,
    path: str,
    *,
    resource_version: int,
    verdict_id: str,
    session_digest: bytes | None,
    at: datetime,
) -> None:
    """Insert the record of a release."""
    await connection.execute(
        insert(releases).values(
            at=at,
            path=path,
            resource_version=resource_version,
            verdict_id=verdict_id,
            session_digest=session_digest,
        )
    )


async def latest_releases(
    connection: AsyncConnection, verdict_id: str | None, limit: int
) -> list[ReleaseRecord]:
    """Return releases, newest first."""
    c = releases.c
    statement = (
        select(c.id, c.at, c.path, c.resource_version, c.verdict_id).order_by(c.id.desc()).limit(limit)
    )
    if verdict_id is not None:
        statement = statement.where(c.verdict_id == verdict_id)
    rows = (await connection.execute(statement)).all()
    return [ReleaseRecord(row.id, row.at, row.path, row.resource_version, row.verdict_id) for row in rows]


def _verdict(row: Row[Any]) -> VerdictRecord:
    return VerdictRecord(
        id=row.id,
        at=row.at,
        tee=row.tee,
        accepted=row.accepted,
        evidence_digest=row.evidence_digest,
        document=json.loads(row.document),
        request_id=row.request_id,
    )


async def one_verdict(connection: AsyncConnection, verdict_id: str) -> VerdictRecord:
    """Return one verdict.

    :raises NotFound: when there is none of that id.
    """
    row = (await connection.execute(select(verdicts).where(verdicts.c.id == verdict_id))).one_or_none()
    if row is None:
        raise NotFound(f"no verdict {verdict_id[:200]!r}", hint="Ask for an id that an attestation returned.")
    return _verdict(row)


async def latest_verdicts(connection: AsyncConnection, limit: int) -> list[VerdictRecord]:
    """Return verdicts, newest first."""
    statement = select(verdicts).order_by(verdicts.c.at.desc(), verdicts.c.id.desc()).limit(limit)
    return [_verdict(row) for row in (await connection.execute(statement)).all()]


async def purge(connection: AsyncConnection, at: datetime) -> int:
    """Delete expired sessions and nonces; return how many."""
    gone = await connection.execute(delete(sessions).where(sessions.c.expires_at <= at))
    spent = await connection.execute(delete(nonces).where(nonces.c.expires_at <= at - NONCE_GRACE))
    return gone.rowcount + spent.rowcount
