# SPDX-License-Identifier: Apache-2.0
"""The Attestation Agent's driver for simulated machines."""

from __future__ import annotations

from base64 import b64decode
from hashlib import sha256
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.rats import ConfigurationError
from eaa.simulator import ChipMaker, SimulatedAttester, measure
from eaa.tee.registry import kind_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path


@pytest.fixture
def folder(at: datetime, tmp_path: Path) -> Path:
    ChipMaker.load_or_create(tmp_path / "simulator", at)
    return tmp_path


async def appraise(
    settings: dict[str, Any], at: datetime, report_data: bytes = b"challenge"
) -> eaa.Appraisal:
    attester = SimulatedAttester(settings)
    maker = ChipMaker.load(settings["vendor"])
    evidence = await attester.collect(report_data)
    quote = eaa.parse_evidence(b64decode(evidence["quote"], validate=True), tee=attester.tee)
    collateral = maker.collateral(attester.tee, at)
    return eaa.Verifier([maker.trust_anchor()]).verify(quote, collateral, at=at, report_data=report_data)


@pytest.mark.anyio
async def test_evidence_has_the_form_of_the_coco_guest_components(folder: Path) -> None:
    tdx = await SimulatedAttester({"vendor": folder}).collect(b"x")
    sgx = await SimulatedAttester({"vendor": str(folder), "tee": "sgx"}).collect(b"x")
    assert set(tdx) == {"cc_eventlog", "quote"}
    assert tdx["cc_eventlog"] is None
    assert set(sgx) == {"quote"}


@pytest.mark.anyio
@pytest.mark.parametrize("tee", ["tdx", "sgx"])
async def test_its_evidence_is_accepted(folder: Path, at: datetime, tee: str) -> None:
    claims = (await appraise({"vendor": folder, "tee": tee, "image": "web server 1.4"}, at)).accept()
    expected = measure("web server 1.4")
    name = "mr_td" if tee == "tdx" else "mr_enclave"
    assert claims.measurements[name] == expected[name]
    assert claims.simulated


@pytest.mark.anyio
async def test_registers_go_before_the_image(folder: Path, at: datetime) -> None:
    settings = {"vendor": folder, "image": "web server 1.4", "mr_td": "AB" * 48, "quote_version": "5"}
    claims = (await appraise(settings, at)).accept()
    assert claims.measurements["mr_td"] == "ab" * 48
    assert claims.measurements["rtmr_1"] == measure("web server 1.4")["rtmr_1"]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("faults", "check"),
    [
        (["debug"], "tdx.td.debug"),
        ("stale-tcb", "dcap.tcb.status"),
        (["revoked-pck"], "dcap.pck.revocation"),
        ("wrong-root", "dcap.pck.chain"),
        ("debug, altered-report", "dcap.quote.signature"),
        (["wrong-report-data"], "binding.report-data"),
    ],
)
async def test_its_faults_are_noticed(folder: Path, at: datetime, faults: object, check: str) -> None:
    appraisal = await appraise({"vendor": folder, "faults": faults}, at)
    assert check in {each.id for each in appraisal.failing}


@pytest.mark.anyio
async def test_two_drivers_are_the_same_machine_by_name(folder: Path) -> None:
    first = await SimulatedAttester({"vendor": folder, "machine": "a"}).collect(b"x")
    again = await SimulatedAttester({"vendor": folder, "machine": "a"}).collect(b"x")
    other = await SimulatedAttester({"vendor": folder, "machine": "b"}).collect(b"x")
    assert first == again != other


@pytest.mark.anyio
async def test_too_much_report_data_is_refused(folder: Path) -> None:
    with pytest.raises(ConfigurationError, match="65 bytes"):
        await SimulatedAttester({"vendor": folder}).collect(bytes(65))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"vendor": None}, "vendor is a NoneType"),
        ({"vendor": ""}, "needs the setting vendor"),
        ({"vendor": "nowhere"}, "no chip maker"),
        ({"tee": "cca"}, "no TEE 'cca'"),
        ({"tee": "cca", "init_data_file": "initdata.toml"}, "no TEE 'cca'"),
        ({"colour": "red"}, "no setting 'colour'"),
        ({"faults": ["nope"]}, "no fault is named nope"),
        ({"faults": 3}, "not a list"),
        ({"faults": [3]}, "not a list"),
        ({"faults": ["stale-crl"]}, "in the collateral"),
        ({"faults": ["relaunch"], "tee": "sgx"}, "for tdx only"),
        ({"faults": ["relaunch"], "quote_version": 4}, "needs 5"),
        ({"mr_td": "xyz"}, "not hex"),
        ({"mr_td": "00"}, "48 bytes, not 1"),
        ({"mr_td": 7}, "mr_td is a int"),
        ({"mr_enclave": "00" * 32}, "no register mr_enclave"),
        ({"measurement": "00" * 48}, "no register measurement"),
        ({"quote_version": "new"}, "quote_version is not a number"),
        ({"quote_version": True}, "quote_version is not a number"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_at_once(
    folder: Path, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        SimulatedAttester({"vendor": folder, **settings})


def test_it_is_found_by_its_entry_point() -> None:
    (found,) = entry_points(group="eaa.attesters", name="simulator")
    assert found.load() is SimulatedAttester


@pytest.mark.anyio
@pytest.mark.parametrize(("tee", "field", "size"), [("tdx", "mr_config_id", 48), ("sgx", "config_id", 64)])
async def test_evidence_carries_what_the_guest_was_launched_with(
    folder: Path, at: datetime, tee: str, field: str, size: int
) -> None:
    text = b"version = '0.1.0'\nalgorithm = 'sha256'\n[data]\n"
    (folder / "initdata.toml").write_bytes(text)
    settings = {"vendor": folder, "tee": tee, "init_data_file": str(folder / "initdata.toml")}
    appraisal = await appraise(settings, at)
    assert appraisal.accepted
    carried = kind_of(tee).claims(appraisal).init_data
    assert carried == sha256(text).digest().ljust(size, b"\0")
    given = await appraise({"vendor": folder, "tee": tee, field: "ab" * size}, at)
    assert kind_of(tee).claims(given).init_data == b"\xab" * size


@pytest.mark.parametrize("text", [None, "", "algorithm = 'md'", "algorithm = 7", "algorithm"])
def test_init_data_that_are_none_are_refused(folder: Path, text: str | None) -> None:
    file = folder / "initdata.toml"
    if text is not None:
        file.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigurationError, match="init-data"):
        SimulatedAttester({"vendor": folder, "init_data_file": file})
