# SPDX-License-Identifier: Apache-2.0
"""Unit tests of policies, run by the very engine that judges evidence.

Two forms. *Rego*, as OPA's users write it: a text of any package whose rules ``test_…`` are true when they pass; ``with input as …``
gives the claims, ``with data.reference as {…}`` the reference values, ``with data.plugin as …`` and ``with data["resource-path"]
as …`` the request; rules ``todo_test_…`` are skipped. *Cases*, a JSON object or a list of them: what a policy is given (``input``,
``reference_values``, ``data``) and what is expected of it (``expect`` with ``allow``, ``status`` or ``trust_claims``).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import InputError, PolicyError
from eaa.verifier._rego_scan import scan_policy
from eaa.verifier.trust import CLAIM_NAMES, Tier, status

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.verifier.policy import PolicyEngine

__all__ = ["Case", "Outcome", "TestResult", "parse_cases", "run_cases", "run_rego_tests"]

MAX_CASES_SIZE: Final = 4 << 20
"""Bytes of one file of cases, which may hold whole evidence."""
_MEMBERS: Final = frozenset({"name", "policy", "input", "data", "reference_values", "expect"})
_PLAIN_PACKAGE: Final = str.isidentifier


class Outcome(StrEnum):
    """How one test ended."""

    PASS = "pass"  # noqa: S105 - a result, not a password
    FAIL = "fail"
    ERROR = "error"
    """It could not be decided, because the policy or the test failed; as bad as a failure."""
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class TestResult:
    """One test, how it ended, and why if it did not pass."""

    __test__ = False  # pytest would take it for a class of tests

    name: str
    outcome: Outcome
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Case:
    """One case. ``policy`` names the policy's file, relative to the case's; ``expect`` is not empty."""

    name: str
    expect: Mapping[str, Any]
    input: Any = None
    data: Mapping[str, Any] = field(default_factory=dict)
    reference_values: Mapping[str, Any] = field(default_factory=dict)
    policy: str = ""


async def run_rego_tests(engine: PolicyEngine, policy: str, tests: str) -> tuple[TestResult, ...]:
    """Run the rules ``test_…`` of ``tests`` against the text of a policy, in order of name.

    :raises PolicyError: when ``tests`` cannot be read, or hold no test.
    """
    scan = scan_policy(tests)
    if not all(map(_PLAIN_PACKAGE, scan.package.split("."))):
        raise PolicyError(
            f"the package {scan.package!r} is no plain name", hint="Begin with `package policy_test`."
        )
    names = sorted(name for name in scan.rules if name.startswith("test_"))
    skipped = sorted(name for name in scan.rules if name.startswith("todo_test_"))
    if not names and not skipped:
        raise PolicyError("there is no rule test_…", hint="A test is a rule whose name begins with test_.")
    found = await _values(engine, policy, tests, names)
    results = [_result(name, found.get(name)) for name in names]
    return (*results, *(TestResult(name, Outcome.SKIPPED, "a todo") for name in skipped))


async def _values(engine: PolicyEngine, policy: str, tests: str, names: list[str]) -> dict[str, Any]:
    """Return the value of each rule, or the error it ends in. One that fails takes none of the others with it."""
    try:
        return dict(await engine.test_rules(policy, tests, names))
    except PolicyError as error:
        if len(names) == 1:
            return {names[0]: error}
    found: dict[str, Any] = {}
    for name in names:
        found |= await _values(engine, policy, tests, [name])
    return found


def _result(name: str, value: Any) -> TestResult:
    if isinstance(value, PolicyError):
        return TestResult(name, Outcome.ERROR, str(value))
    if value is True:
        return TestResult(name, Outcome.PASS)
    return TestResult(
        name, Outcome.FAIL, "undefined" if value is None else f"{value!r} instead of true"[:200]
    )


def parse_cases(data: bytes) -> tuple[Case, ...]:
    """Read a file of cases.

    :raises InputError: when it is no such file; the message says which case and what about it.
    """
    document = parse_json(data, MAX_CASES_SIZE, error=InputError)
    listed = document if isinstance(document, list) else [document]
    if not listed:
        raise InputError("a file of cases without a case")
    return tuple(_case(each, at) for at, each in enumerate(listed, 1))


def _case(given: Any, at: int) -> Case:
    if not isinstance(given, dict):
        raise InputError(f"case {at} is no JSON object", hint="Give it input and expect.")
    if unknown := sorted(given.keys() - _MEMBERS):
        raise InputError(
            f"case {at} has an unknown member {unknown[0][:64]!r}",
            hint=f"Known are: {', '.join(sorted(_MEMBERS))}.",
        )
    for member, kind in (("name", str), ("policy", str), ("data", dict), ("reference_values", dict)):
        if not isinstance(given.get(member, kind()), kind):
            raise InputError(f"case {at}: {member} is no {'text' if kind is str else 'object'}")
    expect = given.get("expect")
    if not isinstance(expect, dict) or not _is_expectation(expect):
        raise InputError(
            f"case {at}: expect is none of allow, status, trust_claims",
            hint='Write {"allow": true}, {"status": "affirming"} or {"trust_claims": {"hardware": 2}}.',
        )
    return Case(
        name=given.get("name") or f"case {at}",
        expect=expect,
        input=given.get("input"),
        data=given.get("data", {}),
        reference_values=given.get("reference_values", {}),
        policy=given.get("policy", ""),
    )


def _is_expectation(expect: dict[str, Any]) -> bool:
    if expect.keys() == {"allow"}:
        return isinstance(expect["allow"], bool)
    claims = expect.get("trust_claims", {})
    return (
        bool(expect)
        and expect.keys() <= {"status", "trust_claims"}
        and expect.get("status", Tier.NONE) in list(Tier)
        and isinstance(claims, dict)
        and all(name in CLAIM_NAMES and type(value) is int for name, value in claims.items())
    )


async def run_cases(engine: PolicyEngine, policy: str, cases: tuple[Case, ...]) -> tuple[TestResult, ...]:
    """Ask the policy about each case and compare; of ``trust_claims`` only those that the case names."""
    return tuple([await _run_case(engine, policy, case) for case in cases])


async def _run_case(engine: PolicyEngine, policy: str, case: Case) -> TestResult:
    try:
        if "allow" in case.expect:
            allowed = await engine.allow(policy, data=case.data, input=case.input)
            wrong = [] if allowed is case.expect["allow"] else [f"allow is {str(allowed).lower()}"]
        else:
            said = await engine.trust_claims(policy, input=case.input, reference_values=case.reference_values)
            found = status(said.vector)
            wrong = [f"status is {found}"] if case.expect.get("status", found) != found else []
            wrong += [
                f"{name} is {said.vector[name]} instead of {value}"
                for name, value in case.expect.get("trust_claims", {}).items()
                if said.vector[name] != value
            ]
    except PolicyError as error:
        return TestResult(case.name, Outcome.ERROR, str(error))
    return TestResult(case.name, Outcome.FAIL if wrong else Outcome.PASS, "; ".join(wrong))
