# SPDX-License-Identifier: Apache-2.0
"""`eaa verify --tee tpm`: only the owner can say which attestation keys are to be believed."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import load_der_x509_crl, load_pem_x509_certificate

from eaa.cli._acceptance import Acceptance
from eaa.cli._run import run
from eaa.cli.main import cli
from eaa.simulator.tpm import SoftwareTpm, TpmMaker
from eaa.tee.tpm.enrolment import EnrolledAk, begin_enrolment

if TYPE_CHECKING:
    from pathlib import Path

AT = datetime(2026, 3, 16, 12, tzinfo=UTC)
EK = "2.23.133.8.1"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Evidence of a machine, its enrolment by credential activation, and the root behind that."""
    tpm, maker = SoftwareTpm(b"machine"), TpmMaker(b"maker", AT)
    (tmp_path / "evidence.json").write_bytes(tpm.evidence(b"\1\2"))
    enrolment = begin_enrolment(
        tpm.ak_area,
        maker.certify(tpm.ek, EK),
        maker.issuers,
        anchors=(maker.anchor,),
        at=AT,
        secret=bytes(range(32)),
    )
    record = enrolment.complete(tpm.activate(enrolment.credential), reset_count=7)
    (tmp_path / "ak.json").write_bytes(record.to_endorsement().content)
    (tmp_path / "root.pem").write_bytes(maker.root.public_bytes(Encoding.PEM))
    (tmp_path / "ak.der").write_bytes(tpm.ak_area.key)
    (tmp_path / "other.der").write_bytes(SoftwareTpm(b"another machine").ak_area.key)
    return tmp_path


def verify(folder: Path, *options: str, command: str = "verify") -> int:
    files = [str(folder / each) if each.endswith((".json", ".pem", ".der")) else each for each in options]
    bound = ["--report-data", "0102"] if command == "verify" else []
    subject = [command, str(folder / "evidence.json"), "--tee", "tpm", "--at", AT.isoformat(), *bound]
    return run(cli, "eaa", [*subject, *files])


def checks(said: str) -> dict[str, str]:
    return {each["id"]: each["result"] for each in json.loads(said)["checks"]}


@pytest.mark.parametrize("file", ["ak.json", "ak.der"])
def test_an_enrolled_key_is_believed(folder: Path, capsys: pytest.CaptureFixture[str], file: str) -> None:
    """The record of an enrolment needs its maker's root; a bare key is the owner's own word."""
    root = ("--tpm-root", "root.pem") if file == "ak.json" else ()
    assert verify(folder, "--enrolled", file, *root, "--json") == 0
    made = checks(capsys.readouterr().out)
    assert made["tpm.ak.anchored"] == "pass"
    assert made["tpm.certificate.chain"] == ("pass" if root else "not-applicable")
    assert verify(folder, "--enrolled", "other.der", "--enrolled", file, *root) == 0


def test_a_key_that_nobody_enrolled_is_not(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without any enrolment nobody can tell; with another machine's the key is a stranger's; without the root the record is idle."""
    assert verify(folder, "--json") == 3
    assert checks(capsys.readouterr().out)["tpm.ak.anchored"] == "not-made"
    assert verify(folder, "--enrolled", "other.der", "--json") == 1
    assert checks(capsys.readouterr().out)["tpm.ak.anchored"] == "fail"
    assert verify(folder, "--enrolled", "ak.json", "--json") == 1
    assert checks(capsys.readouterr().out)["tpm.certificate.chain"] == "fail"


@pytest.mark.parametrize("pem", [False, True])
def test_revocation_lists_that_certificates_name_are_looked_at(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    *,
    pem: bool,
) -> None:
    """Without the list that an endorsement key's certificate names nobody can tell; on it, the machine is refused."""
    tpm, maker = SoftwareTpm(b"machine"), TpmMaker(b"maker", AT)
    certificate = maker.certify(tpm.ek, EK, distribution_point="http://maker.invalid/crl")
    der = load_pem_x509_certificate(certificate).public_bytes(Encoding.DER)
    record = replace(EnrolledAk.of_area(tpm.ak_area), ek_certificate=der, ek_issuers=maker.issuers)
    (tmp_path / "evidence.json").write_bytes(tpm.evidence(b"\1\2"))
    (tmp_path / "ak.json").write_bytes(record.to_endorsement().content)
    (tmp_path / "root.pem").write_bytes(maker.root.public_bytes(Encoding.PEM))
    lists = {"clean": maker.revocation_list(), "dirty": maker.revocation_list((certificate,))}
    for name, crl in lists.items():
        (tmp_path / f"{name}.der").write_bytes(
            load_der_x509_crl(crl).public_bytes(Encoding.PEM) if pem else crl
        )
    enrolled = ("--enrolled", "ak.json", "--tpm-root", "root.pem")
    assert verify(tmp_path, *enrolled) == 3
    assert verify(tmp_path, *enrolled, "--tpm-crl", "clean.der") == 0
    capsys.readouterr()
    assert verify(tmp_path, *enrolled, "--tpm-crl", "dirty.der", "--json") == 1
    assert checks(capsys.readouterr().out)["tpm.certificate.revocation"] == "fail"
    table: dict[str, Any] = {"tpm": {"revocation_lists": [str(tmp_path / "clean.der")]}}
    (listed,) = Acceptance.model_validate(table).enrolments().items
    assert (listed.kind, listed.content) == ("tpm_crl", lists["clean"])


def test_explain_knows_them_too(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`eaa explain` takes the same options and gives the same verdict."""
    enrolled = ("--enrolled", "ak.json", "--tpm-root", "root.pem")
    assert verify(folder, *enrolled, "--json", command="explain") == 0
    assert json.loads(capsys.readouterr().out)["accepted"] is True
    assert verify(folder, command="explain") == 0
    assert "tpm.ak.anchored" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--enrolled", "root.pem"), "enrolled attestation key cannot be read"),
        (("--tpm-root", "ak.json"), "no certificate"),
        (("--enrolled", "missing.json"), "does not exist"),
        (("--tpm-crl", "ak.der"), "no revocation list"),
        (("--tpm-crl", "root.pem"), "no revocation list"),
    ],
)
def test_files_that_are_none_are_bad_usage(
    folder: Path, capsys: pytest.CaptureFixture[str], options: tuple[str, ...], message: str
) -> None:
    """A file that cannot be used ends the command before anything is decided."""
    assert verify(folder, *options) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_the_configuration_reads_the_same_files(folder: Path) -> None:
    """`[accept.tpm] enrolled` of Verdictd holds as much as `--enrolled`: the chain of the endorsement key's certificate, too."""
    table: dict[str, Any] = {
        "tpm": {"enrolled": [str(folder / "ak.json")], "roots": [str(folder / "root.pem")]}
    }
    (record,) = Acceptance.model_validate(table).enrolments().items
    kept = EnrolledAk.parse((folder / "ak.json").read_bytes())
    assert record == kept.to_endorsement()
    assert record.issuer_chain.count(b"BEGIN CERTIFICATE") == 2
    assert replace(kept, ek_issuers=b"").to_endorsement() != record
