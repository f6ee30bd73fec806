# SPDX-License-Identifier: Apache-2.0
"""The Attestation Agent's driver as a guest with SEV-SNP."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.rats import ConfigurationError, Endorsements
from eaa.simulator import ChipMaker, SimulatedAttester
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.snp_machine import measure_snp
from eaa.tee.registry import kind_of
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@pytest.fixture(scope="session")
def folder(at: datetime, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One chip maker for all tests, whose RSA keys take a second each."""
    folder = tmp_path_factory.mktemp("snp")
    ChipMaker.load_or_create(folder / "simulator", at)
    return folder


async def appraise(settings: dict[str, Any], at: datetime) -> eaa.Appraisal:
    """Verify what the attester sends against the root and its revocation list, as a Verdictd with a simulator has them."""
    attester = SimulatedAttester({"tee": "snp", **settings})
    maker = AmdChipMaker.load(settings["vendor"])
    evidence = kind_of(attester.tee).from_kbs(await attester.collect(b"challenge"))
    verifier = eaa.Verifier([maker.trust_anchor(Product.GENOA)])
    collateral = Endorsements((maker.revocation_list(Product.GENOA, at),))
    return verifier.verify(evidence, collateral, at=at, report_data=b"challenge")


@pytest.mark.anyio
async def test_evidence_has_the_form_of_the_coco_guest_components(folder: Path) -> None:
    evidence = await SimulatedAttester({"vendor": folder, "tee": "snp"}).collect(b"x")
    assert set(evidence) == {"attestation_report", "cert_chain"}
    assert evidence["attestation_report"]["report_data"] == list(b"x".ljust(64, b"\0"))
    assert [each["cert_type"] for each in evidence["cert_chain"]] == ["VCEK", "ASK"]


@pytest.mark.anyio
@pytest.mark.parametrize("version", [None, 2, "3"])
async def test_its_evidence_is_accepted(folder: Path, at: datetime, version: object) -> None:
    settings = {"vendor": str(folder), "image": "web server 1.4"}
    claims = (await appraise(settings | ({} if version is None else {"quote_version": version}), at)).accept()
    assert claims.measurements["measurement"] == measure_snp("web server 1.4")
    assert claims.simulated


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("faults", "check"),
    [
        (["debug"], "snp.policy.debug"),
        ("below-minimum", "snp.tcb.minimum"),
        (["wrong-root"], "snp.vcek.chain"),
        ("debug, altered-report", "snp.report.signature"),
        (["wrong-report-data"], "binding.report-data"),
    ],
)
async def test_its_faults_are_noticed(folder: Path, at: datetime, faults: object, check: str) -> None:
    appraisal = await appraise({"vendor": folder, "faults": faults}, at)
    assert check in {each.id for each in appraisal.failing}


@pytest.mark.anyio
async def test_evidence_carries_what_the_guest_was_launched_with(folder: Path, at: datetime) -> None:
    text = b"version = '0.1.0'\nalgorithm = 'sha256'\n[data]\n"
    (folder / "initdata.toml").write_bytes(text)
    appraisal = await appraise({"vendor": folder, "init_data_file": str(folder / "initdata.toml")}, at)
    assert appraisal.accepted
    assert kind_of("snp").claims(appraisal).init_data == sha256(text).digest()
    given = await appraise({"vendor": folder, "host_data": "ab" * 32}, at)
    assert kind_of("snp").claims(given).init_data == b"\xab" * 32


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"mr_td": "00" * 48}, "snp has no register mr_td"),
        ({"measurement": "00"}, "48 bytes, not 1"),
        ({"quote_version": 6}, "version 2 to 5"),
        ({"faults": ["stale-tcb"]}, "no fault of SNP"),
        ({"faults": ["stale-crl"]}, "in the collateral"),
        ({"faults": ["vlek-as-vcek"]}, "of a VLEK only"),
        ({"faults": ["trailing-bytes"]}, "cannot send such a report"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SimulatedAttester({"vendor": folder, "tee": "snp", **settings})
