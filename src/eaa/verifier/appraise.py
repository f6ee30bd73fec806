# SPDX-License-Identifier: Apache-2.0
"""From an appraisal to a verdict: the owner's reference values and attestation policy are applied to authenticated evidence."""

from __future__ import annotations

import json
import uuid
from dataclasses import dataclass, field
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import PolicyError, Rule, Stage
from eaa.tee.registry import kind_of, kinds
from eaa.verifier.claims import policy_input
from eaa.verifier.expected_sets import NO_SETS
from eaa.verifier.policy import TrustClaims, policy_digest, queried_reference_values
from eaa.verifier.set_differences import logged_digests
from eaa.verifier.trust import CLAIM_NAMES, Tier, status, tier, worst

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from eaa.rats import Appraisal, Check, Claims, ReferenceValues
    from eaa.verifier.expected_sets import ExpectedSets
    from eaa.verifier.policy import PolicyEngine

__all__ = ["Verdict", "appraise", "bounded"]

_AR4SI: Final = "draft-ietf-rats-ar4si, section 2.3"

TRUST_VECTOR: Final = Rule(
    "policy.trust-vector",
    Stage.POLICY,
    "The owner's attestation policy affirms every claim that it makes",
    _AR4SI,
    "Read the claims named here in the attestation policy; run what it expects, or correct the policy or its reference values.",
)
QUERIED_VALUES: Final = Rule(
    "policy.reference-values",
    Stage.POLICY,
    "The reference values that the attestation policy asks for exist",
    "Trustee attestation service, query_reference_value",
    "Register what is missing: eaa reference-value set NAME=VALUE",
)

# AR4SI section 2.3.4: values with a meaning of their own.
_MALFUNCTION: Final = -1
_NOT_AUTHENTIC: Final = 99
_UNRECOGNISED_EXECUTABLES: Final = 33
_UNACCEPTABLE_CONFIGURATION: Final = 96


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the verifier concludes about one piece of evidence.

    ``appraisal`` has all checks; code that decides calls :meth:`accept`. ``trust_vector`` and ``status`` are what a token says; they
    never affirm what a check refuses. ``policy_digest`` is the SHA-384 of the policy's text, ``annotated_evidence`` what it saw.
    """

    id: str
    appraisal: Appraisal
    trust_vector: Mapping[str, int]
    status: Tier
    policy_id: str
    policy_digest: str
    extensions: Mapping[str, Any] = field(default_factory=dict)
    annotated_evidence: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @property
    def simulated(self) -> bool:
        """Whether the evidence is of a simulated chip maker."""
        return self.appraisal.unverified.simulated

    @property
    def checks_digest(self) -> str:
        """SHA-256, as hex, of the list of checks as JSON with sorted keys: which checks were made, and how each went."""
        checks = [check.to_json() for check in self.appraisal.checks]
        return sha256(json.dumps(checks, sort_keys=True, separators=(",", ":")).encode()).hexdigest()

    def accept(self) -> Claims:
        """Return the claims, now trusted.

        :raises EvidenceRejected: when any check failed or could not be made.
        """
        return self.appraisal.accept()

    def to_json(self) -> dict[str, Any]:
        """Return the verdict as plain JSON values, with every check."""
        return {
            "id": self.id,
            "status": self.status.value,
            "trust_vector": dict(self.trust_vector),
            "extensions": dict(self.extensions),
            "policy_id": self.policy_id,
            "policy_digest": self.policy_digest,
            "checks_digest": self.checks_digest,
            "simulated": self.simulated,
            "appraisal": self.appraisal.to_json(),
        }


async def appraise(
    appraisal: Appraisal,
    *,
    engine: PolicyEngine,
    policy_text: str,
    policy_id: str,
    reference_values: ReferenceValues,
    runtime_data: Mapping[str, Any] | None,
    init_data_claims: Mapping[str, Any] | None = None,
    sets: ExpectedSets = NO_SETS,
) -> Verdict:
    """Apply reference values and policy to an appraisal that already holds the checks of authenticity, binding and posture.

    ``reference_values`` are the owner's own; of the active ``sets`` the one that the evidence matches goes before them.
    ``runtime_data`` is what the evidence's report data binds. The policy is not asked about evidence that is not authentic or not
    bound; a policy that fails denies, with the check ``policy.trust-vector`` that says why.

    :raises EvidenceError: when policies have no form for this kind of evidence.
    :raises UnavailableError: when the policy engine cannot be asked.
    """
    given = policy_input(appraisal, runtime_data, init_data_claims=init_data_claims)
    genuine = bool(appraisal.checks) and not (
        appraisal.failing_at(Stage.AUTHENTICITY) or appraisal.failing_at(Stage.BINDING)
    )
    evidence = appraisal.evidence
    reference_values, checks = sets.check(
        evidence.tee,
        evidence.measurements,
        reference_values,
        at=appraisal.at,
        logged=logged_digests(appraisal) if sets.sets else {},
    )
    claims = TrustClaims({})
    if not genuine:
        checks += (
            TRUST_VECTOR.not_made(
                "affirming", "the evidence is not authentic or not bound, so no policy is asked"
            ),
        )
    else:
        try:
            claims = await engine.trust_claims(policy_text, input=given, reference_values=reference_values)
            checks += _policy_checks(appraisal, claims, policy_text, reference_values)
        except PolicyError as error:
            claims = TrustClaims(dict.fromkeys(CLAIM_NAMES, _MALFUNCTION))
            checks += (TRUST_VECTOR.failed("affirming", f"the policy failed: {error}"),)
    appraisal = appraisal.with_checks(checks)
    failing = {check.rule.stage for check in appraisal.failing}
    vector = bounded(claims.vector, failing) if genuine else dict.fromkeys(CLAIM_NAMES, _NOT_AUTHENTIC)
    return Verdict(
        id=str(uuid.uuid4()),
        appraisal=appraisal,
        trust_vector=vector,
        status=status(vector),
        policy_id=policy_id,
        policy_digest=policy_digest(policy_text),
        extensions=claims.extensions,
        annotated_evidence=given,
    )


def _policy_checks(
    appraisal: Appraisal, claims: TrustClaims, policy_text: str, reference_values: ReferenceValues
) -> tuple[Check, ...]:
    """Turn the policy's result into checks; a reference value it asked for in vain is named."""
    found = status(claims.vector)
    said = (
        f"{found}: {worst(claims.vector)}" if found in {Tier.WARNING, Tier.CONTRAINDICATED} else found.value
    )
    others = {
        name for kind in kinds().values() if kind.name != appraisal.evidence.tee for name in kind.registers
    }
    others -= kind_of(appraisal.evidence.tee).registers.keys()
    asked = [name for name in queried_reference_values(policy_text) if name not in others]
    missing = [name for name in asked if reference_values.get(name) is None]
    values = (
        QUERIED_VALUES.warned(", ".join(asked), f"missing: {', '.join(missing)}")
        if missing
        else QUERIED_VALUES.passed(", ".join(asked) or "none is asked for", "all exist")
    )
    return TRUST_VECTOR.holds(found is Tier.AFFIRMING, Tier.AFFIRMING.value, said), values


def bounded(vector: Mapping[str, int], failing: Container[Stage]) -> dict[str, int]:
    """Return the vector without any claim better than checks that fail at the stages ``failing`` allow, whatever the policy says.

    Relying parties that read only the token must not see an affirming status on evidence that a check refuses.
    """
    allowed = dict(vector)
    for stage, claim, value in (
        (Stage.POSTURE, "configuration", _UNACCEPTABLE_CONFIGURATION),
        (Stage.REFERENCE, "executables", _UNRECOGNISED_EXECUTABLES),
    ):
        if stage in failing and tier(allowed.get(claim, 0)) in {Tier.NONE, Tier.AFFIRMING}:
            allowed[claim] = value
    return allowed
