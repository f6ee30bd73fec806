# SPDX-License-Identifier: Apache-2.0
"""Claims, Appraisal and Verdict.

An :class:`Appraisal` lists every check that was made, for explanation. Code that *decides* calls :meth:`Appraisal.accept`,
which returns the trusted claims or raises; there is no boolean to forget.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eaa.rats.checks import Check, Result, Stage
from eaa.rats.errors import EvidenceRejected

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.rats.evidence import Evidence

__all__ = ["Appraisal", "Claims", "ReferenceValues"]

ReferenceValues = Mapping[str, Any]
"""What the owner expects: name (``mr_td``, ``rtmr_1``, …) → allowed values, a list of lower-case hex strings or one JSON value."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a TEE says about itself, as far as an appraisal vouches for it.

    ``values`` holds everything that the evidence states under the vendor's names; ``tcb_status`` and ``advisory_ids`` come from
    the endorsements. Hex is lower case without prefix.
    """

    tee: str
    report_data: bytes
    measurements: Mapping[str, str]
    debug: bool
    tcb_status: str | None = None
    advisory_ids: tuple[str, ...] = ()
    simulated: bool = False
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Return the claims as plain JSON values."""
        return {
            "tee": self.tee,
            "report_data": self.report_data.hex(),
            "measurements": dict(self.measurements),
            "debug": self.debug,
            "tcb_status": self.tcb_status,
            "advisory_ids": list(self.advisory_ids),
            "simulated": self.simulated,
            "values": dict(self.values),
        }


@dataclass(frozen=True, slots=True)
class Appraisal:
    """Every check made on one piece of evidence at one time, and what it claims.

    ``unverified`` holds the claims *before* any decision: show them, log them, never decide on them.
    """

    evidence: Evidence
    at: datetime
    checks: tuple[Check, ...]
    unverified: Claims

    @property
    def failing(self) -> tuple[Check, ...]:
        """The checks that keep the evidence from being accepted, failed ones first."""
        blocking = [check for check in self.checks if check.blocks]
        return tuple(sorted(blocking, key=lambda check: check.result is not Result.FAIL))

    @property
    def accepted(self) -> bool:
        """Whether :meth:`accept` would return; for reports only."""
        return bool(self.checks) and not any(check.blocks for check in self.checks)

    @property
    def undecided(self) -> bool:
        """Whether nothing failed, but something that was needed could not be checked."""
        results = {check.result for check in self.checks}
        return Result.FAIL not in results and (Result.NOT_MADE in results or not results)

    def failing_at(self, stage: Stage) -> tuple[Check, ...]:
        """Return the blocking checks of one stage."""
        return tuple(check for check in self.failing if check.rule.stage is stage)

    def accept(self) -> Claims:
        """Return the claims, now trusted.

        :raises EvidenceRejected: when any check failed or could not be made, or when there is no check at all.
        """
        if not self.accepted:
            raise EvidenceRejected(self)
        return self.unverified

    def with_checks(self, checks: tuple[Check, ...]) -> Appraisal:
        """Return this appraisal with further checks, such as those against the owner's reference values."""
        return Appraisal(self.evidence, self.at, self.checks + checks, self.unverified)

    def to_json(self) -> dict[str, Any]:
        """Return the appraisal as plain JSON values, complete enough to be read without this program."""
        return {
            "accepted": self.accepted,
            "tee": self.unverified.tee,
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "tcb_status": self.unverified.tcb_status,
            "advisory_ids": list(self.unverified.advisory_ids),
            "simulated": self.unverified.simulated,
            "failed_checks": [check.id for check in self.failing],
            "claims": self.unverified.to_json(),
            "checks": [check.to_json() for check in self.checks],
        }
