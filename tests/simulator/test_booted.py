# SPDX-License-Identifier: Apache-2.0
"""A simulated TD booted from real files: what an owner computes of the files is what it attests, and one changed byte is refused."""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Any

import pytest

import eaa
from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.cli.sim import sim
from eaa.eventlog import check_event_log, parse_event_log
from eaa.rats import ConfigurationError, InputError
from eaa.simulator import ChipMaker, SimulatedAttester
from eaa.tee.registry import kind_of

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

REGISTERS = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")


@pytest.fixture
def settings(at: datetime, tmp_path: Path, boot_files: Path) -> dict[str, Any]:
    ChipMaker.load_or_create(tmp_path / "simulator", at)
    return {
        "vendor": tmp_path,
        "firmware": boot_files / "OVMF.fd",
        "kernel": boot_files / "vmlinuz",
        "initrd": boot_files / "initrd.img",
        "cmdline": "console=ttyS0",
        "memory": "1G",
    }


async def appraise(settings: dict[str, Any], at: datetime) -> eaa.Appraisal:
    """What the production path makes of the evidence JSON that the attester sends."""
    attester = SimulatedAttester(settings)
    maker = ChipMaker.load(settings["vendor"])
    evidence = kind_of("tdx").from_kbs(await attester.collect(b"challenge"))
    return eaa.Verifier([maker.trust_anchor()]).verify(
        evidence, maker.collateral("tdx", at), at=at, report_data=b"challenge"
    )


def expected(settings: dict[str, Any], capsys: pytest.CaptureFixture[str], tmp_path: Path) -> dict[str, str]:
    """What ``eaa measure tdx`` says of the same files, with the simulated machine's ACPI tables."""
    assert run(sim, "eaa sim", ["acpi", str(tmp_path / "acpi")]) == 0
    capsys.readouterr()
    words = [f"--{name}={settings[name]}" for name in ("firmware", "kernel", "initrd", "cmdline", "memory")]
    assert run(measure, "eaa measure", ["tdx", *words, f"--acpi={tmp_path / 'acpi'}", "--json"]) == 0
    values: dict[str, str] = json.loads(capsys.readouterr().out)
    return values


@pytest.mark.anyio
async def test_it_attests_what_the_owner_computes(
    settings: dict[str, Any], at: datetime, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    values = expected(settings, capsys, tmp_path)
    appraisal = await appraise(settings, at)
    claims = appraisal.accept()
    assert {name: claims.measurements[name] for name in REGISTERS} == values
    replayed = [check for check in appraisal.checks if check.id.startswith("eventlog.")]
    assert replayed
    assert not any(check.blocks for check in replayed)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("name", "register"),
    [
        ("firmware", "mr_td"),
        ("kernel", "rtmr_1"),
        ("initrd", "rtmr_2"),
        ("cmdline", "rtmr_2"),
        ("memory", "rtmr_0"),
    ],
)
async def test_one_changed_input_changes_its_register(
    settings: dict[str, Any], at: datetime, name: str, register: str
) -> None:
    before = (await appraise(settings, at)).accept().measurements
    if name == "cmdline":
        settings[name] = "console=ttyS1"
    elif name == "memory":
        settings[name] = "2G"
    else:
        content = bytearray(settings[name].read_bytes())
        content[0x2000 if name == "firmware" else -1] ^= 1
        settings[name].write_bytes(content)
    after = (await appraise(settings, at)).accept().measurements
    assert [each for each in REGISTERS if before[each] != after[each]] == [register]


@pytest.mark.anyio
async def test_its_log_is_held_to_its_registers(settings: dict[str, Any], at: datetime) -> None:
    appraisal = await appraise(settings | {"rtmr_1": "ab" * 48}, at)
    assert any(check.id == "eventlog.replay.rtmr_1" and check.blocks for check in appraisal.checks)


def test_the_command_writes_quote_log_and_evidence(settings: dict[str, Any], tmp_path: Path) -> None:
    words = [f"--{name}={settings[name]}" for name in ("firmware", "kernel", "initrd", "cmdline", "memory")]
    out = tmp_path / "case"
    assert run(sim, "eaa sim", ["tdx", "--report-data", "00ff", "--out", str(out), *words]) == 0
    log = (out / "event_log.bin").read_bytes()
    evidence = json.loads((out / "evidence.json").read_bytes())
    assert b64decode(evidence["cc_eventlog"], validate=True) == log
    measurements = kind_of("tdx").from_kbs(evidence).measurements
    registers = {name: bytes.fromhex(measurements[name]) for name in REGISTERS[1:]}
    assert not any(check.blocks for check in check_event_log(parse_event_log(log), registers, "sha384"))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"kernel": None}, "firmware and kernel"),
        ({"tee": "sgx"}, "only a simulated TD"),
        ({"memory": "two"}, "no amount of memory"),
        ({"initrd": "/nonexistent/initrd"}, "cannot read"),
        ({"acpi": "/nonexistent/acpi"}, "cannot read"),
        ({"cmdline": "ü"}, "ASCII"),
    ],
)
def test_what_cannot_be_booted_is_refused(
    settings: dict[str, Any], changed: dict[str, Any], reason: str
) -> None:
    given = {name: value for name, value in (settings | changed).items() if value is not None}
    with pytest.raises(ConfigurationError, match=reason) as refused:
        SimulatedAttester(given)
    assert refused.value.hint


def test_a_firmware_that_is_none_is_refused(settings: dict[str, Any]) -> None:
    settings["firmware"] = settings["initrd"]
    with pytest.raises(InputError):
        SimulatedAttester(settings)
