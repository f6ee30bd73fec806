# SPDX-License-Identifier: Apache-2.0
"""What the owner wants, as requests see it: policies and reference values, read again when the database says that they changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eaa.rats import NotFound
from eaa.verdictd.services import ATTESTATION_POLICY, RESOURCE_POLICY

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.storage import Database, PolicyKind, ReferenceValueInfo

__all__ = ["OwnerSnapshot", "OwnerState"]


@dataclass(frozen=True, slots=True)
class OwnerSnapshot:
    """Policies and reference values at one version of the owner's state. A policy that is not in force is None."""

    version: int
    attestation_policy: str | None
    resource_policy: str | None
    values: tuple[ReferenceValueInfo, ...]

    def reference_values(self, at: datetime) -> dict[str, Any]:
        """Return the values that count at ``at``."""
        return {
            info.name: info.value for info in self.values if info.expires_at is None or info.expires_at > at
        }


class OwnerState:
    """Gives the current snapshot. Every call asks the database for its version: no replica works with what was changed elsewhere."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._snapshot: OwnerSnapshot | None = None

    async def current(self) -> OwnerSnapshot:
        """Return the snapshot that holds now."""
        # The version is read before the content: a change in between makes the next call read again.
        version = await self._database.state_version()
        snapshot = self._snapshot
        if snapshot is None or snapshot.version != version:
            snapshot = OwnerSnapshot(
                version,
                await self._policy("attestation", ATTESTATION_POLICY),
                await self._policy("resource", RESOURCE_POLICY),
                tuple(await self._database.list_reference_values()),
            )
            self._snapshot = snapshot
        return snapshot

    async def _policy(self, kind: PolicyKind, name: str) -> str | None:
        try:
            return (await self._database.get_policy(kind, name)).text
        except NotFound:
            return None
