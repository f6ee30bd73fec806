# SPDX-License-Identifier: Apache-2.0
"""What a candidate policy would change, asked of the verdicts that are on record.

The document of an accepted verdict holds the evidence as policies saw it (``annotated_evidence``). Both policies, the one in force
and the candidate, are asked about it with the reference values of now, so that every difference is the policy's doing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import PolicyError, Result, Stage
from eaa.verifier.appraise import bounded
from eaa.verifier.ear import EAT_PROFILE, submod_claims
from eaa.verifier.reference import check_registers
from eaa.verifier.trust import status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eaa.verifier.policy import PolicyEngine

__all__ = ["ALLOW", "DENY", "Comparison", "compare_attestation", "compare_release"]

ALLOW: Final = "allow"
DENY: Final = "deny"
_BLOCKING: Final = frozenset({Result.FAIL.value, Result.NOT_MADE.value})
_BEFORE_POLICIES: Final = frozenset({Stage.AUTHENTICITY, Stage.BINDING, Stage.POSTURE})
_SUBMOD: Final = "cpu0"


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two policies say on one recorded verdict.

    ``before`` and ``after`` are a status (attestation policies) or ``allow`` and ``deny`` (resource policies, about ``path``), empty when
    neither policy is asked; ``reasons`` say why. ``claims`` holds the trust claims that differ, name → (before, after).
    """

    verdict: str
    before: str = ""
    after: str = ""
    path: str = ""
    reasons: tuple[str, ...] = ()
    claims: Mapping[str, tuple[int, int]] = field(default_factory=dict)

    @property
    def changes(self) -> bool:
        """Whether the candidate decides otherwise."""
        return self.before != self.after

    def to_json(self) -> dict[str, Any]:
        """Return the comparison as plain JSON values."""
        return {
            "verdict": self.verdict,
            "path": self.path or None,
            "before": self.before or None,
            "after": self.after or None,
            "changes": self.changes,
            "claims": {name: list(values) for name, values in self.claims.items()},
            "reasons": list(self.reasons),
        }


async def compare_attestation(
    engine: PolicyEngine,
    verdict: Mapping[str, Any],
    *,
    current: str | None,
    candidate: str,
    reference_values: Mapping[str, Any],
) -> Comparison:
    """Ask two attestation policies about a recorded verdict, given as the document that Verdictd keeps.

    ``current`` is None when no policy is in force. A policy that fails affirms nothing, as in an attestation.

    :raises UnavailableError: when the engine cannot be asked.
    """
    name = str(verdict.get("id", ""))
    if reason := _why_not(verdict):
        return Comparison(name, reasons=(reason,))
    appraisal = verdict["appraisal"]
    registers = check_registers(appraisal["tee"], appraisal["claims"]["measurements"], reference_values)
    failing = {check.rule.stage for check in registers if check.blocks}
    reasons: list[str] = []

    async def ask(text: str | None, which: str) -> Mapping[str, int]:
        if text is None:
            reasons.append(f"{which}: no policy is in force")
            return {}
        try:
            said = await engine.trust_claims(
                text, input=verdict["annotated_evidence"], reference_values=reference_values
            )
        except PolicyError as error:
            reasons.append(f"{which}: the policy failed: {error}")
            return {}
        return bounded(said.vector, failing)

    before, after = await ask(current, "in force"), await ask(candidate, "candidate")
    return Comparison(
        name,
        status(before).value,
        status(after).value,
        reasons=tuple(reasons),
        claims={
            claim: (before.get(claim, 0), after.get(claim, 0))
            for claim in {**before, **after}
            if before.get(claim, 0) != after.get(claim, 0)
        },
    )


async def compare_release(
    engine: PolicyEngine,
    verdict: Mapping[str, Any],
    paths: Iterable[str],
    *,
    current: str | None,
    candidate: str,
) -> tuple[Comparison, ...]:
    """Ask two resource policies whether the holder of a recorded verdict may have what is at ``paths``.

    The policies see the members of a token that do not change from one to the next: ``eat_profile`` and ``submods``.

    :raises UnavailableError: when the engine cannot be asked.
    """
    name = str(verdict.get("id", ""))
    if reason := _why_not(verdict):
        return (Comparison(name, reasons=(reason,)),)
    claims = {
        "eat_profile": EAT_PROFILE,
        "submods": {_SUBMOD: submod_claims(verdict, verdict["annotated_evidence"])},
    }
    found = []
    for path in paths:
        data = {"plugin": "resource", "resource-path": path.split("/"), "query": {}}
        reasons: list[str] = []

        async def ask(text: str | None, which: str, data: Any = data, why: list[str] = reasons) -> str:
            if text is None:
                why.append(f"{which}: no policy is in force")
                return DENY
            try:
                return ALLOW if await engine.allow(text, data=data, input=claims) else DENY
            except PolicyError as error:
                why.append(f"{which}: the policy failed: {error}")
                return DENY

        before, after = await ask(current, "in force"), await ask(candidate, "candidate")
        found.append(Comparison(name, before, after, path, tuple(reasons)))
    return tuple(found)


def _why_not(verdict: Mapping[str, Any]) -> str:
    """Return why no policy can be asked about a recorded verdict; empty when it can."""
    if "appraisal" not in verdict:
        return "the evidence could not be read"
    checks = verdict["appraisal"]["checks"]
    if any(check["result"] in _BLOCKING and check["stage"] in _BEFORE_POLICIES for check in checks):
        return "refused by a check of the hardware, whatever a policy says"
    if "annotated_evidence" not in verdict:
        return "recorded without the evidence that policies see"
    return ""
