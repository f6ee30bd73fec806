# SPDX-License-Identifier: Apache-2.0
"""A TD's event log: believed only as far as it replays to the registers of a genuine quote (attacks A26, B9)."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import replace
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from eaa.eventlog import parse_event_log
from eaa.rats import EvidenceError
from eaa.tee.dcap.collateral_files import endorsements_from_json
from eaa.tee.registry import kind_of
from eaa.tee.tdx.evidence import TdxQuote, parse_tdx_quote
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.rats import Appraisal, Endorsements
    from eaa.simulator import ChipMaker

TDX = kind_of("tdx")


@pytest.fixture(scope="module")
def real(vectors: Path) -> tuple[dict[str, bytes], Endorsements, datetime]:
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    vector = next(each for each in listed if each["id"] == "tdx-cdai-live-ccel")
    files = {role: (vectors / entry["path"]).read_bytes() for role, entry in vector["files"].items()}
    collateral = endorsements_from_json(files["collateral_assembled"])
    return files, collateral, datetime.fromisoformat(vector["verify_at"])


def sent(quote: bytes, log: Any) -> dict[str, Any]:
    return {"quote": b64encode(quote).decode(), "cc_eventlog": log}


def judge(real: tuple[dict[str, bytes], Endorsements, datetime], log: bytes) -> Appraisal:
    files, collateral, at = real
    evidence = TDX.from_kbs(sent(files["quote"], b64encode(log).decode()))
    return Verifier().verify(evidence, collateral, at=at, report_data=evidence.report_data)


def failing(appraisal: Appraisal) -> set[str]:
    return {check.id for check in appraisal.failing}


def test_a_real_log_replays_and_its_events_are_claims(
    real: tuple[dict[str, bytes], Endorsements, datetime],
) -> None:
    appraisal = judge(real, real[0]["event_log"])
    assert appraisal.accepted
    claims = TDX.claims(appraisal).claims
    assert len(claims["uefi_event_logs"]) == len(parse_event_log(real[0]["event_log"]).events)


def test_the_log_of_another_boot_is_refused_by_register(
    real: tuple[dict[str, bytes], Endorsements, datetime],
) -> None:
    appraisal = judge(real, real[0]["event_log_other_boot"])
    assert failing(appraisal) == {"eventlog.replay.rtmr_2"}
    assert "uefi_event_logs" not in TDX.claims(appraisal).claims


def test_a_malformed_log_is_refused(real: tuple[dict[str, bytes], Endorsements, datetime]) -> None:
    appraisal = judge(real, b"not a log")
    assert failing(appraisal) == {"eventlog.content"}
    assert "uefi_event_logs" not in TDX.claims(appraisal).claims


def test_no_log_is_read_before_the_quote_is_genuine(
    real: tuple[dict[str, bytes], Endorsements, datetime], monkeypatch: pytest.MonkeyPatch
) -> None:
    files, collateral, at = real
    monkeypatch.setattr("eaa.tee.tdx.verify.parse_event_log", lambda _: pytest.fail("the log was read"))
    altered = bytearray(files["quote"])
    altered[200] ^= 1
    quote = replace(parse_tdx_quote(bytes(altered)), event_log=files["event_log"])
    appraisal = Verifier().verify(quote, collateral, at=at, report_data=quote.report_data)
    assert {"dcap.quote.signature", "eventlog.content"} <= failing(appraisal)


def test_evidence_without_a_log_has_no_checks_of_one(maker: ChipMaker, at: datetime) -> None:
    for log in (None, ""):
        evidence = TDX.from_kbs(sent(maker.machine().quote_tdx(b"x"), log))
        assert isinstance(evidence, TdxQuote)
        appraisal = Verifier([maker.trust_anchor()]).verify(
            evidence, maker.collateral("tdx", at), at=at, report_data=b"x"
        )
        assert appraisal.accepted
        assert not [check for check in appraisal.checks if check.id.startswith("eventlog.")]
        assert TDX.claims(appraisal).claims["uefi_event_logs"] == []


@pytest.mark.parametrize("log", [7, "?", {"a": 1}])
def test_a_log_that_is_no_base64_is_refused(maker: ChipMaker, log: object) -> None:
    with pytest.raises(EvidenceError) as caught:
        TDX.from_kbs(sent(maker.machine().quote_tdx(b"x"), log))
    assert caught.value.check == "evidence.cc_eventlog"
