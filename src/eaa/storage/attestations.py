# SPDX-License-Identifier: Apache-2.0
"""Rows of nonces, verdicts, sessions and releases, as statements on a connection whose transaction the caller holds."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import delete, insert, select
from sqlalchemy.exc import IntegrityError

from eaa.rats import AccessDenied, NotFound
from eaa.storage import resources
from eaa.storage.records import NonceReused, ReleaseRecord, SessionInfo, VerdictRecord
from eaa.storage.schema import nonces, releases, sessions, verdicts
from eaa.storage.sealing import StoredSession

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection, Row

__all__ = [
    "end_sessions",
    "latest_releases",
    "latest_verdicts",
    "one_verdict",
    "open_sessions",
    "purge",
    "record",
    "releasable",
    "release",
    "valid_session",
]

NONCE_GRACE: Final = timedelta(minutes=10)
"""How long a spent nonce is remembered after its expiry: longer than any request that found it unexpired can still run."""


def record(
    connection: Connection,
    *,
    nonce_digest: bytes,
    nonce_expires_at: datetime,
    verdict: VerdictRecord,
    document: str,
    session: StoredSession | None,
) -> None:
    """Spend the nonce and insert the verdict, its document given as JSON text, and the session if there is one.

    :raises NonceReused: when the nonce was spent before; the transaction can then only roll back.
    """
    try:
        connection.execute(insert(nonces).values(digest=nonce_digest, expires_at=nonce_expires_at))
    except IntegrityError:
        raise NonceReused from None
    connection.execute(
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
    if session is not None:
        connection.execute(insert(sessions).values(session._asdict()))


def valid_session(connection: Connection, digest: bytes, at: datetime) -> StoredSession | None:
    """Return the session, or None when there is none or it has expired at ``at``."""
    c = sessions.c
    statement = select(c.digest, c.verdict_id, c.sealed, c.expires_at)
    row = connection.execute(statement.where(c.digest == digest, c.expires_at > at)).one_or_none()
    return None if row is None else StoredSession(*row)


def releasable(
    connection: Connection, path: str, *, verdict_id: str, session_digest: bytes | None, at: datetime
) -> resources.SealedResource:
    """Return what may be released from ``path`` on this verdict at ``at``, in this session, or in any of the verdict's if none is given.

    :raises AccessDenied: when the verdict or the session does not allow it.
    :raises NotFound: when nothing is at ``path``.
    """
    require_verdict(connection, verdict_id)
    require_session(connection, session_digest, verdict_id, at)
    return resources.fetch(connection, path)


def release(
    connection: Connection,
    path: str,
    sealed: bytes,
    *,
    verdict_id: str,
    session_digest: bytes | None,
    at: datetime,
) -> bool:
    """Record that ``sealed`` leaves; return False, having done nothing, when ``path`` now holds something else.

    :raises AccessDenied: as :func:`releasable` does.
    :raises NotFound: as :func:`releasable` does.
    """
    row = releasable(connection, path, verdict_id=verdict_id, session_digest=session_digest, at=at)
    if row.sealed != sealed:
        return False
    connection.execute(
        insert(releases).values(
            at=at,
            path=path,
            resource_version=row.version,
            verdict_id=verdict_id,
            session_digest=session_digest,
        )
    )
    return True


def require_verdict(connection: Connection, verdict_id: str) -> None:
    """Return if the verdict is there and accepts.

    :raises AccessDenied: otherwise.
    """
    accepted = connection.scalar(select(verdicts.c.accepted).where(verdicts.c.id == verdict_id))
    if accepted is not True:
        raise AccessDenied(
            "nothing is released without a recorded verdict that accepts the evidence",
            check="release.verdict",
            hint="Attest again; `eaa explain` shows why evidence was rejected.",
        )


def require_session(connection: Connection, digest: bytes | None, verdict_id: str, at: datetime) -> None:
    """Return if the session, or without a ``digest`` some session, is open at ``at`` and rests on this verdict.

    Whoever comes with a token has no session to show; but the token was issued with one, and ends with it.

    :raises AccessDenied: otherwise.
    """
    c = sessions.c
    rests = (c.verdict_id == verdict_id, c.expires_at > at, *([] if digest is None else [c.digest == digest]))
    if connection.scalar(select(c.verdict_id).where(*rests).limit(1)) is None:
        raise AccessDenied(
            "the session has ended or does not belong to this verdict",
            check="release.session",
            hint="Attest again to open a new session.",
        )


def open_sessions(connection: Connection, at: datetime, limit: int) -> list[SessionInfo]:
    """Return the sessions that are open at ``at``, those that end last first."""
    c, v = sessions.c, verdicts.c
    statement = (
        select(c.digest, v.tee, c.verdict_id, v.at, c.expires_at)
        .join(verdicts, v.id == c.verdict_id)
        .where(c.expires_at > at)
        .order_by(c.expires_at.desc(), c.digest)
        .limit(limit)
    )
    return [SessionInfo(*row) for row in connection.execute(statement).all()]


def end_sessions(
    connection: Connection, at: datetime, *, digest: bytes | None, verdict_id: str | None
) -> int:
    """End the session of this digest, those on this verdict, or without either all; return how many were open at ``at``."""
    c = sessions.c
    chosen = [c.expires_at > at]
    chosen += [] if digest is None else [c.digest == digest]
    chosen += [] if verdict_id is None else [c.verdict_id == verdict_id]
    return connection.execute(delete(sessions).where(*chosen)).rowcount


def latest_releases(connection: Connection, verdict_id: str | None, limit: int) -> list[ReleaseRecord]:
    """Return releases, newest first."""
    c = releases.c
    statement = (
        select(c.id, c.at, c.path, c.resource_version, c.verdict_id).order_by(c.id.desc()).limit(limit)
    )
    if verdict_id is not None:
        statement = statement.where(c.verdict_id == verdict_id)
    rows = connection.execute(statement).all()
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


def one_verdict(connection: Connection, verdict_id: str) -> VerdictRecord:
    """Return one verdict.

    :raises NotFound: when there is none of that id.
    """
    row = connection.execute(select(verdicts).where(verdicts.c.id == verdict_id)).one_or_none()
    if row is None:
        raise NotFound(f"no verdict {verdict_id[:200]!r}", hint="Ask for an id that an attestation returned.")
    return _verdict(row)


def latest_verdicts(connection: Connection, limit: int) -> list[VerdictRecord]:
    """Return verdicts, newest first."""
    statement = select(verdicts).order_by(verdicts.c.at.desc(), verdicts.c.id.desc()).limit(limit)
    return [_verdict(row) for row in connection.execute(statement).all()]


def purge(connection: Connection, at: datetime) -> int:
    """Delete expired sessions and nonces; return how many."""
    gone = connection.execute(delete(sessions).where(sessions.c.expires_at <= at))
    spent = connection.execute(delete(nonces).where(nonces.c.expires_at <= at - NONCE_GRACE))
    return gone.rowcount + spent.rowcount
