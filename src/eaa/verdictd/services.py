# SPDX-License-Identifier: Apache-2.0
"""Everything a Verdictd is made of, handed to it at construction. There are no globals."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.rats import Endorsements, Evidence
    from eaa.storage import Database
    from eaa.verdictd._challenge import ChallengeSealer
    from eaa.verdictd.administrator import Administrators
    from eaa.verdictd.metrics import Metrics
    from eaa.verifier import Verifier
    from eaa.verifier.ear import TokenIssuer
    from eaa.verifier.policy import PolicyEngine

__all__ = ["ATTESTATION_POLICY", "RESOURCE_POLICY", "EndorsementSource", "Services"]

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


def now() -> datetime:
    """Return the time in UTC."""
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one Verdictd.

    ``clock`` gives the time in UTC, to the requests and to nothing below them. Guests of the kinds in ``require_init_data`` have to be bound
    to init-data.
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
