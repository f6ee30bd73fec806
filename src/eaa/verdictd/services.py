# SPDX-License-Identifier: Apache-2.0
"""Everything a Verdictd is made of, handed to it at construction. There are no globals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eaa.rats import Endorsements, Evidence
    from eaa.storage import Database
    from eaa.verdictd._challenge import ChallengeSealer
    from eaa.verdictd.administrator import Administrators
    from eaa.verdictd.metrics import Metrics
    from eaa.verifier import Verifier
    from eaa.verifier.ear import TokenIssuer
    from eaa.verifier.expected_sets import ExpectedSets
    from eaa.verifier.policy import PolicyEngine

__all__ = ["ATTESTATION_POLICY", "RESOURCE_POLICY", "EndorsementSource", "ReferenceSetSource", "Services"]

ATTESTATION_POLICY: Final = "default_cpu"
"""The attestation policy in force; the name that Trustee's clients write."""
RESOURCE_POLICY: Final = "resource-policy"
"""The resource policy in force; the name that Trustee lists."""


class EndorsementSource(Protocol):
    """Where collateral comes from. It answers from what is at hand: no vendor is asked while a guest waits."""

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        """Return what is there for this evidence; what is missing shows in the appraisal."""
        ...

    async def observe(self, evidence: Evidence) -> object:
        """Take note of a platform whose evidence has proven genuine, so that its collateral is kept fresh.

        :raises UnavailableError: when that cannot be written down now.
        """
        ...


class ReferenceSetSource(Protocol):
    """Signed sets of reference values, in the database that Verdictd keeps its state in: a change of one grows that state's version.

    Sets are called by their digest, the beginning of it, or ``product@version``; they come as plain JSON.
    """

    async def active(self) -> ExpectedSets:
        """Return the active sets whose signatures hold."""
        ...

    async def preview(self, digest: str, action: str) -> ExpectedSets:
        """Return what :meth:`active` would be after an action.

        :raises EaaError: as :meth:`change` would.
        """
        ...

    async def listed(self, product: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
        """Return summaries."""
        ...

    async def get(self, digest: str) -> dict[str, Any]:
        """Return everything about one set.

        :raises NotFound: when there is none.
        """
        ...

    async def explain(self, value: str) -> list[dict[str, Any]]:
        """Return every set that a register value is from.

        :raises NotFound: when it is from none.
        """
        ...

    async def sources(self) -> list[dict[str, Any]]:
        """Return how it stands with the Verdicts that are subscribed to."""
        ...

    async def set_source(self, url: str, action: str) -> dict[str, Any]:
        """Do ``resume`` or ``accept-older`` to one of those.

        :raises EaaError: when there is no such Verdict or action.
        """
        ...

    async def propose(
        self, envelope: bytes, *, who: str, why: str = "", provenance: Sequence[bytes] = ()
    ) -> dict[str, Any]:
        """Add a signed set, which admits nobody yet, and keep the provenance that it names.

        :raises EaaError: when it is no set, or none of the product's signers signed it.
        """
        ...

    async def change(self, digest: str, action: str, *, who: str, why: str = "") -> dict[str, Any]:
        """Do ``activate``, ``retire``, ``rollback`` or ``revoke``.

        :raises EaaError: when the set may not go there.
        """
        ...


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one Verdictd.

    ``clock`` gives the time in UTC, to the requests and to nothing below them. Guests of the kinds in ``require_init_data`` have to be bound
    to init-data. Without ``sets``, the owner's own reference values are all there are.
    """

    database: Database
    verifier: Verifier
    endorsements: EndorsementSource
    policies: PolicyEngine
    tokens: TokenIssuer = field(repr=False)
    challenges: ChallengeSealer = field(repr=False)
    administrators: Administrators
    metrics: Metrics
    clock: Callable[[], datetime] = now
    require_init_data: frozenset[str] = frozenset()
    sets: ReferenceSetSource | None = None
