# SPDX-License-Identifier: Apache-2.0
"""``eaa sim`` from the outside."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.cli._run import run
from eaa.cli.main import cli
from eaa.cli.sim import sim
from eaa.simulator import FAULTS, ChipMaker, measure

if TYPE_CHECKING:
    from pathlib import Path

AT = "2026-03-16T12:00:00Z"


def eaa_sim(*args: object) -> int:
    return run(sim, "eaa sim", [str(each) for each in args])


def minted(out: Path, tee: str) -> tuple[eaa.Appraisal, dict[str, Any]]:
    from datetime import datetime

    from cryptography import x509

    from eaa.rats import TrustAnchor

    root = x509.load_der_x509_certificate((out / "root_ca.der").read_bytes())
    expected = json.loads((out / "expected.json").read_bytes())
    evidence = eaa.parse_evidence((out / "quote.bin").read_bytes(), tee=tee)
    verifier = eaa.Verifier([TrustAnchor.from_certificate(root, simulated=True)])
    appraisal = verifier.verify(
        evidence,
        eaa.load_endorsements(out / "collateral.json"),
        at=datetime.fromisoformat(expected["at"]),
        report_data=bytes.fromhex(expected["report_data"]),
    )
    return appraisal, expected


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
@pytest.mark.parametrize("time", [(), ("--at", AT)])
def test_a_case_is_written_and_holds(tmp_path: Path, tee: str, time: tuple[str, ...]) -> None:
    assert eaa_sim(tee, "--report-data", "00fF", "--out", tmp_path, *time) == 0
    appraisal, expected = minted(tmp_path, tee)
    claims = appraisal.accept()
    assert expected["accepted"]
    assert expected["failed_checks"] == expected["faults"] == []
    assert expected["report_data"] == claims.report_data.hex() == "00ff" + "00" * 62
    assert expected["tcb_status"] == claims.tcb_status == "UpToDate"
    assert expected["measurements"].items() <= dict(claims.measurements).items()


@pytest.mark.parametrize(
    ("args", "failed"),
    [
        (("tdx", "--fault", "debug"), ["tdx.td.debug"]),
        (("sgx", "--fault", "debug", "--ca", "processor"), ["sgx.enclave.debug"]),
        (
            ("tdx", "--fault", "revoked-pck", "--fault", "stale-qe"),
            ["dcap.pck.revocation", "dcap.tcb.status"],
        ),
        (("tdx", "--fault", "relaunch", "--quote-version", "5"), ["dcap.tcb.status"]),
        (("sgx", "--fault", "missing-crl"), ["dcap.crl.pck", "dcap.pck.revocation"]),
    ],
)
def test_faults_are_written_and_noticed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], failed: list[str]
) -> None:
    assert eaa_sim(*args, "--report-data", "01", "--out", tmp_path, "--at", AT, "--json") == 0
    answer = json.loads(capsys.readouterr().out)
    appraisal, expected = minted(tmp_path, args[0])
    assert answer["expected"] == expected
    assert expected["failed_checks"] == failed
    assert set(failed) <= {check.id for check in appraisal.failing}
    assert not expected["accepted"]


def test_registers_and_image_are_taken(tmp_path: Path) -> None:
    args = (
        "--image",
        "web server 1.4",
        "--mr-td",
        "aa" * 48,
        "--rtmr",
        "3=" + "bb" * 48,
        "--quote-version",
        "5",
    )
    assert eaa_sim("tdx", "--report-data", "01", "--out", tmp_path, *args) == 0
    _, expected = minted(tmp_path, "tdx")
    image = measure("web server 1.4")
    assert expected["measurements"] == {
        "mr_td": "aa" * 48,
        "rtmr_0": image["rtmr_0"],
        "rtmr_1": image["rtmr_1"],
        "rtmr_2": image["rtmr_2"],
        "rtmr_3": "bb" * 48,
    }


def test_the_same_vendor_stays_the_same(tmp_path: Path) -> None:
    assert eaa_sim("init", tmp_path / "vendor") == 0
    for out in ("one", "two"):
        args = ("--report-data", "01", "--out", tmp_path / out, "--vendor", tmp_path / "vendor", "--at", AT)
        assert eaa_sim("tdx", *args) == 0
    for name in ("quote.bin", "collateral.json", "root_ca.der", "expected.json"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert not (tmp_path / "one" / "vendor").exists()
    assert (tmp_path / "one" / "root_ca.der").read_bytes() == ChipMaker.load(tmp_path / "vendor").root_der


def test_init_says_what_is_there(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("init", tmp_path / "v", "--json") == 0
    assert eaa_sim("init", tmp_path / "v", "--json") == 0
    first, second = capsys.readouterr().out.split("}\n", 1)
    assert json.loads(first + "}") == json.loads(second)
    assert eaa_sim("init", tmp_path / "v") == 0
    assert str(tmp_path / "v") in capsys.readouterr().out


def test_faults_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("faults", "--json") == 0
    listed = json.loads(capsys.readouterr().out)
    assert [each["name"] for each in listed] == list(FAULTS)
    assert listed[0]["failed_checks"] == {"sgx": ["sgx.enclave.debug"], "tdx": ["tdx.td.debug"]}
    assert eaa_sim("faults") == 0
    shown = capsys.readouterr().out
    assert all(name in shown for name in FAULTS)


def test_measurements_are_reference_values(capsys: pytest.CaptureFixture[str]) -> None:
    assert eaa_sim("measure", "--image", "web server 1.4") == 0
    values = json.loads(capsys.readouterr().out)
    assert values["mr_td"] == [measure("web server 1.4")["mr_td"]]
    assert set(values) == {"mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3"}
    assert eaa_sim("measure", "--image", "web server 1.4", "--tee", "sgx") == 0
    assert set(json.loads(capsys.readouterr().out)) == {"mr_enclave", "mr_signer"}


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (("tdx", "--fault", "nope"), "no fault is named nope"),
        (("sgx", "--fault", "stale-module"), "for tdx only"),
        (("tdx", "--rtmr", "5=" + "00" * 48), "not N=HEX"),
        (("tdx", "--rtmr", "1=00"), "1 bytes of hex where 48"),
        (("tdx", "--mr-td", "zz"), "not hex"),
        (("tdx", "--vendor", "nowhere"), "no chip maker"),
        (("tdx", "--at", "9999-12-31T23:59:59Z"), "does not know the time"),
        (("tdx", "--quote-version", "4", "--fault", "service-td"), "needs 5"),
    ],
)
def test_bad_usage_is_said_clearly_and_writes_no_case(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], message: str
) -> None:
    assert eaa_sim(*args, "--report-data", "01", "--out", tmp_path / "case") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "case" / "quote.bin").exists()


def test_a_folder_that_cannot_be_written_is_said_clearly(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "quote.bin").mkdir()
    assert eaa_sim("tdx", "--report-data", "01", "--out", tmp_path) == 2
    assert "cannot write" in capsys.readouterr().err


@pytest.mark.parametrize(("fault", "status"), [((), 0), (("--fault", "altered-report"), 1)])
def test_it_says_how_to_verify(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], fault: tuple[str, ...], status: int
) -> None:
    assert eaa_sim("tdx", "--report-data", "01", "--out", tmp_path, *fault) == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("try: ")]
    program, *args = shlex.split(line.removeprefix("try: "))
    assert program == "eaa"
    assert run(cli, program, args) == status


@pytest.mark.parametrize("command", ["", "tdx", "sgx", "faults", "measure", "init"])
def test_help_shows_examples(capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert eaa_sim(*command.split(), "--help") == 0
    assert f"    eaa sim {command}" in capsys.readouterr().out
