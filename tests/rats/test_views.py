# SPDX-License-Identifier: Apache-2.0
"""The guest's view of a verdict has everything to act upon and nothing that the owner expects."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import Rule, Stage
from eaa.rats.views import redact, redacted_checks

SECRET = "5ec2e7" * 8


def checks() -> list[dict[str, Any]]:
    """One check of each stage, each with the owner's value as what was expected."""
    return [
        Rule(f"test.{stage}", stage, "A title", "A specification", "Do it.")
        .failed(SECRET, f"found {stage}")
        .to_json()
        for stage in Stage
    ]


def verdict() -> dict[str, Any]:
    """A verdict on record as the administration shows it."""
    appraisal = {
        "accepted": False,
        "tee": "tdx",
        "at": "2026-11-23T12:00:00Z",
        "tcb_status": "UpToDate",
        "advisory_ids": [],
        "simulated": True,
        "failed_checks": ["test.reference"],
        "claims": {"measurements": {"mr_td": "aa"}},
        "checks": [check for check in checks() if check["stage"] in ("reference", "policy")],
    }
    return {
        "id": "v",
        "request_id": "r",
        "accepted": False,
        "releases": [{"path": "a/b/c"}],
        "document": {
            "status": "contraindicated",
            "trust_vector": {"executables": 33},
            "extensions": {"secret": SECRET},
            "policy_digest": SECRET,
            "annotated_evidence": {"x": SECRET},
            "appraisal": appraisal,
        },
    }


def test_a_guest_sees_no_reference_value() -> None:
    """Not at any depth, and neither what was released nor what the policy says."""
    seen = redact(verdict())
    assert SECRET not in json.dumps(seen)
    assert seen["id"] == "v"
    assert seen["request_id"] == "r"
    assert "releases" not in seen
    assert seen["document"]["status"] == "contraindicated"
    appraisal = seen["document"]["appraisal"]
    assert appraisal["failed_checks"] == ["test.reference"]
    assert [check["id"] for check in appraisal["checks"]] == ["test.reference", "test.policy"]
    assert all(check["remedy"] == "Do it." for check in appraisal["checks"])


def test_a_guest_sees_what_the_hardware_should_be() -> None:
    """Checks of the hardware keep what was expected and found; those of the owner's choices keep neither."""
    shown = {check["stage"] for check in redacted_checks(checks()) if "expected" in check}
    assert shown == {"authenticity", "binding", "posture"}
    assert {check["stage"] for check in redacted_checks(checks())} == set(Stage)


def test_a_stage_that_nobody_knows_is_the_owners() -> None:
    (seen,) = redacted_checks([{"id": "x", "stage": "new", "expected": SECRET, "found": SECRET}])
    assert SECRET not in json.dumps(seen)


def test_a_strangers_text_is_short_and_plain() -> None:
    """What evidence spells cannot steer a terminal or fill a log."""
    (seen,) = redacted_checks([{"stage": "binding", "found": "\x1b[2J" + "x" * 1000, "expected": "é"}])
    assert len(seen["found"]) == 200
    assert "\x1b" not in seen["found"]
    assert seen["expected"] == "é"


def test_an_unreadable_verdict_keeps_its_reason() -> None:
    document = {"status": "contraindicated", "error": {"message": "no quote", "check": "evidence.format"}}
    assert redact({"id": "v", "document": document}) == {"id": "v", "document": document}


json_values = st.recursive(
    st.none() | st.booleans() | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["a", "id", "error"]), inner),
    max_leaves=4,
)


@given(st.dictionaries(st.text(max_size=8), json_values, max_size=6))
@pytest.mark.parametrize("stage", ["reference", "policy", ""])
def test_no_member_of_the_owners_slips_through(stage: str, members: dict[str, Any]) -> None:
    """Whatever else a check may hold one day, a guest sees the named members only."""
    (seen,) = redacted_checks(
        [members | {"stage": stage, "expected": SECRET, "found": SECRET, "more": SECRET}]
    )
    assert SECRET not in json.dumps(seen)
    assert seen.keys() == {"id", "stage", "result", "title", "source", "remedy"}
