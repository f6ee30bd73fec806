# SPDX-License-Identifier: Apache-2.0
"""The owner's reference values: every register is held against them, and a missing one denies."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import Appraisal, Claims, EvidenceError, Result, Stage
from eaa.verifier.reference import Expected, check_reference_values, index_reference_values

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eaa.rats import Check

    from .conftest import Attest

TDX_REQUIRED = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")


def _values(appraisal: Appraisal, *names: str) -> dict[str, Any]:
    return {name: [appraisal.evidence.measurements[name]] for name in names}


def _by_name(checks: tuple[Check, ...]) -> dict[str, Check]:
    return {check.id.rsplit(".", 1)[-1]: check for check in checks}


def _failing(appraisal: Appraisal, values: Mapping[str, Any]) -> list[str]:
    return [check.id for check in check_reference_values(appraisal, values) if check.blocks]


def test_a_td_as_expected_passes(attest: Attest) -> None:
    appraisal = attest("tdx")
    checks = check_reference_values(appraisal, _values(appraisal, *TDX_REQUIRED))
    results = {name: check.result for name, check in _by_name(checks).items()}
    assert all(results.pop(name) is Result.PASS for name in TDX_REQUIRED)
    assert set(results.values()) == {Result.NOT_APPLICABLE}
    assert all(check.rule.stage is Stage.REFERENCE for check in checks)


def test_without_reference_values_everything_is_denied_by_name(attest: Attest) -> None:
    assert _failing(attest("tdx"), {}) == [f"reference.tdx.{name}" for name in TDX_REQUIRED]
    assert _failing(attest("sgx"), {}) == ["reference.sgx.mr_enclave"]
    check = _by_name(check_reference_values(attest("tdx"), {}))["mr_td"]
    assert check.expected == "no reference value named mr_td"
    assert "eaa reference-value set mr_td=" in check.rule.remedy


@pytest.mark.parametrize("name", TDX_REQUIRED)
@pytest.mark.parametrize("value", [["00" * 48], [], "", {"x": 1}, [None], [True], [["aa"]], None])
def test_another_value_denies_on_its_register_alone(attest: Attest, name: str, value: Any) -> None:
    appraisal = attest("tdx")
    values = {**_values(appraisal, *TDX_REQUIRED), name: value}
    assert _failing(appraisal, values) == [f"reference.tdx.{name}"]


def test_one_of_many_values_in_any_spelling_is_enough(attest: Attest) -> None:
    appraisal = attest("tdx")
    values = _values(appraisal, *TDX_REQUIRED)
    found = values["mr_td"][0]
    for value in (["00" * 48, found], found, found.upper(), {found}, (found,)):
        assert _failing(appraisal, {**values, "mr_td": value}) == []


@pytest.mark.parametrize(
    "name", ["rtmr_3", "mr_seam", "mr_config_id", "mr_owner", "xfam", "td_attributes", "mrsigner_seam"]
)
def test_an_optional_register_must_match_once_it_has_a_value(attest: Attest, name: str) -> None:
    appraisal = attest("tdx")
    values = _values(appraisal, *TDX_REQUIRED, name)
    assert _failing(appraisal, values) == []
    assert _failing(appraisal, {**values, name: ["ab"]}) == [f"reference.tdx.{name}"]


def test_a_register_that_the_evidence_lacks_does_not_match(attest: Attest) -> None:
    appraisal = attest("tdx")
    assert "mr_service_td" not in appraisal.evidence.measurements
    values = {**_values(appraisal, *TDX_REQUIRED), "mr_service_td": ["00" * 48]}
    assert _failing(appraisal, values) == ["reference.tdx.mr_service_td"]


def test_rtmr_3_alone_pins_nothing(attest: Attest) -> None:
    """Attack A27."""
    appraisal = attest("tdx")
    assert _failing(appraisal, _values(appraisal, "rtmr_3")) == [
        f"reference.tdx.{name}" for name in TDX_REQUIRED
    ]


def test_an_enclave_is_known_by_itself_or_by_signer_product_and_version(attest: Attest) -> None:
    appraisal = attest("sgx")
    assert _failing(appraisal, _values(appraisal, "mr_enclave")) == []
    by_signer = {**_values(appraisal, "mr_signer", "isv_prod_id"), "isv_svn": 0}
    assert _failing(appraisal, by_signer) == []
    for name in by_signer:
        fewer = {key: value for key, value in by_signer.items() if key != name}
        expected = ["reference.sgx.mr_enclave"] if name == "mr_signer" else [f"reference.sgx.{name}"]
        assert _failing(appraisal, fewer) == expected


def test_with_an_enclave_pinned_the_signer_alone_does_not_do(attest: Attest) -> None:
    appraisal = attest("sgx")
    values = {**_values(appraisal, "mr_signer", "isv_prod_id"), "isv_svn": 0, "mr_enclave": ["00" * 32]}
    assert _failing(appraisal, values) == ["reference.sgx.mr_enclave"]


@pytest.mark.parametrize(
    ("minimum", "holds"),
    [
        (0, True),
        ("0", True),
        ([0], True),
        ([1], False),
        ("1", False),
        ([0, 1], False),
        ("x", False),
        ("-1", False),
        (True, False),
        ([], False),
        ("²", False),
        ("9" * 5000, False),
    ],
)
def test_the_svn_is_a_minimum_and_one_number(attest: Attest, minimum: Any, holds: bool) -> None:  # noqa: FBT001
    appraisal = attest("sgx")
    values = {**_values(appraisal, "mr_signer", "isv_prod_id"), "isv_svn": minimum}
    assert _failing(appraisal, values) == ([] if holds else ["reference.sgx.isv_svn"])


def test_evidence_of_a_tee_without_rules_is_denied(at: datetime) -> None:
    class Other:
        tee = "other"
        raw = report_data = b""
        debug = False
        measurements: Mapping[str, str] = {}

    claims = Claims("other", b"", {}, debug=False)
    appraisal = Appraisal(Other(), at, (), claims)
    with pytest.raises(EvidenceError, match="no verifier"):
        _failing(appraisal, {"mr_td": ["aa"]})


def test_long_lists_are_shortened_for_the_reader_and_looked_up_at_once(attest: Attest) -> None:
    appraisal = attest("tdx")
    values = _values(appraisal, *TDX_REQUIRED)
    many = [f"{n:096x}" for n in range(100_000)]
    index = index_reference_values({**values, "mr_td": many})
    check = _by_name(check_reference_values(appraisal, index))["mr_td"]
    assert check.result is Result.FAIL
    assert check.expected.endswith("or one of 99997 more")
    assert len(check.expected) < 200
    started = time.perf_counter()
    for _ in range(100):
        check_reference_values(appraisal, index)
    assert time.perf_counter() - started < 2
    assert _failing(appraisal, index_reference_values({**values, "mr_td": [*many, *values["mr_td"]]})) == []


def test_an_index_holds_what_the_values_hold() -> None:
    index = index_reference_values({"a": ["AB", 3], "b": None, "c": "x"})
    assert set(index) == {"a", "c"}
    assert "ab" in index["a"]
    assert "3" in index["a"]
    assert Expected.of(index["a"]) is index["a"]
