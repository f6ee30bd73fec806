# SPDX-License-Identifier: Apache-2.0
"""Verdicts: evidence, reference values and policy together, and that no policy affirms what a check refuses."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import EvidenceRejected, Result
from eaa.verifier.appraise import Verdict, appraise
from eaa.verifier.policy import load_default, policy_digest
from eaa.verifier.trust import CLAIM_NAMES, Tier

if TYPE_CHECKING:
    from eaa.rats import Appraisal
    from eaa.verifier.policy import PolicyEngine

    from .conftest import Attest

pytestmark = pytest.mark.anyio

TDX = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
AFFIRM_ALL = "package policy\nimport rego.v1\ntrust_claims := " + json.dumps(dict.fromkeys(CLAIM_NAMES, 2))


def _values(appraisal: Appraisal, *names: str) -> dict[str, Any]:
    return {name: [appraisal.evidence.measurements[name]] for name in names}


async def _verdict(
    engine: PolicyEngine, appraisal: Appraisal, values: dict[str, Any], policy: str | None = None
) -> Verdict:
    return await appraise(
        appraisal,
        engine=engine,
        policy_text=load_default("attestation") if policy is None else policy,
        policy_id="default",
        reference_values=values,
        runtime_data={"nonce": "x"},
    )


def _failed(verdict: Verdict) -> list[str]:
    return [check.id for check in verdict.appraisal.failing]


async def test_a_td_as_expected_is_affirmed(engine: PolicyEngine, attest: Attest) -> None:
    appraisal = attest("tdx")
    verdict = await _verdict(engine, appraisal, _values(appraisal, *TDX))
    assert verdict.accept().tee == "tdx"
    assert verdict.status is Tier.AFFIRMING
    assert {name: value for name, value in verdict.trust_vector.items() if value} == {
        "hardware": 2,
        "executables": 3,
        "configuration": 2,
    }
    assert verdict.simulated
    assert verdict.policy_digest == policy_digest(load_default("attestation"))
    assert verdict.annotated_evidence["runtime_data_claims"] == {"nonce": "x"}
    written = verdict.to_json()
    assert written["appraisal"]["accepted"] is True
    assert written["appraisal"]["checks"][-1]["id"] == "policy.reference-values"
    json.dumps(written)


async def test_an_enclave_is_affirmed_by_itself_or_by_its_signer(
    engine: PolicyEngine, attest: Attest
) -> None:
    appraisal = attest("sgx")
    by_signer = {**_values(appraisal, "mr_signer", "isv_prod_id"), "isv_svn": ["0"]}
    plain = {name: value[0] for name, value in by_signer.items()}
    for values in (_values(appraisal, "mr_enclave"), by_signer, plain):
        verdict = await _verdict(engine, appraisal, values)
        assert verdict.status is Tier.AFFIRMING
        verdict.accept()
    refused: list[dict[str, Any]] = [
        {},
        {"mr_enclave": ["00" * 32]},
        {**by_signer, "isv_svn": ["1"]},
        {**by_signer, "isv_prod_id": ["9"]},
        {**by_signer, "mr_enclave": ["00" * 32]},
        {name: value for name, value in by_signer.items() if name != "isv_svn"},
    ]
    for values in refused:
        verdict = await _verdict(engine, appraisal, values)
        assert verdict.status is Tier.WARNING
        assert verdict.trust_vector["executables"] == 33
        with pytest.raises(EvidenceRejected):
            verdict.accept()


async def test_other_software_is_refused_by_register_and_by_policy(
    engine: PolicyEngine, attest: Attest
) -> None:
    appraisal = attest("tdx")
    verdict = await _verdict(engine, appraisal, {**_values(appraisal, *TDX), "rtmr_1": ["00" * 48]})
    assert _failed(verdict) == ["reference.tdx.rtmr_1", "policy.trust-vector"]
    check = verdict.appraisal.checks[-2]
    assert (check.expected, check.found) == ("affirming", "warning: executables 33")
    assert verdict.status is Tier.WARNING


@pytest.mark.parametrize(
    ("fault", "claim", "value"),
    [("debug", "configuration", 96), ("altered-report", "hardware", 99), ("revoked-pck", "hardware", 99)],
)
async def test_no_policy_affirms_what_a_check_refuses(
    engine: PolicyEngine, attest: Attest, fault: str, claim: str, value: int
) -> None:
    appraisal = attest("tdx", fault)
    for policy in (AFFIRM_ALL, None):
        verdict = await _verdict(engine, appraisal, _values(appraisal, *TDX), policy)
        assert verdict.status in {Tier.CONTRAINDICATED, Tier.WARNING}
        with pytest.raises(EvidenceRejected):
            verdict.accept()
    affirmed = await _verdict(engine, appraisal, _values(appraisal, *TDX), AFFIRM_ALL)
    assert affirmed.trust_vector[claim] == value
    assert affirmed.status is Tier.CONTRAINDICATED


async def test_a_permissive_policy_does_not_replace_reference_values(
    engine: PolicyEngine, attest: Attest
) -> None:
    verdict = await _verdict(engine, attest("tdx"), {}, AFFIRM_ALL)
    assert _failed(verdict) == [f"reference.tdx.{name}" for name in TDX]
    assert verdict.status is Tier.WARNING


async def test_evidence_for_another_challenge_is_not_shown_to_the_policy(
    engine: PolicyEngine, attest: Attest
) -> None:
    appraisal = attest("tdx", report_data=b"another")
    verdict = await _verdict(engine, appraisal, _values(appraisal, *TDX), AFFIRM_ALL)
    assert set(_failed(verdict)) == {"binding.report-data", "policy.trust-vector"}
    assert verdict.appraisal.checks[-1].result is Result.NOT_MADE
    assert set(verdict.trust_vector.values()) == {99}


@pytest.mark.parametrize(
    ("policy", "why"),
    [
        ("package policy\ntrust_claims := {", "the policy failed: line 2"),
        ("package policy\nother := 1", "trust_claims is not an object"),
        ("package policy\ntrust_claims := {}", "none"),
        ('package policy\ntrust_claims := {"hardware": 97}', "contraindicated: hardware 97"),
        ("", "begins with its package"),
    ],
)
async def test_a_policy_that_fails_or_says_nothing_denies(
    engine: PolicyEngine, attest: Attest, policy: str, why: str
) -> None:
    appraisal = attest("tdx")
    verdict = await _verdict(engine, appraisal, _values(appraisal, *TDX), policy)
    assert _failed(verdict) == ["policy.trust-vector"]
    assert why in verdict.appraisal.failing[0].found
    assert verdict.status is not Tier.AFFIRMING


async def test_what_the_policy_asks_for_in_vain_is_named(engine: PolicyEngine, attest: Attest) -> None:
    appraisal = attest("tdx")
    policy = (
        load_default("attestation")
        + '\nextra if input.tdx.tcb_date >= query_reference_value("minimum_tcb_date")\n'
    )
    verdict = await _verdict(engine, appraisal, _values(appraisal, *TDX), policy)
    check = verdict.appraisal.checks[-1]
    assert check.id == "policy.reference-values"
    assert check.result is Result.WARN
    assert check.found == "missing: minimum_tcb_date"
    assert "minimum_tcb_date" in check.expected
    assert "mr_enclave" not in check.expected, "SGX is not asked about"
    verdict.accept()


async def test_extensions_and_the_digest_of_the_checks_are_carried(
    engine: PolicyEngine, attest: Attest
) -> None:
    appraisal = attest("tdx")
    values = _values(appraisal, *TDX)
    policy = (
        load_default("attestation") + '\nextensions := [{"name": "ear.example", "key": -1, "value": [1]}]\n'
    )
    first, second = [await _verdict(engine, appraisal, values, policy) for _ in range(2)]
    assert first.extensions == {"ear.example": [1]}
    assert first.checks_digest == second.checks_digest
    assert first.id != second.id
    other = await _verdict(engine, appraisal, {}, policy)
    assert other.checks_digest != first.checks_digest
