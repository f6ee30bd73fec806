# SPDX-License-Identifier: Apache-2.0
"""Unit tests of policies: the shipped ones and that each line of them is tested; `with` means what it means to Trustee's engine."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import eaa.verifier
from eaa.rats import InputError, PolicyError
from eaa.verifier._rego_tests import in_engine_terms
from eaa.verifier.policy import PolicyKind, load_default
from eaa.verifier.policy_test import Case, Outcome, parse_cases, run_cases, run_rego_tests

if TYPE_CHECKING:
    from eaa.verifier.policy import PolicyEngine

pytestmark = pytest.mark.anyio

POLICY = """package policy

import rego.v1

default executables := 33

executables := 3 if input.tdx.mr_td in query_reference_value("mr_td")

trust_claims := {"executables": executables}

default allow := false

allow if {
	data.plugin == "resource"
	data["resource-path"][0] == "open"
	input.submods.cpu0["ear.status"] == "affirming"
}
"""
HEAD = "package policy_test\n\nimport rego.v1\n\nimport data.policy\n\n"
GOOD = 'good := {"tdx": {"mr_td": "aa"}}\n\nwanted := {"mr_td": ["aa"]}\n\nmany := {"good": good}\n\nsame(x) := x\n\n'


def shipped_tests(kind: str) -> str:
    folder = files(eaa.verifier) / "policies"
    return (folder / f"{kind}_default_test.rego").read_text(encoding="utf-8")


@pytest.mark.parametrize("kind", list(PolicyKind))
async def test_the_shipped_policies_pass_their_tests(engine: PolicyEngine, kind: PolicyKind) -> None:
    results = await run_rego_tests(engine, load_default(kind), shipped_tests(kind))
    assert [each for each in results if each.outcome is not Outcome.PASS] == []
    assert len(results) >= 5


@pytest.mark.parametrize(
    ("kind", "section", "old", "new"),
    [
        ("resource", "", 'data.plugin == "resource"', "true"),
        ("resource", "", "count(input.submods) > 0", "true"),
        ("resource", "", '== "affirming"', '!= "contraindicated"'),
        ("resource", "", "every _, submod in input.submods {", "some _, submod in input.submods; {"),
        ("resource", "", "default allow := false", "default allow := true"),
        ("attestation", "Whatever", "default executables := 33", "default executables := 3"),
        ("attestation", "Whatever", "default hardware := 97", "default hardware := 2"),
        ("attestation", "Whatever", "default configuration := 36", "default configuration := 2"),
        ("attestation", "TDX", '\ttee.tcb_status == "UpToDate"\n', ""),
        ("attestation", "TDX", '\ttee.collateral_expiration_status == "0"\n', ""),
        ("attestation", "TDX", '\ttd.quote.header.tee_type == "81000000"\n', ""),
        ("attestation", "TDX", '\ttd.quote.header.vendor_id == "939a7233f79c4ca9940a0db3957f0607"\n', ""),
        (
            "attestation",
            "TDX",
            '\tinput.tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))\n',
            "",
        ),
        (
            "attestation",
            "TDX",
            '\tinput.tdx.quote.body.rtmr_0 in listed(query_reference_value("rtmr_0"))\n',
            "",
        ),
        (
            "attestation",
            "TDX",
            '\tinput.tdx.quote.body.rtmr_1 in listed(query_reference_value("rtmr_1"))\n',
            "",
        ),
        (
            "attestation",
            "TDX",
            '\tinput.tdx.quote.body.rtmr_2 in listed(query_reference_value("rtmr_2"))\n',
            "",
        ),
        ("attestation", "SGX", "\tnot sgx_enclave_is_pinned\n", ""),
        ("attestation", "SGX", "\tcount(minimum) == 1\n", ""),
        ("attestation", "SGX", "isv_svn >= least", "isv_svn <= least"),
        (
            "attestation",
            "SGX",
            '\tinput.sgx.isv_prod_id in numbers(query_reference_value("isv_prod_id"))\n',
            "",
        ),
        ("attestation", "TDX", " if input.tdx.td_attributes.debug == false", " if input.tdx"),
        ("attestation", "SGX", " if input.sgx.debug == false", " if input.sgx"),
        ("attestation", "SEV-SNP", " if input.snp.policy_debug_allowed == false", " if input.snp"),
        ("attestation", "Azure", ' if az_snp.policy_debug_allowed == "false"', " if az_snp"),
        ("attestation", "Azure", " if az_tdx.td_attributes.debug == false", " if az_tdx"),
        ("attestation", "SEV-SNP", " if is_string(input.snp.product)", " if input.snp"),
        ("attestation", "Azure", " if is_string(az_snp.product)", " if az_snp"),
        ("attestation", "TPM", " if is_string(input.tpm.ak_public)", " if input.tpm"),
        ("attestation", "Azure", "\tintel_td(az_tdx)\n", ""),
        ("attestation", "Azure", "\tup_to_date(az_tdx)\n", ""),
        (
            "attestation",
            "SEV-SNP",
            ' if input.snp.measurement in listed(query_reference_value("measurement"))',
            "",
        ),
        ("attestation", "TPM", '\tinput.tpm.pcr00 in listed(query_reference_value("pcr00"))\n', ""),
        ("attestation", "TPM", "\tboot(input.tpm)\n", ""),
        ("attestation", "TPM", "\tnot pcr04_is_expected\n", ""),
        (
            "attestation",
            "TPM",
            '\tinput.tpm.sha384_pcr00 in listed(query_reference_value("sha384_pcr00"))\n',
            "",
        ),
        (
            "attestation",
            "TPM",
            '\tinput.tpm.sha384_pcr04 in listed(query_reference_value("sha384_pcr04"))\n',
            "",
        ),
        ("attestation", "TPM", "\tsha384_loaded\n", ""),
        ("attestation", "TPM", '\tpcrs.pcr04 in listed(query_reference_value("pcr04"))\n', ""),
        ("attestation", "TPM", "\tloaded(pcrs)\n", ""),
        ("attestation", "TPM", "\tnot pcr09_is_expected\n", ""),
        ("attestation", "TPM", "\tnot sha384_pcr09_is_expected\n", ""),
        (
            "attestation",
            "Azure",
            '\thex(az_snp.measurement) in listed(query_reference_value("measurement"))\n',
            "",
        ),
        ("attestation", "Azure", "hex(az_snp.measurement) in", "az_snp.measurement in"),
        ("attestation", "Azure", "\tboot(az_snp.tpm)\n", ""),
        ("attestation", "Azure", "\tboot(az_tdx.tpm)\n", ""),
        ("attestation", "Azure", '\taz_tdx.quote.body.mr_td in listed(query_reference_value("mr_td"))\n', ""),
        ("attestation", "Azure", "64 * sextet", "63 * sextet"),
        ("attestation", "Azure", "0123456789+/", "0123456789-_"),
    ],
)
async def test_every_line_of_the_shipped_policies_is_tested(
    engine: PolicyEngine, kind: str, section: str, old: str, new: str
) -> None:
    """A policy with one condition less, or a milder default, fails one of its tests."""
    policy, (head, *sections) = load_default(kind), shipped_tests(kind).split("\n##### ")
    assert old in policy
    tests = head + "".join(f"\n##### {each}" for each in sections if each.startswith(section))
    results = await run_rego_tests(engine, policy.replace(old, new), tests)
    assert any(each.outcome in {Outcome.FAIL, Outcome.ERROR} for each in results)


PASSING = [
    "policy.executables == 3 with input as good with data.reference as wanted",
    "policy.executables == 3 with input as many.good with data.reference as wanted",
    'policy.executables == 3 with input as many["good"] with data.reference.mr_td as wanted.mr_td',
    "policy.executables == 3 with input as same(good) with data.reference as same(wanted)",
    "policy.executables == 3 with input as data.policy_test.good with data.reference as wanted",
    "policy.executables == 3 with input as object.union(good, {}) with data.reference as wanted",
    'policy.executables == 3 with input as {"tdx": good.tdx} with data.reference as {"mr_td": ["aa"]}',
    'policy.executables == 3 with input.tdx.mr_td as "zz" with data.reference.mr_td as ["zz"]',
    "policy.executables == 33 with input as good",
    "policy.executables == 33 with input as null with data.reference as wanted",
    "policy.executables == 33 with input as {} with data.reference as wanted",
    "policy.executables == 33",
    "data.policy.trust_claims.executables == 3 with input as good with data.reference as wanted",
    "x := policy.executables with input as good with data.reference as wanted; x == 3",
    'g := good; policy.executables == 3 with input as g with data.reference as {"mr_td": ["aa"]}',
    'every v in ["aa", "bb"] { policy.executables == 3 with input as {"tdx": {"mr_td": v}} with data.reference as {"mr_td": ["aa", "bb"]} }',
    '[x | some v in ["aa", "bb"]; x := policy.executables with input as {"tdx": {"mr_td": v}} with data.reference as wanted] == [3, 33]',
    'policy.executables == 3 with input as good with data.reference as wanted; policy.executables == 33 with input as good with data.reference as {"mr_td": ["bb"]}',
    'not policy.allow with input as {"submods": {"cpu0": {"ear.status": "affirming"}}} with data.plugin as "resource"',
    'policy.allow with input as {"submods": {"cpu0": {"ear.status": "affirming"}}} with data.plugin as "resource" with data["resource-path"] as ["open", "b", "c"]',
    '"input" == concat("", ["in", "put"])',
]


@pytest.mark.parametrize("body", PASSING)
async def test_with_means_what_it_means_elsewhere(engine: PolicyEngine, body: str) -> None:
    """Each idiom passes here and in Trustee's engine, and its contrary passes in neither."""
    tests = f"{HEAD}{GOOD}test_it if {{ {body} }}\n"
    (result,) = await run_rego_tests(engine, POLICY, tests)
    assert result.outcome is Outcome.PASS, result
    contrary = f"{HEAD}{GOOD}it if {{ {body} }}\n\ntest_it if {{ not it }}\n"
    (result,) = await run_rego_tests(engine, POLICY, contrary)
    assert result.outcome is Outcome.FAIL, result

    regorus: Any = pytest.importorskip("regorus", reason="gordon-to-regorus is not installed")
    oracle = regorus.Engine()
    oracle.add_policy(
        "shim.rego", "package policy\nimport rego.v1\nquery_reference_value(id) := data.reference[id]\n"
    )
    oracle.add_policy("policy.rego", POLICY)
    oracle.add_policy("tests.rego", tests)
    assert json.loads(oracle.eval_rule_as_json("data.policy_test.test_it")) is True


async def test_results_say_how_each_test_ended(engine: PolicyEngine) -> None:
    """In order of name; one that fails when it is evaluated leaves the others alone, and a todo is skipped."""
    tests = HEAD + (
        'test_b if { policy.executables == 3 }\n\ntest_a if { 1 == 1 }\n\ntest_c := "yes"\n\n'
        "two := 1\n\ntwo := 2\n\ntest_d if { two == 1 }\n\ntodo_test_e if { false }\n"
    )
    results = await run_rego_tests(engine, POLICY, tests)
    assert [(each.name, each.outcome.value) for each in results] == [
        ("test_a", "pass"),
        ("test_b", "fail"),
        ("test_c", "fail"),
        ("test_d", "error"),
        ("todo_test_e", "skipped"),
    ]
    assert results[1].reason == "undefined"
    assert "'yes'" in results[2].reason
    assert "two values" in results[3].reason


@pytest.mark.parametrize(
    ("tests", "reason"),
    [
        ("", "begins with its package"),
        (HEAD, "no rule test_"),
        ("package policy_test\n\nallow if { true }\n", "no rule test_"),
        ('package a["b c"]\n\ntest_a := true\n', "plain name"),
        (HEAD + 'test_a if { http.send({"url": "x"}) }\n', "not allowed"),
        (
            HEAD + 'f(x) := ["aa"]\n\ntest_a if { policy.executables with query_reference_value as f }\n',
            "only be called",
        ),
    ],
)
async def test_texts_that_are_no_tests_are_refused(engine: PolicyEngine, tests: str, reason: str) -> None:
    """Nothing passes by not being run."""
    with pytest.raises(PolicyError, match=reason):
        await run_rego_tests(engine, POLICY, tests)


async def test_an_unknown_function_is_an_error_and_names_the_line(engine: PolicyEngine) -> None:
    (result,) = await run_rego_tests(engine, POLICY, HEAD + "test_a if { no_such(1) }\n")
    assert result.outcome is Outcome.ERROR
    assert "no_such" in result.reason
    (result,) = await run_rego_tests(engine, POLICY, HEAD + "test_a if { 1 == }\n")
    assert "tests line 7" in result.reason


async def test_tests_may_be_in_the_policys_own_package(engine: PolicyEngine) -> None:
    tests = "package policy\n\nimport rego.v1\n\ntest_a if { not allow }\n"
    (result,) = await run_rego_tests(engine, POLICY, tests)
    assert result.outcome is Outcome.PASS


def test_the_text_stays_where_it_is() -> None:
    """Only `input` and the values of `with` change, on their own lines; strings, members and comments do not."""
    text = 'a if { x.input == "input" } # input with input as y\r\nb if { c with input.z as d.e[0].f(g) with data.q as {"r": s} }\n'
    assert in_engine_terms(text) == (
        'a if { x.input == "input" } # input with input as y\n'
        'b if { c with data.tested_input.z as [d.e[0].f(g)][0] with data.q as {"r": s} }\n'
    )


@given(st.text('with as input.[](){}x \n"', max_size=60))
def test_any_text_is_rewritten_or_refused(text: str) -> None:
    try:
        changed = in_engine_terms(text)
    except PolicyError:
        return
    assert changed.count("\n") == text.count("\n")


async def test_the_documentations_examples_pass(engine: PolicyEngine) -> None:
    """The policies, the tests and the case of docs/policies.md are what they say they are."""
    page = (Path(__file__).parents[2] / "docs" / "policies.md").read_text(encoding="utf-8")
    attestation, release, tests = re.findall(r"```rego\n(.*?)```", page, re.DOTALL)
    await engine.validate(attestation, PolicyKind.ATTESTATION)
    await engine.validate(release, PolicyKind.RESOURCE)
    results = await run_rego_tests(engine, release, tests)
    assert [each.outcome for each in results] == [Outcome.PASS, Outcome.PASS]
    (case,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    (result,) = await run_cases(engine, attestation, parse_cases(case.encode()))
    assert result.outcome is Outcome.PASS, result.reason


##### Cases


async def test_cases_are_compared(engine: PolicyEngine) -> None:
    given_input = {"tdx": {"mr_td": "aa"}}
    references = {"mr_td": ["aa"]}
    release = {"plugin": "resource", "resource-path": ["open", "b", "c"]}
    token = {"submods": {"cpu0": {"ear.status": "affirming"}}}
    cases = [
        {
            "name": "trusted",
            "input": given_input,
            "reference_values": references,
            "expect": {"status": "affirming"},
        },
        {"input": given_input, "expect": {"trust_claims": {"executables": 33, "hardware": 0}}},
        {"input": given_input, "expect": {"status": "affirming", "trust_claims": {"executables": 3}}},
        {"input": token, "data": release, "expect": {"allow": True}},
        {"input": token, "data": release, "expect": {"allow": False}},
        {"input": token, "data": {"reference": {}}, "expect": {"allow": False}},
    ]
    results = await run_cases(engine, POLICY, parse_cases(json.dumps(cases).encode()))
    assert [(each.name, each.outcome.value) for each in results] == [
        ("trusted", "pass"),
        ("case 2", "pass"),
        ("case 3", "fail"),
        ("case 4", "pass"),
        ("case 5", "fail"),
        ("case 6", "error"),
    ]
    assert results[2].reason == "status is warning; executables is 33 instead of 3"
    assert results[4].reason == "allow is true"


def test_one_case_needs_no_list() -> None:
    (case,) = parse_cases(b'{"policy": "release.rego", "expect": {"allow": false}}')
    assert case == Case(name="case 1", policy="release.rego", expect={"allow": False})


@pytest.mark.parametrize(
    "case",
    [
        [],
        [1],
        {},
        {"expect": {}},
        {"expect": {"allow": 1}},
        {"expect": {"allow": True, "status": "affirming"}},
        {"expect": {"status": "good"}},
        {"expect": {"status": []}},
        {"expect": {"trust_claims": {"hardwear": 2}}},
        {"expect": {"trust_claims": {"hardware": True}}},
        {"expect": {"allow": True}, "inputs": {}},
        {"expect": {"allow": True}, "data": []},
        {"expect": {"allow": True}, "policy": 1},
    ],
)
def test_cases_that_test_nothing_are_refused(case: Any) -> None:
    with pytest.raises(InputError):
        parse_cases(json.dumps(case).encode())


@given(st.binary(max_size=60) | st.sampled_from([b"[", b"{}", b'{"expect":{"allow":true}}']))
def test_any_bytes_are_cases_or_refused(data: bytes) -> None:
    try:
        cases = parse_cases(data)
    except InputError:
        return
    assert all(case.expect for case in cases)
