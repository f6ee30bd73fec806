# SPDX-License-Identifier: Apache-2.0
"""Candidate policies asked of verdicts on record."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from eaa.simulator import measure
from eaa.verifier.appraise import appraise
from eaa.verifier.dry_run import ADMIT, REFUSE, compare_attestation, compare_release, compare_sets
from eaa.verifier.expected_sets import NO_SETS, ExpectedSet, ExpectedSets
from eaa.verifier.policy import load_default

if TYPE_CHECKING:
    from eaa.verifier.policy import PolicyEngine

    from .conftest import Attest

pytestmark = pytest.mark.anyio

EXPECTED = {name: [value] for name, value in measure("eaa simulated guest").items()}
STRICTER = load_default("attestation").replace(
    'input.tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))',
    'input.tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))\n\tinput.init_data_claims.role == "web"',
)
MILDER = 'package policy\n\ntrust_claims := {"executables": 3, "hardware": 2, "configuration": 2}\n'
BROKEN = 'package policy\n\na := 1\n\na := 2\n\ntrust_claims := {"hardware": a}\n\nallow := a == 1\n'
OPEN = "package policy\n\ndefault allow := true\n"
CLOSED = "package policy\n\ndefault allow := false\n"


REGISTERS = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
SETS = ExpectedSets([ExpectedSet("acme/web", 1, "tdx", {name: tuple(EXPECTED[name]) for name in REGISTERS})])


async def recorded(
    attest: Attest, engine: PolicyEngine, *faults: str, values: Any = EXPECTED, **options: Any
) -> dict[str, Any]:
    """Return what Verdictd keeps of an attestation, as it comes back from the database."""
    verdict = await appraise(
        attest("tdx", *faults, **options),
        engine=engine,
        policy_text=load_default("attestation"),
        policy_id="default",
        reference_values=values,
        runtime_data={"nonce": "n", "tee-pubkey": {}},
    )
    document = {**verdict.to_json(), "annotated_evidence": dict(verdict.annotated_evidence)}
    return dict(json.loads(json.dumps(document)))


async def test_the_policy_in_force_changes_nothing(attest: Attest, engine: PolicyEngine) -> None:
    """Asked again with the same values, the same policy says what is on record."""
    verdict = await recorded(attest, engine)
    same = load_default("attestation")
    found = await compare_attestation(
        engine, verdict, current=same, candidate=same, reference_values=EXPECTED
    )
    assert (found.before, found.after, found.changes) == ("affirming", verdict["status"], False)
    assert found.claims == {}


async def test_a_stricter_policy_is_seen_to_deny(attest: Attest, engine: PolicyEngine) -> None:
    verdict = await recorded(attest, engine)
    found = await compare_attestation(
        engine, verdict, current=load_default("attestation"), candidate=STRICTER, reference_values=EXPECTED
    )
    assert (found.before, found.after) == ("affirming", "warning")
    assert found.claims == {"executables": (3, 33)}
    assert found.to_json()["changes"] is True


async def test_a_milder_policy_cannot_affirm_what_a_check_refuses(
    attest: Attest, engine: PolicyEngine
) -> None:
    """The bounds of an attestation hold in a dry run: without reference values nothing is affirmed."""
    verdict = await recorded(attest, engine, values={})
    found = await compare_attestation(
        engine, verdict, current=load_default("attestation"), candidate=MILDER, reference_values={}
    )
    assert found.after == "warning"
    found = await compare_attestation(
        engine, verdict, current=load_default("attestation"), candidate=MILDER, reference_values=EXPECTED
    )
    assert (found.before, found.after, found.changes) == ("affirming", "affirming", False)


@pytest.mark.parametrize("fault", ["altered-report", "wrong-report-data", "debug"])
async def test_evidence_that_a_check_refuses_is_asked_of_no_policy(
    attest: Attest, engine: PolicyEngine, fault: str
) -> None:
    """It never gets a session, so that no policy changes anything about it."""
    verdict = await recorded(attest, engine, fault)
    found = await compare_attestation(
        engine, verdict, current=CLOSED, candidate=MILDER, reference_values=EXPECTED
    )
    assert (found.before, found.after, found.changes) == ("", "", False)
    assert "whatever a policy says" in found.reasons[0]


async def test_policies_that_fail_or_are_missing_affirm_nothing(attest: Attest, engine: PolicyEngine) -> None:
    verdict = await recorded(attest, engine)
    found = await compare_attestation(
        engine, verdict, current=None, candidate=BROKEN, reference_values=EXPECTED
    )
    assert (found.before, found.after) == ("none", "none")
    assert found.reasons[0] == "in force: no policy is in force"
    assert found.reasons[1].startswith("candidate: the policy failed")


async def test_old_and_unreadable_verdicts_are_left_out(attest: Attest, engine: PolicyEngine) -> None:
    old = await recorded(attest, engine)
    del old["annotated_evidence"]
    for verdict, reason in ((old, "recorded without"), ({"id": "x", "error": {}}, "could not be read")):
        found = await compare_attestation(
            engine, verdict, current=MILDER, candidate=MILDER, reference_values=EXPECTED
        )
        assert not found.before
        assert reason in found.reasons[0]
        (found,) = await compare_release(engine, verdict, ["a/b/c"], current=OPEN, candidate=OPEN)
        assert reason in found.reasons[0]


async def test_releases_are_compared_path_by_path(attest: Attest, engine: PolicyEngine) -> None:
    verdict = await recorded(attest, engine)
    candidate = 'package policy\n\nimport rego.v1\n\ndefault allow := false\n\nallow if data["resource-path"][0] == "open"\n'
    found = await compare_release(
        engine, verdict, ["open/b/c", "other/b/c"], current=load_default("resource"), candidate=candidate
    )
    assert [(each.path, each.before, each.after) for each in found] == [
        ("open/b/c", "allow", "allow"),
        ("other/b/c", "allow", "deny"),
    ]


async def test_releases_see_what_tokens_say(attest: Attest, engine: PolicyEngine) -> None:
    """The claims are those of a token: status, vector, evidence, and the verdict it rests on."""
    verdict = await recorded(attest, engine)
    candidate = f"""package policy

import rego.v1

default allow := false

allow if {{
	input.eat_profile == "tag:github.com,2024:confidential-containers/Trustee"
	cpu := input.submods.cpu0
	cpu["ear.status"] == "affirming"
	cpu["ear.trustworthiness-vector"].hardware == 2
	cpu["ear.appraisal-policy-id"] == "default"
	cpu["ear.veraison.annotated-evidence"].tdx.mr_td == "{EXPECTED["mr_td"][0]}"
	cpu["ear.eaa.verdict"].id == "{verdict["id"]}"
	cpu["ear.eaa.verdict"].simulated
}}
"""
    (found,) = await compare_release(engine, verdict, ["a/b/c"], current=None, candidate=candidate)
    assert (found.before, found.after) == ("deny", "allow")
    assert found.reasons == ("in force: no policy is in force",)


async def test_a_release_policy_that_fails_denies(attest: Attest, engine: PolicyEngine) -> None:
    verdict = await recorded(attest, engine)
    (found,) = await compare_release(engine, verdict, ["a/b/c"], current=OPEN, candidate=BROKEN)
    assert (found.before, found.after) == ("allow", "deny")
    assert "the policy failed" in found.reasons[0]


async def test_a_policy_is_asked_with_the_active_sets(attest: Attest, engine: PolicyEngine) -> None:
    """Values that are signed count in a dry run of a policy as they do in an attestation."""
    verdict = await recorded(attest, engine, values={})
    same = load_default("attestation")
    found = await compare_attestation(
        engine, verdict, current=same, candidate=STRICTER, reference_values={}, sets=SETS
    )
    assert (found.before, found.after) == ("affirming", "warning")


async def test_a_change_of_sets_admits_or_refuses_a_recorded_workload(
    attest: Attest, engine: PolicyEngine
) -> None:
    verdict = await recorded(attest, engine, values={})
    policy, at = load_default("attestation"), attest("tdx").at

    async def compare(before: ExpectedSets, after: ExpectedSets, **changes: Any) -> tuple[str, str]:
        asked: dict[str, Any] = {"policy": policy, "reference_values": {}, "at": at} | changes
        found = await compare_sets(engine, verdict, before=before, after=after, **asked)
        return found.before, found.after

    assert await compare(NO_SETS, SETS) == (REFUSE, ADMIT)
    assert await compare(SETS, NO_SETS) == (ADMIT, REFUSE)
    assert await compare(SETS, SETS) == (ADMIT, ADMIT)
    assert await compare(NO_SETS, NO_SETS) == (REFUSE, REFUSE)
    assert await compare(NO_SETS, SETS, policy=None) == (REFUSE, REFUSE)
    assert await compare(NO_SETS, SETS, policy=BROKEN) == (REFUSE, REFUSE)
    assert await compare(NO_SETS, SETS, reference_values=EXPECTED) == (ADMIT, ADMIT)


async def test_a_change_of_sets_says_nothing_of_what_the_hardware_refuses(
    attest: Attest, engine: PolicyEngine
) -> None:
    verdict = await recorded(attest, engine, "debug")
    found = await compare_sets(
        engine,
        verdict,
        policy=load_default("attestation"),
        reference_values={},
        before=NO_SETS,
        after=SETS,
        at=attest("tdx").at,
    )
    assert (found.before, found.after) == ("", "")
