# SPDX-License-Identifier: Apache-2.0
"""The reader in front of the engine: what a policy calls, and what is refused before any engine sees it."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import PolicyError
from eaa.verifier._rego_scan import MAX_POLICY_SIZE, PolicyScan, scan_policy
from eaa.verifier.policy import load_default

HEAD = "package policy\nimport rego.v1\n"


def test_rules_calls_and_queried_names_are_found() -> None:
    scan = scan_policy(
        HEAD
        + """
        default allow := false   # opa.runtime() in a comment is not a call
        allow if {
            helper(input.x)
            "net.lookup()" != `rand.intn("x", 1)`
            input.a in query_reference_value("rtmr_1")
            data.policy.query_reference_value(`a b`)
            query_reference_value(name)
            time["clock"](1)
        }
        helper(x) if startswith(x, "query_reference_value(\\"no\\")")
        """
    )
    assert scan.package == "policy"
    assert scan.rules == {"allow", "helper"}
    assert scan.references == ("rtmr_1", "a b")
    assert scan.computed_references
    assert scan.calls == {"startswith", "time.clock"}


def test_the_shipped_policies_are_read() -> None:
    scan = scan_policy(load_default("attestation"))
    assert {"mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "mr_enclave", "mr_signer"} <= set(scan.references)
    assert scan_policy(load_default("resource")).rules == {"allow"}


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("allow := opa.runtime()", "line 3: opa.runtime is not allowed"),
        ('allow := opa["runtime"]()', "opa.runtime is not allowed"),
        ("allow := opa [`runtime`]()", "opa.runtime is not allowed"),
        ("allow := opa.# hidden\nruntime()", "opa.runtime is not allowed"),
        ("import opa.runtime as r\nallow := r()", "import of opa.runtime"),
        ("import opa as r\nallow := r.runtime()", "import of opa"),
        ("allow := opa[x]", "opa is not allowed"),
        ('allow := $"{opa.runtime()}"', "template strings"),
        ("allow := $`{opa.runtime()}`", "template strings"),
        ('allow if http.send({"url": "x"})', "http.send is not allowed"),
        ('allow if net.lookup_ip_addr("x")', "net.lookup_ip_addr is not allowed"),
        ('allow if rand.intn("x", 2) == 1', "rand.intn is not allowed"),
        ('allow if uuid.rfc4122("x")', "uuid.rfc4122 is not allowed"),
        ('allow if trace("x")', "trace is not allowed"),
        ("query_reference_value(x) := [1]\nallow := true", "may only be called"),
        ("allow := true; query_reference_value(x) := [1]", "may only be called"),
        ('query_reference_value := ["aa"]', "may only be called"),
        ("default query_reference_value(_) := 1", "may only be called"),
        ("allow if f(1) with query_reference_value as g", "may only be called"),
        ("allow if f(1) with f as query_reference_value", "may only be called"),
        ("import data.x as query_reference_value", "may only be called"),
        ("allow := " + "[" * 5000, "nested deeper"),
        ('allow := "open', "does not end"),
        ("allow := `open", "does not end"),
        ("allow := 1 # x\rallow := opa.runtime()", "control character"),
        ("allow := 'x'", "unexpected"),
    ],
)
def test_what_no_policy_may_do_is_refused_by_name(body: str, why: str) -> None:
    with pytest.raises(PolicyError) as caught:
        scan_policy(HEAD + body)
    assert why in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("text", ["", "\n# nothing\n", "allow := true", "import rego.v1\npackage policy"])
def test_a_policy_begins_with_its_package(text: str) -> None:
    with pytest.raises(PolicyError, match="begins with its package"):
        scan_policy(text)


def test_too_long_a_policy_is_refused_and_a_long_one_read_in_linear_time() -> None:
    with pytest.raises(PolicyError, match="at most"):
        scan_policy("package policy\n" + "#" * MAX_POLICY_SIZE)
    started = time.perf_counter()
    scan_policy("package policy\nallow := [" + "a," * (MAX_POLICY_SIZE // 2 - 100) + "1]")
    assert time.perf_counter() - started < 10


def test_text_that_is_not_unicode_is_refused() -> None:
    with pytest.raises(PolicyError, match="UTF-8"):
        scan_policy('package policy\nallow := "\ud800"')


_PIECES = st.sampled_from(
    ["package ", "policy", "import ", "allow", " if ", "{", "}", "[", "]", "(", ")", "\n", ";", ":=", '"', "`", "\\", "$",
     "#", ".", "query_reference_value", '("a")', "opa", "default ", "with ", "as ", "é", "\t", "1e9", "\x00", "\r\n"]
)  # fmt: skip


@given(st.lists(_PIECES | st.text(max_size=3), max_size=30).map("".join))
def test_any_text_gives_a_scan_or_a_policy_error(text: str) -> None:
    for attempt in (text, "package policy\n" + text):
        try:
            scan = scan_policy(attempt)
        except PolicyError:
            continue
        assert isinstance(scan, PolicyScan)
        assert "query_reference_value" not in scan.rules
