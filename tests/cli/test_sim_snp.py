# SPDX-License-Identifier: Apache-2.0
"""``eaa sim snp`` from the outside."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509

from eaa.cli._run import run
from eaa.cli.sim import sim
from eaa.rats import Appraisal, TrustAnchor
from eaa.simulator.snp_faults import SNP_FAULTS
from eaa.tee.snp.collateral_files import endorsements_from_snp_json
from eaa.tee.snp.evidence import parse_snp_evidence
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.verify import SnpVerifier

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-03-16T12:00:00Z"


@pytest.fixture(scope="module")
def vendor(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One chip maker for all: its keys take seconds."""
    folder = tmp_path_factory.mktemp("vendor")
    assert eaa_sim("init", folder) == 0
    return folder


def eaa_sim(*args: object) -> int:
    return run(sim, "eaa sim", [str(each) for each in args])


def judged(out: Path, name: str) -> tuple[Appraisal, dict[str, Any]]:
    root = x509.load_der_x509_certificate((out / "root_ca.der").read_bytes())
    expected = json.loads((out / "expected.json").read_bytes())
    verifier = SnpVerifier([TrustAnchor.from_certificate(root, simulated=True)], SnpPolicy())
    appraisal = verifier.verify(
        parse_snp_evidence((out / name).read_bytes()),
        endorsements_from_snp_json((out / "endorsements.json").read_bytes()),
        at=datetime.fromisoformat(expected["at"]),
        report_data=bytes.fromhex(expected["report_data"]),
    )
    return appraisal, expected


@pytest.mark.parametrize("name", ["report.bin", "evidence.json"])
@pytest.mark.parametrize("extra", [(), ("--vlek",), ("--report-version", 3, "--measurement", "ab" * 48)])
def test_a_case_is_written_and_holds(
    tmp_path: Path, vendor: Path, name: str, extra: tuple[object, ...]
) -> None:
    args = ("--report-data", "00fF", "--out", tmp_path, "--vendor", vendor, "--at", AT)
    assert eaa_sim("snp", *args, *extra) == 0
    appraisal, expected = judged(tmp_path, name)
    claims = appraisal.accept()
    assert expected["accepted"]
    assert expected["product"] == claims.values["product"] == "Genoa"
    assert claims.values["signing_key"] == ("VLEK" if extra == ("--vlek",) else "VCEK")
    assert expected["measurements"].items() <= dict(claims.measurements).items()
    assert (claims.measurements["measurement"] == "ab" * 48) is ("--measurement" in extra)


@pytest.mark.parametrize("fault", ["debug", "revoked-ask", "altered-report"])
def test_faults_are_written_and_noticed(
    tmp_path: Path, vendor: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    args = (
        "--report-data",
        "01",
        "--out",
        tmp_path,
        "--vendor",
        vendor,
        "--at",
        AT,
        "--fault",
        fault,
        "--json",
    )
    assert eaa_sim("snp", *args) == 0
    answer = json.loads(capsys.readouterr().out)
    appraisal, expected = judged(tmp_path, "report.bin")
    assert answer["expected"] == expected
    assert (
        expected["failed_checks"]
        == [check.id for check in appraisal.failing]
        == list(SNP_FAULTS[fault].checks)
    )


def test_it_says_what_to_try(tmp_path: Path, vendor: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("snp", "--report-data", "01", "--out", tmp_path, "--vendor", vendor) == 0
    shown = capsys.readouterr().out
    assert "expected: accepted\n" in shown
    assert (
        f"try: eaa verify {tmp_path}/report.bin --tee snp --endorsements {tmp_path}/endorsements.json"
        in shown
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("--fault", "nope"), "no fault of SNP is named nope"),
        (("--fault", "vlek-as-vcek"), "VLEK only"),
        (("--report-version", "6"), "not in the range"),
        (("--product", "rome"), "rome"),
        (("--measurement", "00"), "1 bytes of hex where 48"),
    ],
)
def test_bad_usage_is_said_clearly_and_writes_no_case(
    tmp_path: Path, vendor: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert eaa_sim("snp", *args, "--report-data", "01", "--out", tmp_path / "case", "--vendor", vendor) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "case").exists()


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("faults", "--tee", "snp", "--json") == 0
    assert [each["name"] for each in json.loads(capsys.readouterr().out)] == list(SNP_FAULTS)
    assert eaa_sim("faults", "--tee", "snp") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in SNP_FAULTS)


def test_help_shows_examples(capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("snp", "--help") == 0
    assert "    eaa sim snp --report-data" in capsys.readouterr().out
