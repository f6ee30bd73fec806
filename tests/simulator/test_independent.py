# SPDX-License-Identifier: Apache-2.0
"""The simulator against a verifier that nobody here wrote: PyPI's dcap-qvl."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

import dcap_qvl  # type: ignore[import-untyped] # it ships no types
import pytest

from eaa.simulator import FAULTS, ChipMaker, Minted, mint, to_common_form

if TYPE_CHECKING:
    from datetime import datetime

REPORT_DATA: Final = bytes(range(64))

NOT_ITS_BUSINESS: Final = {
    "wrong-report-data": "it compares no report data",
    "sw-hardening": "it reports the status and leaves the decision to its caller",
    "stale-tcb": "it reports the status and leaves the decision to its caller",
    "stale-module": "it reports the status and leaves the decision to its caller",
    "stale-qe": "it reports the status and leaves the decision to its caller",
    "relaunch": "it reports the status and leaves the decision to its caller",
    "trailing-bytes": "it reads a quote from the front and ignores what follows",
    "old-root-issue": "nothing is wrong: the same key was certified before",
}
"""What dcap-qvl 0.7.0 accepts, and why. Everything else it must refuse."""

REFUSALS: Final = {
    "debug": "Debug mode is enabled",
    "service-td": "Invalid MR service TD",
    "revoked-tcb": "Revoked",
    "unknown-tcb": "No matching TCB level",
    "revoked-pck": "CertRevoked",
    "expired-pck": "CertExpired",
    "altered-pck": "InvalidSignatureForPublicKey",
    "wrong-root": "InvalidCrlSignatureForPublicKey",
    "unknown-module": "No TDX module identity with id TDX_07",
    "old-unknown-module": "TDX module ISVSVN 1 is below",
    "wrong-seam-signer": "TDX module MRSIGNER mismatch",
    "wrong-qe": "QE MRSIGNER mismatch",
    "debug-qe": "Debug mode is enabled",
    "wrong-vendor-id": "Unknown QE vendor ID",
    "altered-report": "report signature is invalid",
    "altered-signature": "report signature is invalid",
    "altered-qe-report": "Signature is invalid for qe_report",
    "altered-qe-binding": "QE report hash mismatch",
    "expired-collateral": "CrlExpired",
    "future-collateral": "issue date is in the future",
    "altered-tcb-info": "Signature is invalid for tcb_info",
    "altered-qe-identity": "Signature is invalid for qe_identity",
    "wrong-fmspc": "Fmspc mismatch",
    "wrong-tee-collateral": "Unsupported QE Identity id",
    "short-components": "component count mismatch",
    "revoked-intermediate": "CertRevoked",
    "revoked-tcb-signer": "CertRevoked",
    "missing-crl": "missing field `pck_crl",
    "stale-crl": "CrlExpired",
    "altered-crl": "InvalidCrlSignatureForPublicKey",
    "wrong-crl": "UnknownRevocationStatus",
}
"""A piece of what it must say, so that each fault is refused for its own reason."""


def judge(case: Minted) -> dcap_qvl.VerifiedReport:
    collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(to_common_form(case.endorsements)))
    return dcap_qvl.verify_with_root_ca(case.quote, collateral, case.root_der, int(case.at.timestamp()))


def cases(names: list[str]) -> list[tuple[str, str]]:
    return [(name, tee) for name in names for tee in FAULTS[name].tees]


@pytest.mark.parametrize(
    ("tee", "version", "ca"),
    [("sgx", 3, "platform"), ("sgx", 3, "processor"), ("tdx", 4, "platform"), ("tdx", 5, "platform")],
)
def test_it_accepts_sound_quotes(maker: ChipMaker, at: datetime, tee: str, version: int, ca: str) -> None:
    verdict = judge(mint(maker, tee, REPORT_DATA, at=at, version=version, ca=ca))
    assert (verdict.status, verdict.advisory_ids) == ("UpToDate", [])


def test_it_accepts_the_body_of_tdx_15(maker: ChipMaker, at: datetime) -> None:
    machine = maker.machine()
    quote = machine.quote_tdx(REPORT_DATA, td15=True)
    sound = mint(maker, "tdx", REPORT_DATA, at=at)
    case = Minted(
        "tdx", quote, sound.endorsements, sound.root_der, sound.trust_anchor, REPORT_DATA, at, sound.faults
    )
    assert judge(case).status == "UpToDate"
    assert len(quote) == len(sound.quote) + 64 + 6


def test_it_reads_the_platform_as_the_machine_states_it(maker: ChipMaker) -> None:
    machine = maker.machine()
    quote = dcap_qvl.parse_quote(machine.quote_tdx(REPORT_DATA))
    pck = quote.pck_extension()
    assert quote.fmspc() == machine.fmspc.upper()
    assert quote.ca() == "platform"
    assert bytes(pck.ppid) == machine.identity.ppid
    assert bytes(pck.cpu_svn) == machine.identity.sgx_svns
    assert bytes(pck.platform_instance_id) == machine.identity.platform_instance_id
    assert pck.pce_svn == machine.identity.pce_svn
    assert bytes(quote.report.report_data) == REPORT_DATA


@pytest.mark.parametrize(("name", "tee"), cases(list(REFUSALS)))
def test_it_refuses_each_fault_for_its_reason(maker: ChipMaker, at: datetime, name: str, tee: str) -> None:
    with pytest.raises(ValueError, match=REFUSALS[name]):
        judge(mint(maker, tee, REPORT_DATA, at=at, faults=[name]))


@pytest.mark.parametrize(("name", "tee"), cases(list(NOT_ITS_BUSINESS)))
def test_it_reports_what_it_leaves_to_its_caller(maker: ChipMaker, at: datetime, name: str, tee: str) -> None:
    case = mint(maker, tee, REPORT_DATA, at=at, faults=[name])
    verdict = judge(case)
    # Where EAA stops at bytes that do not belong, dcap-qvl reads on and finds the platform's true status.
    assert verdict.status == (case.expected["tcb_status"] or "UpToDate")
    assert sorted(verdict.advisory_ids) == case.expected["advisory_ids"]


def test_every_fault_is_held_against_it() -> None:
    assert set(FAULTS) == set(REFUSALS) | set(NOT_ITS_BUSINESS)
    assert not set(REFUSALS) & set(NOT_ITS_BUSINESS)


def test_faults_add_up(maker: ChipMaker, at: datetime) -> None:
    case = mint(
        maker, "tdx", REPORT_DATA, at=at, faults=["stale-tcb", "stale-qe", "sw-hardening", "service-td"]
    )
    with pytest.raises(ValueError, match="Invalid MR service TD"):
        judge(case)
    assert case.expected["failed_checks"] == ["dcap.tcb.status", "tdx.td.service-td"]
    assert case.expected["tcb_status"] == "OutOfDate"


def test_another_root_is_not_accepted(maker: ChipMaker, at: datetime) -> None:
    case = mint(maker, "tdx", REPORT_DATA, at=at)
    other = ChipMaker.create(at)
    collateral = dcap_qvl.QuoteCollateralV3.from_json(json.dumps(to_common_form(case.endorsements)))
    with pytest.raises(ValueError, match="Signature"):
        dcap_qvl.verify_with_root_ca(case.quote, collateral, other.root_der, int(at.timestamp()))
