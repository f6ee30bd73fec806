# SPDX-License-Identifier: Apache-2.0
"""Whoever proposes and activates sets, for tests of what may happen to them."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from eaa.verdict.envelope import seal
from eaa.verdict.reference_set import ReferenceSet, RegisterValue
from eaa.verdict.signers import SignerPolicy, Signers

if TYPE_CHECKING:
    from eaa._keys import PrivateKey
    from eaa.verdict.service import ReferenceSets

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Desk:
    """Whoever proposes and activates sets of one product, with the keys that may sign it."""

    def __init__(self, keys: tuple[PrivateKey, ...], model: ReferenceSet) -> None:
        self.keys = keys
        self.model = model
        self.time = AT
        self.policy = self.policy_of(keys[:2])
        self.sets: ReferenceSets

    @staticmethod
    def policy_of(keys: tuple[PrivateKey, ...], threshold: int = 1) -> SignerPolicy:
        named = {f"key {n}": key.public_key() for n, key in enumerate(keys)}
        return SignerPolicy((Signers("acme/*", named, threshold),))

    def set(self, version: int = 1, **changes: Any) -> ReferenceSet:
        value = f"{version:02x}" * 48
        registers = tuple(RegisterValue(name, (value,)) for name in ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2"))
        fields: dict[str, Any] = {"version": version, "registers": registers, "supersedes": None}
        return replace(self.model, **fields | changes)

    async def propose(self, version: int = 1, *keys: PrivateKey, **changes: Any) -> str:
        envelope = seal(self.set(version, **changes).to_statement(), keys or self.keys[:1])
        return str((await self.sets.propose(envelope, who="alice", why="a release"))["digest"])

    async def active(self, version: int, **changes: Any) -> str:
        digest = await self.propose(version, **changes)
        await self.do("activate", digest)
        return digest

    async def do(self, action: str, digest: str) -> None:
        await self.sets.change(digest, action, who="bob", why=f"because {action}")

    async def admitted(self) -> list[int]:
        """Return the versions whose registers are admitted now."""
        active = await self.sets.active()
        return [
            version
            for version in range(1, 10)
            if active.find(
                "tdx",
                dict.fromkeys(("mr_td", "rtmr_0", "rtmr_1", "rtmr_2"), f"{version:02x}" * 48),
                self.time,
            )
        ]

    async def states(self) -> dict[int, str]:
        return {each["version"]: each["state"] for each in await self.sets.listed()}
