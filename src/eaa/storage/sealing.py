# SPDX-License-Identifier: Apache-2.0
"""What is sealed, under which context, and the proof that a database and a root key belong together."""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from sqlalchemy import insert, select
from sqlalchemy.exc import IntegrityError

from eaa.rats import ConfigurationError, EaaError, InputError, UnavailableError
from eaa.storage.records import SessionRecord
from eaa.storage.schema import microseconds, resources, seal_proof, sessions

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from eaa.storage.connections import Connections
    from eaa.storage.records import ResourceKind, Sealer

__all__ = [
    "StoredSession",
    "credential_digest",
    "json_text",
    "open_session",
    "prove_seal",
    "resource_context",
    "seal_session",
]

PROOF: Final = b"sealed with the root key of this database"


def context_of(table: str, *names: str) -> bytes:
    """Return the context that binds sealed bytes to one row: distinct for distinct names, whatever they contain."""
    return json.dumps(["eaa.storage", table, *names], separators=(",", ":")).encode()


def resource_context(path: str, kind: ResourceKind) -> bytes:
    """Return the context of a resource's content."""
    return context_of(resources.name, path, kind)


def session_context(digest: bytes, verdict_id: str, expires_at: datetime) -> bytes:
    """Return the context of a session: who changes its verdict or prolongs it in the file makes it unreadable."""
    return context_of(sessions.name, digest.hex(), verdict_id, str(microseconds(expires_at)))


def credential_digest(credential: bytes) -> bytes:
    """Return what is stored in place of a credential or nonce: its SHA-256. Both are random, so no salt is needed."""
    return sha256(credential).digest()


def json_text(value: Any, what: str) -> str:
    """Return ``value`` as compact JSON.

    :raises InputError: when it is no JSON value.
    """
    try:
        return json.dumps(value, allow_nan=False, separators=(",", ":"))
    except (TypeError, ValueError, RecursionError) as error:
        raise InputError(
            f"{what} is not a JSON value: {error}",
            hint="Use null, booleans, finite numbers, text, lists and objects.",
        ) from error


class StoredSession(NamedTuple):
    """A session as it lies in the database; ``digest`` is the SHA-256 of its id."""

    digest: bytes
    verdict_id: str
    sealed: bytes
    expires_at: datetime


async def seal_session(sealer: Sealer, session: SessionRecord) -> StoredSession:
    """Return what is stored of a session.

    :raises InputError: when its key or claims are no JSON values.
    """
    document = {
        "tee": session.tee,
        "tee_public_key": session.tee_public_key,
        "claims": session.claims,
        "token": session.token,
    }
    digest = credential_digest(session.id)
    context = session_context(digest, session.verdict_id, session.expires_at)
    sealed = await sealer.wrap(json_text(document, "the session").encode(), context=context)
    return StoredSession(digest, session.verdict_id, sealed, session.expires_at)


async def open_session(sealer: Sealer, stored: StoredSession, session_id: bytes) -> SessionRecord:
    """Return the session again.

    :raises EaaError: when what is stored was altered.
    """
    context = session_context(stored.digest, stored.verdict_id, stored.expires_at)
    document = json.loads(await sealer.unwrap(stored.sealed, context=context))
    return SessionRecord(
        id=session_id, verdict_id=stored.verdict_id, expires_at=stored.expires_at, **document
    )


async def prove_seal(connections: Connections, sealer: Sealer) -> None:
    """Make sure that ``sealer`` opens what is sealed in this database; in a new database, leave the proof.

    :raises ConfigurationError: when it does not.
    """
    context = context_of(seal_proof.name)
    sealed = await connections.read(_read_proof)
    if sealed is None:
        fresh = await sealer.wrap(PROOF, context=context)
        # When another process was first, its proof counts.
        with suppress(IntegrityError):
            await connections.write(_add_proof, fresh)
        sealed = await connections.read(_read_proof)
        assert sealed is not None
    try:
        proven = await sealer.unwrap(sealed, context=context) == PROOF
    except UnavailableError:
        raise
    except EaaError as error:
        raise ConfigurationError(
            f"the root key at hand is not the one this database was sealed with: {error}",
            hint="Give the root key that was in use when the database was made; without it, what is sealed cannot be recovered.",
        ) from error
    if not proven:
        raise ConfigurationError(
            "the database's proof of its root key opens to something else",
            hint="Restore the database from a backup: this one was altered.",
        )


def _read_proof(connection: Connection) -> bytes | None:
    sealed: bytes | None = connection.scalar(select(seal_proof.c.sealed).where(seal_proof.c.id == 1))
    return sealed


def _add_proof(connection: Connection, sealed: bytes) -> None:
    connection.execute(insert(seal_proof).values(id=1, sealed=sealed))
