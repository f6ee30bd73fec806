# SPDX-License-Identifier: Apache-2.0
"""Policies are evaluated out of process: what they decide, and that hostile ones harm nothing but themselves."""

from __future__ import annotations

import asyncio
import json
import os
import time
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eaa.rats import PolicyError, UnavailableError
from eaa.verifier._policy_process import PolicyProcess
from eaa.verifier.policy import PolicyEngine, PolicyKind, load_default, policy_digest
from eaa.verifier.trust import CLAIM_NAMES

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HEAD = "package policy\nimport rego.v1\n"
REQUEST = {"plugin": "resource", "resource-path": ["repo", "type", "tag"], "query": {}}

pytestmark = pytest.mark.anyio


@pytest.fixture
async def impatient() -> AsyncIterator[PolicyEngine]:
    """An engine whose deadline is short, for policies that must be stopped."""
    async with PolicyEngine(processes=1, deadline=1.0) as engine:
        yield engine


def _submods(*statuses: str | None) -> dict[str, Any]:
    return {"submods": {f"cpu{n}": {"ear.status": s} if s else {} for n, s in enumerate(statuses)}}


@pytest.mark.parametrize("kind", list(PolicyKind))
async def test_the_shipped_defaults_are_valid(engine: PolicyEngine, kind: PolicyKind) -> None:
    await engine.validate(load_default(kind), kind)


@pytest.mark.parametrize(
    ("token", "allowed"),
    [
        (_submods("affirming"), True),
        (_submods("affirming", "affirming"), True),
        (_submods("affirming", "warning"), False),
        (_submods("contraindicated"), False),
        (_submods("none"), False),
        (_submods("affirming", None), False),
        ({"submods": {}}, False),
        ({"submods": "affirming"}, False),
        ({}, False),
        ([], False),
        (None, False),
    ],
)
async def test_the_default_resource_policy_wants_every_part_affirming(
    engine: PolicyEngine,
    token: Any,
    allowed: bool,  # noqa: FBT001 - pytest passes parameters by name
) -> None:
    policy = load_default("resource")
    assert await engine.allow(policy, data=REQUEST, input=token) is allowed
    assert await engine.allow(policy, data={**REQUEST, "plugin": "other"}, input=token) is False
    assert await engine.allow(policy, data={}, input=token) is False


@pytest.mark.parametrize(
    "rule",
    [
        "allow := 1",
        'allow := "true"',
        "allow := [true]",
        "allow := {true}",
        "allow := null",
        "allow if false",
        "other := true",
        "default allow := false",
        'allow if query_reference_value("x") >= null',
        "allow contains true",
    ],
)
async def test_only_true_allows(engine: PolicyEngine, rule: str) -> None:
    assert await engine.allow(HEAD + rule, data=REQUEST, input={}) is False
    assert await engine.allow(HEAD + "allow := true", data=REQUEST, input={}) is True


async def test_a_resource_policy_sees_the_request(engine: PolicyEngine) -> None:
    policy = (
        HEAD
        + 'allow if { data["resource-path"] == ["repo", "type", "tag"]; input["tee-pubkey"].kty == "EC" }'
    )
    claims = {"tee-pubkey": {"kty": "EC"}}
    assert await engine.allow(policy, data=REQUEST, input=claims)
    assert not await engine.allow(
        policy, data={**REQUEST, "resource-path": ["repo", "type", "x"]}, input=claims
    )
    with pytest.raises(PolicyError, match="reference"):
        await engine.allow(policy, data={"reference": {"x": 1}}, input={})


async def test_a_policy_that_fails_is_an_error_and_never_true(engine: PolicyEngine) -> None:
    for rule in ("allow := true\nallow := false", "allow if missing(1)", "allow if allow", "allow if {"):
        with pytest.raises(PolicyError):
            await engine.allow(HEAD + rule, data=REQUEST, input={})


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("package other\nallow := true", "the package is other"),
        (HEAD + "permit := true", "no rule allow"),
        (HEAD + "\nallow if {\n x ==\n}", "line 5: Invalid boolean operator"),
        (HEAD + "allow if missing(1)", "unknown function missing"),
        (HEAD + 'allow if query_refrence_value("x")', "unknown function query_refrence_value"),
        (HEAD + "allow if allow", "Recursion detected"),
        (HEAD + "allow := 1\nallow := 2", "two values"),
        (HEAD + "allow if time.now_ns() > 1", "time.now_ns is not allowed"),
    ],
)
async def test_an_invalid_policy_is_refused_with_the_reason(
    engine: PolicyEngine, text: str, why: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await engine.validate(text, "resource")
    assert why in str(caught.value)
    assert caught.value.hint


async def test_an_attestation_policy_needs_trust_claims(engine: PolicyEngine) -> None:
    with pytest.raises(PolicyError, match="no rule trust_claims"):
        await engine.validate(load_default("resource"), "attestation")


async def test_a_missing_reference_value_satisfies_no_comparison(engine: PolicyEngine) -> None:
    operators = ("in", "==", "!=", ">=", "<=", "<", ">")
    rules = "\n".join(
        f'n{n} if input.x {op} query_reference_value("absent")' for n, op in enumerate(operators)
    )
    policy = HEAD + rules + "\nallow if n0\n" + "\n".join(f"allow if n{n}" for n in range(1, len(operators)))
    policy += '\nallow if query_reference_value("absent") == null\nallow if count(query_reference_value("absent")) == 0'
    values: tuple[Any, ...] = (3, "aa", None, [], True)
    for value in values:
        assert await engine.allow(policy, data=REQUEST, input={"x": value}) is False
    claims = (
        HEAD
        + 'default h := 97\nh := 2 if input.x >= query_reference_value("minimum")\ntrust_claims := {"hardware": h}'
    )
    cases: list[tuple[dict[str, Any], int]] = [
        ({}, 97),
        ({"minimum": None}, 97),
        ({"minimum": 3}, 2),
        ({"minimum": 4}, 97),
    ]
    for reference, expected in cases:
        found = await engine.trust_claims(claims, input={"x": 3}, reference_values=reference)
        assert found.vector["hardware"] == expected


@pytest.mark.parametrize(
    "value",
    [
        'query_reference_value("x")',
        "query_reference_value(input.name)",
        "data.reference.x",
        'data["reference"]["x"]',
        "r.x",
    ],
)
async def test_a_policy_is_given_the_values_it_can_ask_for(engine: PolicyEngine, value: str) -> None:
    policy = HEAD + "import data.reference as r\n" * (value == "r.x")
    policy += f'extensions := [{{"name": "x", "key": 1, "value": {value}}}]\ntrust_claims := {{}}'
    found = await engine.trust_claims(policy, input={"name": "x"}, reference_values={"x": [1], "y": [2]})
    assert found.extensions == {"x": [1]}


async def test_values_that_no_policy_asks_for_change_nothing(
    engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HEAD + 'trust_claims := {"hardware": query_reference_value("x")}'
    await engine.trust_claims(policy, input={}, reference_values={"x": 2})
    monkeypatch.setattr(PolicyProcess, "ask", None)
    found = await engine.trust_claims(policy, input={}, reference_values={"x": 2, "y": ["z"] * 1_000_000})
    assert found.vector["hardware"] == 2


async def test_the_vector_has_all_eight_claims(engine: PolicyEngine) -> None:
    found = await engine.trust_claims(HEAD + 'trust_claims := {"hardware": 2}', input={}, reference_values={})
    assert tuple(found.vector) == CLAIM_NAMES
    assert found.vector["hardware"] == 2
    assert sum(found.vector.values()) == 2
    assert found.extensions == {}


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        ('trust_claims := {"hardwear": 2}', "unknown trust claim"),
        ('trust_claims := {"hardware": 128}', "-128 to 127"),
        ('trust_claims := {"hardware": -129}', "-128 to 127"),
        ('trust_claims := {"hardware": true}', "-128 to 127"),
        ('trust_claims := {"hardware": 2.5}', "-128 to 127"),
        ('trust_claims := {"hardware": "2"}', "-128 to 127"),
        ("trust_claims := [2]", "not an object"),
        ("trust_claims if false", "not an object"),
        ("other := 1", "not an object"),
        ('trust_claims := {"hardware": 1e400}', ""),
        ('trust_claims := {}\nextensions := {"name": "x"}', "not a list"),
        ('trust_claims := {}\nextensions := [{"name": "x", "value": 1}]', "not an object with name"),
        (
            'trust_claims := {}\nextensions := [{"name": "ear.status", "key": 1, "value": "affirming"}]',
            "reserved",
        ),
        ('trust_claims := {}\nextensions := [{"name": "ear.eaa.verdict", "key": 1, "value": 1}]', "reserved"),
    ],
)
async def test_a_result_that_is_no_trust_vector_is_an_error(
    engine: PolicyEngine, rule: str, why: str
) -> None:
    with pytest.raises(PolicyError) as caught:
        await engine.trust_claims(HEAD + rule, input={}, reference_values={})
    assert why in str(caught.value)


async def test_extensions_are_kept_by_name(engine: PolicyEngine) -> None:
    rule = 'trust_claims := {}\nextensions := [{"name": "ear.trustee.identifiers", "key": -18, "value": {"validated": input.v}}]'
    found = await engine.trust_claims(HEAD + rule, input={"v": ["é\n"]}, reference_values={})
    assert found.extensions == {"ear.trustee.identifiers": {"validated": ["é\n"]}}


HOSTILE = {
    "nested brackets": "allow := " + "[" * 5000,
    "nested negation": "allow := " + "not " * 20000,
    "regular expression": "allow if regex.match(`^(a+)+$`, `" + "a" * 60 + "!`)",
    "endless search": "allow if { some a, b, c in numbers.range(1, 3000); a * b * c == -1 }",
    "nested loops": "allow if { r := numbers.range(1, 2000); some a in r; some b in r; some c in r; a + b + c == -1 }",
    "memory": "allow if count(numbers.range(1, 1000000000)) == 1",
    "long text": 'allow if count(sprintf("%900000000d", [1])) == 1',
    "number out of range": "allow := 1e400",
    "large result": 'allow := concat("", ["' + "x" * 1000 + '" | some x in numbers.range(1, 3000)])',
}


@pytest.mark.parametrize("name", HOSTILE)
async def test_hostile_text_ends_in_an_error_in_time_and_the_next_policy_works(
    impatient: PolicyEngine, name: str
) -> None:
    started = time.monotonic()
    with pytest.raises(PolicyError):
        await impatient.allow(HEAD + HOSTILE[name], data=REQUEST, input={})
    assert time.monotonic() - started < 8
    assert await impatient.allow(HEAD + "allow := true", data=REQUEST, input={}) is True


def test_text_that_crashes_the_engine_ends_its_process_only() -> None:
    """Nesting is refused before the engine; here it reaches it."""
    process = PolicyProcess()
    request = {"data": "{}", "input": "{}", "rules": ["allow"]}
    try:
        process.start()
        first = process.pid
        with pytest.raises(PolicyError, match="made the engine fail"):
            process.ask({**request, "policy": HEAD + "allow := " + "[" * 20_000 + "]" * 20_000}, 20)
        answer = process.ask({**request, "policy": HEAD + "allow := true"}, 20)
        assert answer == {"values": {"allow": True}}
        assert process.pid != first
    finally:
        process.close()
    with pytest.raises(UnavailableError):
        process.start()


def test_policies_see_nothing_of_the_verifiers_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were a forbidden builtin ever to pass the reader, there is nothing to tell."""
    monkeypatch.setenv("EAA_SECRET", "do-not-tell")
    process = PolicyProcess()
    try:
        request = {"policy": HEAD + "allow := opa.runtime()", "data": "{}", "input": "{}", "rules": ["allow"]}
        values = process.ask(request, 20)["values"]
    finally:
        process.close()
    assert "do-not-tell" not in json.dumps(values)
    assert set(values["allow"]["env"]) <= {"LC_CTYPE"}  # which CPython itself may set


async def test_results_are_remembered_by_content(
    engine: PolicyEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    policy = HEAD + "# asked once\nallow if input.a == data.b"
    asked = []
    ask = PolicyProcess.ask

    def counting(self: PolicyProcess, request: dict[str, Any], *args: Any, **kwargs: Any) -> dict[str, Any]:
        asked.append(request)
        return ask(self, request, *args, **kwargs)

    monkeypatch.setattr(PolicyProcess, "ask", counting)
    for _ in range(2):
        assert await engine.allow(policy, data={"b": 1, "c": 2}, input={"a": 1})
        assert await engine.allow(policy, data={"c": 2, "b": 1}, input={"a": 1})
    assert len(asked) == 1
    assert not await engine.allow(policy, data={"b": 1, "c": 2}, input={"a": 2})
    assert not await engine.allow(policy, data={"b": 2, "c": 2}, input={"a": 1})
    assert await engine.allow(policy + "\n", data={"b": 1, "c": 2}, input={"a": 1})
    assert len(asked) == 4


async def test_the_time_is_told_only_when_allowed_and_never_remembered() -> None:
    policy = (
        HEAD + "trust_claims := {}\n" + 'extensions := [{"name": "now", "key": 1, "value": time.now_ns()}]'
    )
    async with PolicyEngine(processes=1, deadline=20, allow_builtins=["time.now_ns"]) as engine:
        await engine.validate(policy, "attestation")
        first = await engine.trust_claims(policy, input={}, reference_values={})
        second = await engine.trust_claims(policy, input={}, reference_values={})
    assert first.extensions["now"] < second.extensions["now"]
    with pytest.raises(PolicyError, match="never be allowed"):
        PolicyEngine(allow_builtins=["opa.runtime"])


async def test_children_work_in_parallel_and_end_with_the_engine() -> None:
    engine = PolicyEngine(processes=2, deadline=20)
    await engine.start()
    pids = [process.pid for process in engine._processes]
    policies = [f"{HEAD}allow if input.n == {n}" for n in range(20)]
    answers = await asyncio.gather(
        *(engine.allow(p, data=REQUEST, input={"n": n % 3}) for n, p in enumerate(policies))
    )
    assert answers == [n < 3 for n in range(20)]
    await engine.close()
    for pid in pids:
        assert pid is not None
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    with pytest.raises(UnavailableError, match="closed"):
        await engine.allow(HEAD + "allow := true", data=REQUEST, input={})


async def test_closing_ends_an_evaluation_that_runs() -> None:
    engine = PolicyEngine(processes=1, deadline=20)
    await engine.start()
    running = asyncio.create_task(engine.allow(HEAD + HOSTILE["regular expression"], data=REQUEST, input={}))
    await asyncio.sleep(0.2)
    started = time.monotonic()
    await engine.close()
    with pytest.raises((PolicyError, UnavailableError)):
        await running
    assert time.monotonic() - started < 5


async def test_an_engine_that_does_not_start_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.executable", "/bin/false")
    engine = PolicyEngine(processes=1)
    with pytest.raises(UnavailableError, match="does not start"):
        await engine.start()
    await engine.close()


@pytest.mark.parametrize("bad", [float("nan"), {1, 2}, "\ud800", b"x"])
async def test_input_that_is_not_json_is_an_error(engine: PolicyEngine, bad: Any) -> None:
    with pytest.raises(PolicyError, match="not JSON"):
        await engine.allow(HEAD + "allow := true", data=REQUEST, input={"x": bad})


async def test_input_that_is_nested_without_end_is_an_error(engine: PolicyEngine) -> None:
    nested: list[Any] = []
    for _ in range(100_000):
        nested = [nested]
    with pytest.raises(PolicyError):
        await engine.allow(HEAD + "allow := true", data=REQUEST, input=nested)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8"), max_size=6), inner, max_size=3),
    max_leaves=8,
)  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(_JSON, _JSON)
def test_the_engine_sees_the_input_as_it_is(engine: PolicyEngine, one: Any, two: Any) -> None:
    """Equal in the policy exactly when equal as JSON: nothing is cut, rounded or unescaped on the way."""
    policy = HEAD + "allow if input.x == data.x"
    same = json.dumps(one, sort_keys=True) == json.dumps(two, sort_keys=True)
    assert asyncio.run(engine.allow(policy, data={"x": one}, input={"x": two})) is same
    assert asyncio.run(engine.allow(policy, data={"x": one}, input={"x": one})) is True


def test_a_policys_digest_is_the_one_trustee_lists() -> None:
    expected = (
        "38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b"
    )
    assert policy_digest("") == expected
    assert policy_digest("package policy") != expected
