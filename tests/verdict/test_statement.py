# SPDX-License-Identifier: Apache-2.0
"""Statements: what is written is read back, and whatever else is refused."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.verdict.errors import StatementError
from eaa.verdict.statement import MAX_SUBJECTS, STATEMENT_TYPE, Artifact, Statement, parse_statement

KERNEL = Artifact.of("kernel", b"a kernel")


def written(**changes: Any) -> bytes:
    """A statement as JSON, with members changed, or left out where the change is None."""
    value = {
        "_type": STATEMENT_TYPE,
        "subject": [{"name": "kernel", "digest": {"sha256": "ab" * 32}}],
        "predicateType": "urn:example",
        "predicate": {},
    }
    return json.dumps({k: v for k, v in (value | changes).items() if v is not None}).encode()


def test_a_statement_is_canonical_and_reads_back() -> None:
    statement = Statement((KERNEL,), "urn:example", {"b": 1, "a": ["ä", None]})
    assert statement.to_bytes() == (
        b'{"_type":"https://in-toto.io/Statement/v1","predicate":{"a":["\xc3\xa4",null],"b":1},'
        b'"predicateType":"urn:example","subject":[{"digest":{"sha256":"'
        + KERNEL.digests[0][1].encode()
        + b'"},"name":"kernel"}]}'
    )
    assert parse_statement(statement.to_bytes()) == statement
    assert statement.digest == parse_statement(statement.to_bytes()).digest


def test_others_statements_may_say_more_in_any_layout() -> None:
    subject = {"name": "a", "digest": {"gitCommit": "ab" * 20, "sha256": "cd" * 32}, "annotations": {"x": 1}}
    found = parse_statement(written(subject=[subject], extension=True) + b"\n")
    assert found.subject[0].digests == (("gitCommit", "ab" * 20), ("sha256", "cd" * 32))
    assert found.subject[0].sha256 == "cd" * 32


@pytest.mark.parametrize(
    "changes",
    [
        {"_type": "https://in-toto.io/Statement/v0.1"},
        {"_type": None},
        {"subject": []},
        {"subject": None},
        {"subject": ["kernel"]},
        {"subject": [{"name": "kernel"}]},
        {"subject": [{"digest": {"sha256": "ab" * 32}}]},
        {"subject": [{"name": "", "digest": {"sha256": "ab" * 32}}]},
        {"subject": [{"name": "a\nb", "digest": {"sha256": "ab" * 32}}]},
        {"subject": [{"name": "a", "digest": {}}]},
        {"subject": [{"name": "a", "digest": {"sha256": "AB" * 32}}]},
        {"subject": [{"name": "a", "digest": {"sha256": 1}}]},
        {"subject": [{"name": "a", "digest": {"a b": "ab"}}]},
        {"subject": [{"name": "a", "digest": {"sha256": "ab"}}] * (MAX_SUBJECTS + 1)},
        {"predicateType": ""},
        {"predicateType": 1},
        {"predicate": []},
        {"predicate": None},
    ],
)
def test_what_is_no_statement_is_refused(changes: dict[str, Any]) -> None:
    parse_statement(written())
    with pytest.raises(StatementError):
        parse_statement(written(**changes))


@pytest.mark.parametrize("data", [b"", b"[]", b"null", b'{"_type":1,"_type":1}', b"[" * 100_000])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    with pytest.raises(StatementError):
        parse_statement(data)


@pytest.mark.parametrize("value", [2**53, float("nan"), "\ud800", object()])
def test_what_json_cannot_say_exactly_is_not_written(value: object) -> None:
    with pytest.raises(StatementError):
        Statement((KERNEL,), "urn:example", {"a": value}).to_bytes()


@given(data=st.binary(max_size=200))
def test_any_bytes_are_a_statement_or_refused(data: bytes) -> None:
    with pytest.raises(StatementError):
        parse_statement(data)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**60), 2**60) | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)


@given(
    value=st.fixed_dictionaries(
        {},
        optional={
            "_type": st.just(STATEMENT_TYPE) | JSON,
            "subject": st.lists(
                st.fixed_dictionaries({}, optional={"name": JSON, "digest": JSON}), max_size=2
            )
            | JSON,
            "predicateType": st.text(max_size=8) | JSON,
            "predicate": st.dictionaries(st.text(max_size=8), JSON, max_size=3) | JSON,
        },
    )
)
def test_any_json_is_a_statement_or_refused(value: Any) -> None:
    try:
        parse_statement(json.dumps(value).encode())
    except StatementError:
        return
