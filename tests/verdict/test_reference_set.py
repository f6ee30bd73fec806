# SPDX-License-Identifier: Apache-2.0
"""Sets of reference values: sound or refused, and the same set has the same digest."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.verdict.errors import StatementError
from eaa.verdict.reference_set import MAX_VALUES, BuiltBy, Input, ReferenceSet, RegisterValue, is_product
from eaa.verdict.statement import Artifact, Statement, parse_statement

KERNEL = Artifact.of("kernel", b"Linux")
NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)


def test_a_set_reads_back_from_its_statement(reference_set: ReferenceSet) -> None:
    statement = parse_statement(reference_set.to_statement().to_bytes())
    assert ReferenceSet.from_statement(statement) == reference_set
    assert ReferenceSet.from_statement(statement).digest == reference_set.digest


def test_the_digest_changes_with_the_content(reference_set: ReferenceSet) -> None:
    digests = {
        replace(reference_set, **each).digest
        for each in (
            {}, {"version": 4}, {"note": ""}, {"expires_at": None}, {"supersedes": None}, {"provenance": ()},
            {"tee": "az-tdx-vtpm"}, {"product": "acme/db"}, {"artifacts": (KERNEL,)},
        )
    }  # fmt: skip
    assert len(digests) == 9


def test_times_are_in_utc_to_the_second(reference_set: ReferenceSet) -> None:
    east = datetime(2026, 3, 16, 13, 0, 0, 999, tzinfo=timezone(timedelta(hours=1)))
    assert replace(reference_set, issued_at=east) == reference_set


def test_values_are_told_as_an_import_takes_them(reference_set: ReferenceSet) -> None:
    assert reference_set.reference_values == {"mr_td": ["ab" * 48], "rtmr_2": ["cd" * 48, "ef" * 48]}


@pytest.mark.parametrize(
    "changes",
    [
        {"product": ""},
        {"product": "acme//web"},
        {"product": "../web"},
        {"product": "a" * 65},
        {"product": "acme/*"},
        {"version": 0},
        {"version": -1},
        {"version": 2**53},
        {"version": True},
        {"version": "3"},
        {"tee": ""},
        {"tee": "TDX"},
        {"registers": ()},
        {"registers": (RegisterValue("mr_td", ("ab",)), RegisterValue("mr_td", ("cd",)))},
        {"registers": (RegisterValue("mr_td", ("no hex",)),)},
        {"registers": (RegisterValue("mr_td", ("AB",)),)},
        {"artifacts": ()},
        {"expires_at": NOW},
        {"issued_at": datetime(2026, 3, 16, 12)},  # noqa: DTZ001 - that is the mistake
        {"issued_at": datetime(1, 1, 1, tzinfo=UTC)},
        {"supersedes": 3},
        {"supersedes": 0},
        {"provenance": ("12",)},
        {"note": "a" * 4097},
    ],
)
def test_an_unsound_set_cannot_be_made(reference_set: ReferenceSet, changes: dict[str, Any]) -> None:
    with pytest.raises(StatementError):
        replace(reference_set, **changes)


@pytest.mark.parametrize(
    ("name", "values"),
    [("", ("ab",)), ("a b", ("ab",)), ("a", ()), ("a", ("ab", "ab")), ("a", ("",)), ("a", ("a\0",))],
)
def test_an_unsound_register_cannot_be_made(name: str, values: tuple[str, ...]) -> None:
    with pytest.raises(StatementError):
        RegisterValue(name, values)


def test_who_built_what_is_of_an_artifact_and_by_a_provenance_of_the_set(reference_set: ReferenceSet) -> None:
    said = BuiltBy("kernel", "urn:alpha", "12" * 32)
    found = replace(reference_set, built_by=(said,))
    assert ReferenceSet.from_statement(found.to_statement()) == found
    assert found.digest != reference_set.digest
    for wrong in (
        replace(said, artifact="initrd"),
        replace(said, provenance="34" * 32),
        replace(said, builder=""),
        replace(said, builder="a\nb"),
    ):
        with pytest.raises(StatementError, match="who built an artifact"):
            replace(reference_set, built_by=(wrong,))
    with pytest.raises(StatementError, match="who built an artifact"):
        replace(reference_set, built_by=(said, said))


def test_a_set_names_so_many_provenances_each_once(reference_set: ReferenceSet) -> None:
    named = tuple(f"{number:064x}" for number in range(65))
    assert replace(reference_set, provenance=named[:64]).provenance == named[:64]
    for wrong in (named, (named[0], named[0])):
        with pytest.raises(StatementError, match="at most 64"):
            replace(reference_set, provenance=wrong)


def test_a_register_has_so_many_values_and_inputs_and_no_more() -> None:
    with pytest.raises(StatementError):
        RegisterValue("mr_td", tuple(f"{n:08x}" for n in range(MAX_VALUES + 1)))
    with pytest.raises(StatementError):
        RegisterValue("mr_td", ("ab",), (Input("a", "ab"),) * 1025)
    for name, digest in (("", "ab"), ("a", ""), ("a", "AB"), ("a", "abc")):
        with pytest.raises(StatementError):
            Input(name, digest)


def test_values_of_what_is_not_verified_here_are_kept() -> None:
    values = (
        RegisterValue("NVIDIA_Corporation.GPU.measurement_12", ("75",)),
        RegisterValue("debug", ("off",)),
    )
    found = ReferenceSet("acme/gpu", 1, "nvidia", values, (KERNEL,), NOW)
    assert ReferenceSet.from_statement(found.to_statement()) == found


def test_another_predicate_or_member_is_refused(reference_set: ReferenceSet) -> None:
    statement = reference_set.to_statement()
    with pytest.raises(StatementError, match="not about reference values"):
        ReferenceSet.from_statement(replace(statement, predicate_type="https://slsa.dev/provenance/v1"))
    with pytest.raises(StatementError, match="'except'"):
        ReferenceSet.from_statement(replace(statement, predicate={**statement.predicate, "except": []}))
    for name in ("product", "version", "tee", "issuedAt", "registers"):
        rest = {key: value for key, value in statement.predicate.items() if key != name}
        with pytest.raises(StatementError, match=name):
            ReferenceSet.from_statement(replace(statement, predicate=rest))


@pytest.mark.parametrize(
    "time",
    [
        "2026-03-16T12:00:00+00:00",
        "2026-3-16T12:00:00Z",
        "2026-03-16T12:00:00.0Z",
        "2026-02-30T12:00:00Z",
        "",
        0,
        None,
    ],
)
def test_a_time_is_written_in_one_way(reference_set: ReferenceSet, time: object) -> None:
    statement = reference_set.to_statement()
    for name in ("issuedAt", "expiresAt"):
        with pytest.raises(StatementError):
            ReferenceSet.from_statement(replace(statement, predicate={**statement.predicate, name: time}))


def test_products_are_named_simply() -> None:
    assert is_product("acme/web")
    assert is_product("web")
    assert not is_product("acme/web\n")
    assert not is_product("/".join("abcdefghi"))


JSON = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.text(max_size=8)
    | st.lists(st.text(max_size=4), max_size=2)
)
REGISTER = st.fixed_dictionaries(
    {},
    optional={
        "register": st.sampled_from(["mr_td", "rtmr_1", "x", ""]) | JSON,
        "values": st.lists(st.sampled_from(["ab", "12", "x", "AB"]), max_size=3) | JSON,
        "inputs": st.lists(st.fixed_dictionaries({"name": st.just("a"), "digest": JSON}), max_size=2) | JSON,
        "more": JSON,
    },
)


@given(
    predicate=st.fixed_dictionaries(
        {"version": st.integers(1, 9) | JSON, "product": st.just("a") | JSON, "tee": st.just("tdx") | JSON},
        optional={
            "issuedAt": st.just("2026-03-16T12:00:00Z") | JSON,
            "expiresAt": st.just("2027-03-16T12:00:00Z") | JSON,
            "registers": st.lists(REGISTER, max_size=3) | JSON,
            "supersedes": st.integers(0, 3) | JSON,
            "provenance": st.lists(st.just("ab" * 32), max_size=2) | JSON,
            "note": JSON,
        },
    )
)
def test_any_predicate_is_a_set_that_says_just_this_or_refused(predicate: dict[str, Any]) -> None:
    statement = Statement((KERNEL,), "urn:eaa:reference-values:1", predicate)
    try:
        found = ReferenceSet.from_statement(statement)
    except StatementError:
        return
    again = found.to_statement().predicate
    assert again == {name: value for name, value in predicate.items() if value not in ("", [])} | {
        "registers": again["registers"]
    }
