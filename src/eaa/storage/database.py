# SPDX-License-Identifier: Apache-2.0
"""The database: one method per thing that can be done, each in one transaction."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eaa.storage.records import (
        PolicyInfo,
        PolicyKind,
        ReferenceValueInfo,
        ReleaseRecord,
        ResourceInfo,
        ResourceKind,
        Sealer,
        SessionRecord,
        VerdictRecord,
    )

__all__ = ["Database"]


class Database:
    """All state that outlives a request. Safe to share between the tasks of one event loop.

    Contents of resources and sessions are sealed with the :class:`~eaa.storage.Sealer`; credentials are kept as hashes only.
    """

    @classmethod
    async def open(cls, url: str, *, sealer: Sealer) -> Database:
        """Open the database, make or migrate its tables if need be, and prove that ``sealer`` is the one it was sealed with.

        Opening is idempotent, and safe when several processes do it at once. A new SQLite file is readable by its owner only.

        :param url: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``.
        :raises ConfigurationError: when the URL cannot be used, the database is of a newer program, or ``sealer`` has
            another root key.
        """
        raise NotImplementedError

    async def close(self) -> None:
        """Close every connection. Closing twice does no harm."""
        raise NotImplementedError

    # Resources

    async def put_resource(
        self, path: str, content: bytes, *, kind: ResourceKind = "resource"
    ) -> ResourceInfo:
        """Store ``content`` at ``path``, in place of what was there, and return it with its new version.

        :param path: ``<repo>/<type>/<tag>``.
        :raises InputError: when the path is not of that form.
        :raises Conflict: when the path holds a resource of another kind.
        """
        raise NotImplementedError

    async def create_resource(self, path: str, content: bytes, *, kind: ResourceKind = "resource") -> bool:
        """Store ``content`` at ``path`` unless something is there; return whether it was stored. Of two at once one wins.

        :raises InputError: when the path is not of the form ``<repo>/<type>/<tag>``.
        """
        raise NotImplementedError

    async def get_resource(self, path: str) -> bytes:
        """Return the content at ``path``, for the owner's side; releases go through :meth:`release_resource`.

        :raises NotFound: when nothing is there.
        :raises EaaError: when the sealed content was altered or moved.
        """
        raise NotImplementedError

    async def list_resources(self, prefix: str = "", kind: ResourceKind | None = None) -> list[ResourceInfo]:
        """Return what is stored under paths that begin with ``prefix``, in order of path, without content."""
        raise NotImplementedError

    async def delete_resource(self, path: str) -> None:
        """Delete what is at ``path``.

        :raises NotFound: when nothing is there.
        """
        raise NotImplementedError

    # Policies

    async def put_policy(self, kind: PolicyKind, name: str, text: str) -> PolicyInfo:
        """Make ``text`` the current version of the policy. The text that is current already makes no new version.

        :raises InputError: when the name or the text cannot be stored.
        """
        raise NotImplementedError

    async def get_policy(self, kind: PolicyKind, name: str) -> PolicyInfo:
        """Return the policy's current version.

        :raises NotFound: when there is none.
        """
        raise NotImplementedError

    async def list_policies(self, kind: PolicyKind | None = None) -> list[PolicyInfo]:
        """Return the current version of every policy, in order of kind and name."""
        raise NotImplementedError

    async def policy_history(self, kind: PolicyKind, name: str) -> list[PolicyInfo]:
        """Return every version there ever was, newest first, also of a policy that was deleted.

        :raises NotFound: when there never was one.
        """
        raise NotImplementedError

    async def delete_policy(self, kind: PolicyKind, name: str) -> None:
        """Take the policy out of force; its history stays.

        :raises NotFound: when it is not in force.
        """
        raise NotImplementedError

    # Reference values

    async def put_reference_values(
        self, values: Mapping[str, Any], *, expires_at: datetime | None = None
    ) -> None:
        """Set all of ``values`` (name → JSON value), or none of them.

        :raises InputError: when a name or value cannot be stored.
        """
        raise NotImplementedError

    async def reference_values(self, at: datetime) -> dict[str, Any]:
        """Return the values that count at ``at``: those that do not expire or expire later."""
        raise NotImplementedError

    async def list_reference_values(self) -> list[ReferenceValueInfo]:
        """Return every value, in order of name, expired ones too."""
        raise NotImplementedError

    async def delete_reference_value(self, name: str) -> None:
        """Delete one value.

        :raises NotFound: when there is none of that name.
        """
        raise NotImplementedError

    # Attestations

    async def record_attestation(
        self, *, nonce: bytes, expires_at: datetime, verdict: VerdictRecord, session: SessionRecord | None
    ) -> None:
        """Spend the nonce and record the verdict, and the session if there is one: all of it or nothing.

        :param expires_at: when the nonce expires; :meth:`purge` forgets that it was spent some time after that.
        :raises NonceReused: when the nonce was spent before.
        """
        raise NotImplementedError

    async def session(self, session_id: bytes, at: datetime) -> SessionRecord:
        """Return the session that this credential opens.

        :raises NotFound: when there is none, or it has expired at ``at``.
        :raises EaaError: when the stored session was altered.
        """
        raise NotImplementedError

    async def release_resource(
        self, path: str, *, session_id: bytes | None, verdict_id: str, at: datetime
    ) -> bytes:
        """Return the content at ``path`` for wrapping to the TEE, and record that it left. No record, no content.

        The verdict, the session's validity and the resource are read in the transaction that writes the record.

        :param session_id: the session's credential; None when the client came with an attestation token instead.
        :raises AccessDenied: when the verdict is unknown or not an accepting one (``release.verdict``), or the session is
            unknown, expired or not that verdict's (``release.session``).
        :raises NotFound: when there is no such resource.
        :raises EaaError: when the sealed content was altered or moved.
        """
        raise NotImplementedError

    async def releases(self, *, verdict_id: str | None = None, limit: int = 100) -> list[ReleaseRecord]:
        """Return the latest releases, newest first: all, or those that rest on one verdict."""
        raise NotImplementedError

    async def verdict(self, verdict_id: str) -> VerdictRecord:
        """Return one verdict.

        :raises NotFound: when there is none of that id.
        """
        raise NotImplementedError

    async def list_verdicts(self, limit: int = 100) -> list[VerdictRecord]:
        """Return the latest verdicts, newest first."""
        raise NotImplementedError

    async def purge(self, at: datetime) -> int:
        """Delete sessions and spent nonces that have expired at ``at``; return how many.

        Spent nonces are kept ten minutes longer, so that no request that was under way when its nonce expired can spend it again.
        """
        raise NotImplementedError

    async def state_version(self) -> int:
        """Return a number that grows with every change of policies or reference values: the key of cached snapshots."""
        raise NotImplementedError
