# SPDX-License-Identifier: Apache-2.0
"""Each fault against EAA's own verification: it breaks the checks that it promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.rats import ConfigurationError, EvidenceError, EvidenceRejected, Stage
from eaa.simulator import FAULTS, ChipMaker, Minted, mint
from eaa.simulator.faults import combine

if TYPE_CHECKING:
    from datetime import datetime

CASES = [(fault.name, tee) for fault in FAULTS.values() for tee in fault.tees]
UNREADABLE = {"trailing-bytes"}
"""Faults that are refused while the quote is read, before any appraisal."""


@pytest.fixture(scope="module")
def verifier(maker: ChipMaker) -> eaa.Verifier:
    return eaa.Verifier([maker.trust_anchor()])


def judge(verifier: eaa.Verifier, case: Minted) -> eaa.Appraisal:
    evidence = eaa.parse_evidence(case.quote, tee=case.tee)
    return verifier.verify(evidence, case.endorsements, at=case.at, report_data=case.report_data)


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_without_a_fault_everything_holds(
    verifier: eaa.Verifier, maker: ChipMaker, at: datetime, tee: str
) -> None:
    case = mint(maker, tee, b"challenge", at=at)
    claims = judge(verifier, case).accept()
    assert claims.simulated
    assert claims.tcb_status == "UpToDate"
    assert claims.report_data == b"challenge".ljust(64, b"\0")
    expected = case.expected
    assert expected["accepted"]
    assert expected["valid"]
    assert {name: claims.measurements[name] for name in expected["measurements"]} == expected["measurements"]


@pytest.mark.parametrize(("name", "tee"), [case for case in CASES if case[0] not in UNREADABLE])
def test_each_fault_breaks_the_checks_it_names(
    verifier: eaa.Verifier, maker: ChipMaker, at: datetime, name: str, tee: str
) -> None:
    case = mint(maker, tee, b"challenge", at=at, faults=[name])
    expected = case.expected
    appraisal = judge(verifier, case)
    failing = {check.id for check in appraisal.failing}
    assert set(expected["failed_checks"]) <= failing
    assert appraisal.accepted is expected["accepted"]
    assert (not appraisal.failing_at(Stage.AUTHENTICITY)) is expected["valid"]
    if expected["tcb_status"] is not None:
        assert appraisal.unverified.tcb_status == expected["tcb_status"]
        assert sorted(appraisal.unverified.advisory_ids) == expected["advisory_ids"]
    assert appraisal.unverified.debug is expected["debug"]
    if not appraisal.accepted:
        with pytest.raises(EvidenceRejected):
            appraisal.accept()


@pytest.mark.parametrize(("name", "tee"), [case for case in CASES if case[0] in UNREADABLE])
def test_what_is_no_quote_is_refused_before_any_appraisal(
    verifier: eaa.Verifier, maker: ChipMaker, at: datetime, name: str, tee: str
) -> None:
    case = mint(maker, tee, b"challenge", at=at, faults=[name])
    with pytest.raises(EvidenceError) as caught:
        judge(verifier, case)
    assert [caught.value.check] == case.expected["failed_checks"]
    assert not case.expected["valid"]


@pytest.mark.parametrize(("name", "tee"), [case for case in CASES if FAULTS[case[0]].valid])
def test_a_valid_fault_breaks_nothing_else(
    verifier: eaa.Verifier, maker: ChipMaker, at: datetime, name: str, tee: str
) -> None:
    case = mint(maker, tee, b"challenge", at=at, faults=[name])
    assert [check.id for check in judge(verifier, case).failing] == case.expected["failed_checks"]


def test_nobody_trusts_the_simulator_unasked(maker: ChipMaker, at: datetime) -> None:
    appraisal = judge(eaa.Verifier(), mint(maker, "tdx", b"challenge", at=at))
    assert "dcap.pck.chain" in {check.id for check in appraisal.failing}
    assert not appraisal.accepted


def test_a_fault_names_what_it_is_and_where() -> None:
    for fault in FAULTS.values():
        assert fault.machine or fault.quote or fault.collateral, fault.name
        assert fault.summary.endswith(".")
        assert not fault.valid or fault.tcb_status is not None
        assert all(fault.checks_of(tee) for tee in fault.tees) or fault.name == "old-root-issue"


def test_unknown_names_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="no fault is named nope") as caught:
        combine(["debug", "nope"])
    assert "eaa sim faults" in caught.value.hint


def test_a_name_given_twice_counts_once() -> None:
    assert combine(["debug", "debug"]).names == ("debug",)


@pytest.mark.parametrize(
    ("tee", "options", "message"),
    [
        ("sgx", {"faults": ["relaunch"]}, "for tdx only"),
        ("tdx", {"faults": ["relaunch"], "version": 4}, "needs 5"),
        ("tdx", {"version": 3}, "needs 4 or 5"),
        ("sgx", {"version": 6}, "version 3, 4 or 5"),
        ("tdx", {"ca": "processor"}, "no TDX"),
        ("tdx", {"ca": "other"}, "no CA"),
        ("tdx", {"registers": {"mr_td": b"short"}}, "mr_td has 48 bytes, not 5"),
        ("tdx", {"registers": {"mr_enclave": bytes(32)}}, "no register mr_enclave"),
        ("snp", {}, "no TEE 'snp'"),
    ],
)
def test_what_cannot_be_minted_is_refused(
    maker: ChipMaker, at: datetime, tee: str, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mint(maker, tee, b"", at=at, **options)


def test_too_much_report_data_is_refused(maker: ChipMaker, at: datetime) -> None:
    with pytest.raises(ConfigurationError, match="65 bytes"):
        mint(maker, "tdx", bytes(65), at=at)
