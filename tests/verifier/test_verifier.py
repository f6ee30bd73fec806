# SPDX-License-Identifier: Apache-2.0
"""The Verifier: what it remembers never outlives what it rests on, and it refuses to verify without a binding."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING

import pytest

from eaa.rats import Endorsements, EvidenceError, EvidenceRejected, InputError, Result
from eaa.simulator import ChipMaker, mint
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.registry import parse_evidence
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from eaa.rats import Appraisal, Evidence
    from eaa.simulator import Minted

NOW = datetime(2026, 3, 16, 12, tzinfo=UTC)
CHALLENGE = b"challenge"


@pytest.fixture(scope="module")
def own_maker() -> ChipMaker:
    return ChipMaker.create(NOW)


def quote_of(case: Minted) -> Evidence:
    return parse_evidence(case.quote, tee=case.tee)


def judge(verifier: Verifier, case: Minted, endorsements: Endorsements | None = None) -> Appraisal:
    given = case.endorsements if endorsements is None else endorsements
    return verifier.verify(quote_of(case), given, at=NOW, report_data=CHALLENGE)


def failing(appraisal: Appraisal) -> set[str]:
    return {check.id for check in appraisal.failing}


@pytest.mark.parametrize("tee", ["sgx", "tdx"])
def test_a_warm_verdict_equals_a_cold_one(own_maker: ChipMaker, tee: str) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    for name in ("stale-tcb", "altered-report", "wrong-qe", "expired-pck"):
        case = mint(own_maker, tee, CHALLENGE, at=NOW, faults=[name])
        first, second = judge(verifier, case), judge(verifier, case)
        assert first.checks == second.checks == judge(Verifier([own_maker.trust_anchor()]), case).checks


def test_a_newer_revocation_list_voids_what_is_remembered() -> None:
    maker = ChipMaker.create(NOW)
    verifier = Verifier([maker.trust_anchor()])
    machine = maker.machine("soon-revoked")
    quote = parse_evidence(machine.quote_tdx(CHALLENGE), tee="tdx")
    before = maker.collateral("tdx", NOW)
    assert verifier.verify(quote, before, at=NOW, report_data=CHALLENGE).accepted
    maker.revoke(machine)
    after = maker.collateral("tdx", NOW)
    appraisal = verifier.verify(quote, after, at=NOW, report_data=CHALLENGE)
    assert failing(appraisal) == {"dcap.pck.revocation"}
    assert verifier.verify(quote, before, at=NOW, report_data=CHALLENGE).accepted


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("altered-tcb-info", "dcap.tcb-info.signature"),
        ("altered-qe-identity", "dcap.qe-identity.signature"),
        ("wrong-fmspc", "dcap.tcb-info.fmspc"),
        ("revoked-intermediate", "dcap.pck.ca-revocation"),
        ("stale-crl", "dcap.crl.pck-dates"),
    ],
)
def test_other_collateral_is_another_key(own_maker: ChipMaker, fault: str, check: str) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    good = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    assert judge(verifier, good).accepted
    bad = mint(own_maker, "tdx", CHALLENGE, at=NOW, faults=[fault])
    assert check in failing(judge(verifier, good, bad.endorsements))
    assert judge(verifier, good).accepted


def test_a_verifier_with_another_root_remembers_nothing_of_the_first(own_maker: ChipMaker) -> None:
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    assert judge(Verifier([own_maker.trust_anchor()]), case).accepted
    for anchors in ([], [ChipMaker.create(NOW).trust_anchor()]):
        assert "dcap.pck.chain" in failing(judge(Verifier(anchors), case))


def test_time_is_judged_anew(own_maker: ChipMaker) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    quote = quote_of(case)
    for days, dates in ((0, False), (400, True), (-400, True), (0, False)):
        appraisal = verifier.verify(
            quote, case.endorsements, at=NOW + timedelta(days=days), report_data=CHALLENGE
        )
        assert ("dcap.tcb-info.dates" in failing(appraisal)) is dates


def test_the_binding_is_judged_anew(own_maker: ChipMaker) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    assert judge(verifier, case).accepted
    other = verifier.verify(quote_of(case), case.endorsements, at=NOW, report_data=b"other")
    assert failing(other) == {"binding.report-data"}
    longer = verifier.verify(quote_of(case), case.endorsements, at=NOW, report_data=CHALLENGE + b"\0\1")
    assert failing(longer) == {"binding.report-data"}


def test_an_empty_or_long_expectation_is_refused(own_maker: ChipMaker) -> None:
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    for expected in (b"", bytes(65)):
        with pytest.raises(InputError, match="report data"):
            Verifier().verify(quote_of(case), case.endorsements, at=NOW, report_data=expected)


def test_a_time_without_zone_is_refused(own_maker: ChipMaker) -> None:
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW)
    for at in (NOW.replace(tzinfo=None), NOW.astimezone(timezone(timedelta(hours=1)))):
        with pytest.raises(InputError, match="UTC"):
            Verifier().verify(quote_of(case), case.endorsements, at=at, report_data=CHALLENGE)


def test_many_threads_share_one_verifier(own_maker: ChipMaker) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    cases = [
        mint(own_maker, tee, CHALLENGE, at=NOW, faults=faults, machine=f"machine-{n % 5}")
        for n, (tee, faults) in enumerate(
            [("tdx", []), ("sgx", []), ("tdx", ["debug"]), ("sgx", ["wrong-qe"])] * 10
        )
    ]
    expected = [judge(Verifier([own_maker.trust_anchor()]), case).checks for case in cases]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda case: judge(verifier, case).checks, cases * 4))
    assert found == expected * 4


def test_missing_collateral_leaves_the_verdict_open(own_maker: ChipMaker) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    case = mint(own_maker, "sgx", CHALLENGE, at=NOW)
    assert judge(verifier, case, Endorsements()).undecided
    for item in case.endorsements.items:
        partial = Endorsements(tuple(each for each in case.endorsements.items if each is not item))
        appraisal = judge(verifier, case, partial)
        assert appraisal.undecided, item.kind
        with pytest.raises(EvidenceRejected):
            appraisal.accept()


def test_the_fitting_statement_is_chosen_among_many(own_maker: ChipMaker) -> None:
    verifier = Verifier([own_maker.trust_anchor()])
    both = Endorsements.merged(
        mint(own_maker, tee, CHALLENGE, at=NOW, ca=ca).endorsements
        for tee, ca in (("sgx", "processor"), ("sgx", "platform"), ("tdx", "platform"))
    )
    for tee, ca in (("sgx", "processor"), ("sgx", "platform"), ("tdx", "platform")):
        case = mint(own_maker, tee, CHALLENGE, at=NOW, ca=ca)
        assert judge(verifier, case, both).accepted, (tee, ca)


def test_an_owner_may_accept_more_but_only_by_name(own_maker: ChipMaker) -> None:
    anchors = [own_maker.trust_anchor()]
    stale = mint(own_maker, "tdx", CHALLENGE, at=NOW, faults=["stale-tcb"])
    assert failing(judge(Verifier(anchors), stale)) == {"dcap.tcb.status"}
    lenient = AcceptancePolicy(tcb_statuses=frozenset({"UpToDate", "OutOfDate"}))
    assert judge(Verifier(anchors, lenient), stale).accepted
    case = mint(own_maker, "tdx", CHALLENGE, at=NOW, faults=["service-td"])
    assert failing(judge(Verifier(anchors), case)) == {"tdx.td.service-td"}
    allowed = replace(lenient, service_tds=frozenset({bytes([0xAA]) * 48}))
    assert judge(Verifier(anchors, allowed), case).accepted
    assert failing(
        judge(Verifier(anchors, AcceptancePolicy(minimum_tcb_evaluation_number=10_000)), stale)
    ) == {
        "dcap.tcb.status",
        "dcap.tcb.evaluation-number",
    }


def test_debug_is_never_accepted(own_maker: ChipMaker) -> None:
    everything = AcceptancePolicy(
        tcb_statuses=frozenset({"UpToDate", "OutOfDate", "SWHardeningNeeded"}),
        allow_migratable=True,
        require_sept_ve_disable=False,
    )
    for tee in ("sgx", "tdx"):
        case = mint(own_maker, tee, CHALLENGE, at=NOW, faults=["debug"])
        appraisal = judge(Verifier([own_maker.trust_anchor()], everything), case)
        assert failing(appraisal) == {f"{'sgx.enclave' if tee == 'sgx' else 'tdx.td'}.debug"}


def test_every_check_is_self_explaining(own_maker: ChipMaker) -> None:
    for faults in ([], ["wrong-root"], ["unknown-tcb"], ["missing-crl"]):
        appraisal = judge(
            Verifier([own_maker.trust_anchor()]), mint(own_maker, "tdx", CHALLENGE, at=NOW, faults=faults)
        )
        assert len({check.id for check in appraisal.checks}) > 15
        for check in appraisal.checks:
            document = check.to_json()
            assert document["title"]
            assert document["source"]
            assert check.result is Result.NOT_APPLICABLE or document["expected"], check.id
            assert document["found"], check.id
            assert bool(document["remedy"]) is (check.blocks or check.result is Result.WARN)


def test_evidence_of_an_unknown_kind_is_refused() -> None:
    class Strange:
        tee = "strange"

    with pytest.raises(EvidenceError, match="no verifier"):
        Verifier().verify(Strange(), Endorsements(), at=NOW, report_data=b"x")  # type: ignore[arg-type]
