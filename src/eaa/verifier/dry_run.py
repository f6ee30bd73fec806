# SPDX-License-Identifier: Apache-2.0
"""What a candidate policy or a change of the active sets would change, asked of the verdicts that are on record.

The document of an accepted verdict holds the evidence as policies saw it (``annotated_evidence``). Both policies, the one in force
and the candidate, are asked about it with the reference values of now, so that every difference is the policy's doing.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import PolicyError, Result, Stage
from eaa.verifier.appraise import bounded
from eaa.verifier.ear import EAT_PROFILE, submod_claims
from eaa.verifier.expected_sets import NO_SETS, REFERENCE_SET
from eaa.verifier.trust import Tier, status

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eaa.rats import Check
    from eaa.verifier.expected_sets import ExpectedSets
    from eaa.verifier.policy import PolicyEngine

__all__ = [
    "ADMIT",
    "ALLOW",
    "DENY",
    "REFUSE",
    "Comparison",
    "compare_attestation",
    "compare_release",
    "compare_sets",
]

ADMIT: Final = "admit"
REFUSE: Final = "refuse"

ALLOW: Final = "allow"
DENY: Final = "deny"
_BLOCKING: Final = frozenset({Result.FAIL.value, Result.NOT_MADE.value})
_BEFORE_POLICIES: Final = frozenset({Stage.AUTHENTICITY, Stage.BINDING, Stage.POSTURE})
_SUBMOD: Final = "cpu0"
_MAX_REASONS: Final = 4


@dataclass(frozen=True, slots=True)
class Comparison:
    """What two policies say on one recorded verdict.

    ``before`` and ``after`` are a status (attestation policies), ``allow`` and ``deny`` (resource policies, about ``path``) or ``admit``
    and ``refuse`` (active sets), empty when neither is asked; ``reasons`` say why. ``claims`` holds the trust claims that differ, name → (before, after).
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
    sets: ExpectedSets = NO_SETS,
    at: datetime | None = None,
) -> Comparison:
    """Ask two attestation policies about a recorded verdict, given as the document that Verdictd keeps.

    ``current`` is None when no policy is in force; ``sets`` are the active ones that have not expired ``at`` this time, by default the
    verdict's own. A policy that fails affirms nothing, as in an attestation.

    :raises UnavailableError: when the engine cannot be asked.
    """
    name = str(verdict.get("id", ""))
    if reason := _why_not(verdict):
        return Comparison(name, reasons=(reason,))
    appraisal = verdict["appraisal"]
    expected = sets.check(
        appraisal["tee"],
        appraisal["claims"]["measurements"],
        reference_values,
        at=at or datetime.fromisoformat(appraisal["at"]),
        logged={},
    )
    failing = {check.rule.stage for check in expected.checks if check.blocks}
    reasons: list[str] = []

    async def ask(text: str | None, which: str) -> Mapping[str, int]:
        if text is None:
            reasons.append(f"{which}: no policy is in force")
            return {}
        try:
            said = await engine.trust_claims(
                text, input=verdict["annotated_evidence"], reference_values=expected.values
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


async def compare_sets(
    engine: PolicyEngine,
    verdict: Mapping[str, Any],
    *,
    policy: str | None,
    reference_values: Mapping[str, Any],
    before: ExpectedSets,
    after: ExpectedSets,
    at: datetime,
) -> Comparison:
    """Ask whether the workload of a recorded verdict is admitted with the sets ``before``, and with those ``after`` a change.

    Admitted is what the reference values and the attestation ``policy`` in force let pass at the time ``at``. The policy is asked only
    where the values that count differ.

    :raises UnavailableError: when the engine cannot be asked.
    """
    name = str(verdict.get("id", ""))
    if reason := _why_not(verdict):
        return Comparison(name, reasons=(reason,))
    appraisal = verdict["appraisal"]
    registers = appraisal["claims"]["measurements"]
    results = [
        sets.check(appraisal["tee"], registers, reference_values, at=at, logged={})
        for sets in (before, after)
    ]
    failing = [tuple(each for each in result.checks if each.blocks) for result in results]
    if not any(failing[0]) and not any(failing[1]) and results[0].values == results[1].values:
        return Comparison(name, ADMIT, ADMIT)
    said, reasons = [], []
    for result, blocking in zip(results, failing, strict=True):
        reason = _refusal(blocking) or await _policy_refusal(engine, policy, verdict, result.values)
        said.append(REFUSE if reason else ADMIT)
        reasons.append(
            reason or next((each.found for each in result.checks if each.rule is REFERENCE_SET), "")
        )
    return Comparison(name, said[0], said[1], reasons=(f"before: {reasons[0]}", f"after: {reasons[1]}"))


def _refusal(blocking: Sequence[Check]) -> str:
    """Return why reference values refuse, empty when they do not."""
    of_set = next((each for each in blocking if each.rule is REFERENCE_SET), None)
    if of_set is not None:
        return of_set.found
    return ", ".join(f"{each.id}: {each.expected}" for each in blocking[:_MAX_REASONS])


async def _policy_refusal(
    engine: PolicyEngine, policy: str | None, verdict: Mapping[str, Any], values: Mapping[str, Any]
) -> str:
    if policy is None:
        return "no attestation policy is in force"
    try:
        said = await engine.trust_claims(policy, input=verdict["annotated_evidence"], reference_values=values)
    except PolicyError as error:
        return f"the attestation policy failed: {error}"
    found = status(said.vector)
    return "" if found is Tier.AFFIRMING else f"the attestation policy says {found.value}"


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
