# SPDX-License-Identifier: Apache-2.0
"""The database: one method per thing that can be done, each in one transaction."""

from __future__ import annotations

from contextlib import suppress
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy.exc import IntegrityError

from eaa.rats import NotFound, UnavailableError
from eaa.storage import attestations, owner, resources
from eaa.storage.connections import open_connections
from eaa.storage.migrate import migrate
from eaa.storage.sealing import (
    credential_digest,
    json_text,
    open_session,
    prove_seal,
    resource_context,
    seal_session,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.storage.connections import Connections
    from eaa.storage.records import (
        PolicyInfo,
        PolicyKind,
        ReferenceValueInfo,
        ReleaseRecord,
        ResourceInfo,
        ResourceKind,
        Sealer,
        SessionInfo,
        SessionRecord,
        VerdictRecord,
    )

__all__ = ["Database"]

ATTEMPTS: Final = 5
"""How often a transaction is tried again because someone else changed the same resource meanwhile."""


class Database:
    """All state that outlives a request. Safe to share between the tasks of one event loop.

    Contents of resources and sessions are sealed with the :class:`~eaa.storage.Sealer`; credentials are kept as hashes only.
    """

    def __init__(self, connections: Connections, sealer: Sealer) -> None:
        """Take what :meth:`open` has made; use that."""
        self._connections = connections
        self._sealer = sealer

    @classmethod
    async def open(cls, url: str, *, sealer: Sealer) -> Database:
        """Open the database, make or migrate its tables if need be, and prove that ``sealer`` is the one it was sealed with.

        Opening is idempotent, and safe when several processes do it at once. A new SQLite file is readable by its owner only.

        :param url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``.
        :raises ConfigurationError: when the URL cannot be used, the database is of a newer program, or ``sealer`` has
            another root key.
        """
        connections = await open_connections(url)
        try:
            await migrate(connections, url)
            await prove_seal(connections, sealer)
        except BaseException:
            await connections.close()
            raise
        return cls(connections, sealer)

    async def close(self) -> None:
        """Close every connection. Closing twice does no harm."""
        await self._connections.close()

    # Resources

    async def put_resource(
        self, path: str, content: bytes, *, kind: ResourceKind = "resource"
    ) -> ResourceInfo:
        """Store ``content`` at ``path``, in place of what was there, and return it with its new version.

        :param path: ``<repo>/<type>/<tag>``.
        :raises InputError: when the path is not of that form.
        :raises Conflict: when the path holds a resource of another kind.
        """
        resources.check_path(path)
        sealed = await self._sealer.wrap(content, context=resource_context(path, kind))
        for _ in range(ATTEMPTS):
            with suppress(IntegrityError):  # created by someone else meanwhile: replace theirs
                return await self._connections.write(
                    resources.put, path, sealed, kind=kind, size=len(content), at=_now()
                )
        raise _contended(path)

    async def create_resource(self, path: str, content: bytes, *, kind: ResourceKind = "resource") -> bool:
        """Store ``content`` at ``path`` unless something is there; return whether it was stored. Of two at once one wins.

        :raises InputError: when the path is not of the form ``<repo>/<type>/<tag>``.
        """
        resources.check_path(path)
        sealed = await self._sealer.wrap(content, context=resource_context(path, kind))
        try:
            await self._connections.write(
                resources.add, path, sealed, kind=kind, size=len(content), at=_now()
            )
        except IntegrityError:
            return False
        return True

    async def get_resource(self, path: str) -> bytes:
        """Return the content at ``path``, for the owner's side; releases go through :meth:`release_resource`.

        :raises NotFound: when nothing is there.
        :raises EaaError: when the sealed content was altered or moved.
        """
        row = await self._connections.read(resources.fetch, path)
        return await self._sealer.unwrap(row.sealed, context=resource_context(path, row.kind))

    async def list_resources(self, prefix: str = "", kind: ResourceKind | None = None) -> list[ResourceInfo]:
        """Return what is stored under paths that begin with ``prefix``, in order of path, without content."""
        return await self._connections.read(resources.listed, prefix, kind)

    async def delete_resource(self, path: str) -> None:
        """Delete what is at ``path``.

        :raises NotFound: when nothing is there.
        """
        await self._connections.write(resources.remove, path)

    # Policies

    async def put_policy(self, kind: PolicyKind, name: str, text: str) -> PolicyInfo:
        """Make ``text`` the current version of the policy. The text that is current already makes no new version.

        :raises InputError: when the name or the text cannot be stored.
        """
        owner.check_name(name, "policy")
        owner.check_text(text)
        return await self._connections.write(owner.set_policy, kind, name, text, _now())

    async def get_policy(self, kind: PolicyKind, name: str) -> PolicyInfo:
        """Return the policy's current version.

        :raises NotFound: when there is none.
        """
        found = await self._connections.read(owner.policies_in_force, kind, name)
        if not found:
            raise owner.no_policy(kind, name)
        return found[0]

    async def list_policies(self, kind: PolicyKind | None = None) -> list[PolicyInfo]:
        """Return the current version of every policy, in order of kind and name."""
        return await self._connections.read(owner.policies_in_force, kind)

    async def policy_history(self, kind: PolicyKind, name: str) -> list[PolicyInfo]:
        """Return every version there ever was, newest first, also of a policy that was deleted.

        :raises NotFound: when there never was one.
        """
        found = await self._connections.read(owner.policy_versions_of, kind, name)
        if not found:
            raise owner.no_policy(kind, name)
        return found

    async def delete_policy(self, kind: PolicyKind, name: str) -> None:
        """Take the policy out of force; its history stays.

        :raises NotFound: when it is not in force.
        """
        await self._connections.write(owner.drop_policy, kind, name)

    # Reference values

    async def put_reference_values(
        self, values: Mapping[str, Any], *, expires_at: datetime | None = None
    ) -> None:
        """Set all of ``values`` (name → JSON value), or none of them.

        :raises InputError: when a name or value cannot be stored.
        """
        encoded = owner.encoded_values(values)
        if not encoded:
            return
        await self._connections.write(owner.set_reference_values, encoded, expires_at=expires_at, at=_now())

    async def reference_values(self, at: datetime) -> dict[str, Any]:
        """Return the values that count at ``at``: those that do not expire or expire later."""
        found = await self._connections.read(owner.reference_values_at, at)
        return {each.name: each.value for each in found}

    async def list_reference_values(self) -> list[ReferenceValueInfo]:
        """Return every value, in order of name, expired ones too."""
        return await self._connections.read(owner.reference_values_at, None)

    async def delete_reference_value(self, name: str) -> None:
        """Delete one value.

        :raises NotFound: when there is none of that name.
        """
        await self._connections.write(owner.drop_reference_value, name)

    # Attestations

    async def record_attestation(
        self, *, nonce: bytes, expires_at: datetime, verdict: VerdictRecord, session: SessionRecord | None
    ) -> None:
        """Spend the nonce and record the verdict, and the session if there is one: all of it or nothing.

        :param expires_at: when the nonce expires; :meth:`purge` forgets that it was spent some time after that.
        :raises NonceReused: when the nonce was spent before.
        """
        document = json_text(verdict.document, "the verdict's document")
        stored = None if session is None else await seal_session(self._sealer, session)
        await self._connections.write(
            attestations.record,
            nonce_digest=credential_digest(nonce),
            nonce_expires_at=expires_at,
            verdict=verdict,
            document=document,
            session=stored,
        )

    async def session(self, session_id: bytes, at: datetime) -> SessionRecord:
        """Return the session that this credential opens.

        :raises NotFound: when there is none, or it has expired at ``at``.
        :raises EaaError: when the stored session was altered.
        """
        digest = credential_digest(session_id)
        stored = await self._connections.read(attestations.valid_session, digest, at)
        if stored is None:
            raise NotFound("no such session, or it has expired", hint="Attest again to open a new session.")
        return await open_session(self._sealer, stored, session_id)

    async def list_sessions(self, at: datetime, limit: int = 100) -> list[SessionInfo]:
        """Return the sessions that are open at ``at``, those that end last first."""
        return await self._connections.read(attestations.open_sessions, at, limit)

    async def end_sessions(
        self, at: datetime, *, digest: bytes | None = None, verdict_id: str | None = None
    ) -> int:
        """End the session of this digest, those that rest on this verdict, or without either all; return how many were open at ``at``.

        From then on no process releases anything in them, nor on the tokens that were issued with them.
        """
        return await self._connections.write(
            attestations.end_sessions, at, digest=digest, verdict_id=verdict_id
        )

    async def release_resource(
        self, path: str, *, session_id: bytes | None, verdict_id: str, at: datetime
    ) -> bytes:
        """Return the content at ``path`` for wrapping to the TEE, and record that it left. No record, no content.

        The verdict, the session's validity and the resource are read in the transaction that writes the record.

        :param session_id: the session's credential; None when the client came with an attestation token instead, which opens as long
            as the session that it was issued with.
        :raises AccessDenied: when the verdict is unknown or not an accepting one (``release.verdict``), or the session is
            unknown, has ended or is not that verdict's (``release.session``).
        :raises NotFound: when there is no such resource.
        :raises EaaError: when the sealed content was altered or moved.
        """
        session_digest = None if session_id is None else credential_digest(session_id)
        for _ in range(ATTEMPTS):
            row = await self._connections.read(
                attestations.releasable, path, verdict_id=verdict_id, session_digest=session_digest, at=at
            )
            # Opening may call a remote KMS, and no transaction waits for that: the one that follows makes the same checks
            # again and makes sure that it is still this content.
            content = await self._sealer.unwrap(row.sealed, context=resource_context(path, row.kind))
            released = await self._connections.write(
                attestations.release,
                path,
                row.sealed,
                verdict_id=verdict_id,
                session_digest=session_digest,
                at=at,
            )
            if released:
                return content
        raise _contended(path)

    async def releases(self, *, verdict_id: str | None = None, limit: int = 100) -> list[ReleaseRecord]:
        """Return the latest releases, newest first: all, or those that rest on one verdict."""
        return await self._connections.read(attestations.latest_releases, verdict_id, limit)

    async def verdict(self, verdict_id: str) -> VerdictRecord:
        """Return one verdict.

        :raises NotFound: when there is none of that id.
        """
        return await self._connections.read(attestations.one_verdict, verdict_id)

    async def list_verdicts(self, limit: int = 100) -> list[VerdictRecord]:
        """Return the latest verdicts, newest first."""
        return await self._connections.read(attestations.latest_verdicts, limit)

    async def purge(self, at: datetime) -> int:
        """Delete sessions and spent nonces that have expired at ``at``; return how many.

        Spent nonces are kept ten minutes longer, so that no request that was under way when its nonce expired can spend it again.
        """
        return await self._connections.write(attestations.purge, at)

    async def state_version(self) -> int:
        """Return a number that grows with every change of policies or reference values: the key of cached snapshots.

        Read it before what it stands for; then a change in between makes the snapshot too new, never stale.
        """
        return await self._connections.read(owner.state_version)


def _now() -> datetime:
    return datetime.now(UTC)


def _contended(path: str) -> UnavailableError:
    return UnavailableError(f"{path!r} is being changed too often just now", hint="Try again.")
