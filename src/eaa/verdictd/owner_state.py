# SPDX-License-Identifier: Apache-2.0
"""What the owner wants, as requests see it: policies, reference values and active sets, read again when the database says that they changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import NotFound
from eaa.verdictd.services import ATTESTATION_POLICY, RESOURCE_POLICY
from eaa.verifier.expected_sets import NO_SETS

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.storage import Database, PolicyKind, ReferenceValueInfo
    from eaa.verdictd.services import ReferenceSetSource
    from eaa.verifier.expected_sets import ExpectedSets

__all__ = ["OwnerSnapshot", "OwnerState"]


_BEGINNING: Final = datetime.min.replace(tzinfo=UTC)
_END: Final = datetime.max.replace(tzinfo=UTC)


@dataclass(slots=True)
class _Counting:
    """Values that count from one instant to another, remembered."""

    values: Mapping[str, Any] | None = None
    since: datetime = _END
    until: datetime = _BEGINNING


@dataclass(frozen=True, slots=True)
class OwnerSnapshot:
    """Policies and reference values at one version of the owner's state. A policy that is not in force is None.

    ``values`` are the owner's own, ``sets`` the signed ones that are active.
    """

    version: int
    attestation_policy: str | None
    resource_policy: str | None
    values: tuple[ReferenceValueInfo, ...]
    sets: ExpectedSets = NO_SETS
    _counting: _Counting = field(default_factory=_Counting, repr=False, compare=False)

    def reference_values(self, at: datetime) -> Mapping[str, Any]:
        """Return the owner's own values that count at ``at``: gathered anew only when another one has expired."""
        counting = self._counting
        if counting.values is None or not counting.since <= at < counting.until:
            ends = [info.expires_at for info in self.values if info.expires_at is not None]
            counting.since = max((each for each in ends if each <= at), default=_BEGINNING)
            counting.until = min((each for each in ends if each > at), default=_END)
            counting.values = {
                info.name: info.value
                for info in self.values
                if info.expires_at is None or info.expires_at > at
            }
        return counting.values


class OwnerState:
    """Gives the current snapshot. Every call asks the database for its version: no replica works with what was changed elsewhere."""

    def __init__(self, database: Database, sets: ReferenceSetSource | None = None) -> None:
        self._database = database
        self._sets = sets
        self._snapshot: OwnerSnapshot | None = None
        self._reading = asyncio.Lock()

    async def current(self) -> OwnerSnapshot:
        """Return the snapshot that holds now."""
        # The version is read before the content: a change in between makes the next call read again.
        version = await self._database.state_version()
        snapshot = self._snapshot
        if snapshot is not None and snapshot.version == version:
            return snapshot
        async with self._reading:  # one request reads it, and all that wait for it have it
            snapshot = self._snapshot
            if snapshot is None or snapshot.version < version:
                self._snapshot = snapshot = await self._read()
            return snapshot

    async def _read(self) -> OwnerSnapshot:
        return OwnerSnapshot(
            await self._database.state_version(),
            await self._policy("attestation", ATTESTATION_POLICY),
            await self._policy("resource", RESOURCE_POLICY),
            tuple(await self._database.list_reference_values()),
            NO_SETS if self._sets is None else await self._sets.active(),
        )

    async def _policy(self, kind: PolicyKind, name: str) -> str | None:
        try:
            return (await self._database.get_policy(kind, name)).text
        except NotFound:
            return None
