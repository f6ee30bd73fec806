# SPDX-License-Identifier: Apache-2.0
"""PCRs of a direct boot. That a real guest has them is held by ``make interop-vm``; here are the parts, and values it once quoted."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.eventlog import check_event_log, parse_event_log
from eaa.rats import ConfigurationError, InputError
from eaa.tee.direct_boot import DirectBoot, SetupHeader
from eaa.tee.measured import event_log, inputs_of, replay
from eaa.tee.pe import authenticode_digest
from eaa.tee.tpm.measure import BANKS, measure_tpm
from eaa.tee.uefi import SecureBoot

if TYPE_CHECKING:
    from pathlib import Path

PREDICTED = ["pcr01", "pcr02", "pcr03", "pcr04", "pcr05", "pcr06", "pcr07", "pcr09"]
# Quoted by a guest of Debian's QEMU 7.2 and OVMF 2022.11, whatever the kernel.
QUOTED = {
    "pcr01": "8e9d1fe23131f12d6a523e9c32eb3223d4dc25e14eb5fd60163e7ba8de0f248c",
    "pcr02": "3d458cfe55cc03ea1f443f1562beec8df51c75e14a9fcf9a7234a13f198e7969",
    "pcr05": "a5ceb755d043f32431d63e39f5161464620a3437280494b5850dc1b47cc074e0",
    "pcr07": "65caf8dd1e0ea7a6347b635d2b379c93b9a1351edc2afc3ecda700e534eb3068",
}


def boot(boot_files: Path, **changed: Any) -> DirectBoot:
    kernel, initrd = ((boot_files / name).read_bytes() for name in ("vmlinuz", "initrd.img"))
    parts = {"kernel": kernel, "initrd": initrd, "cmdline": "quiet"} | changed
    return DirectBoot(**parts)


def test_what_no_input_changes_is_what_a_guest_quoted(boot_files: Path) -> None:
    measured = measure_tpm(boot(boot_files))
    assert list(measured.registers) == PREDICTED
    assert {name: measured.registers[name].hex() for name in QUOTED} == QUOTED


def test_pcr_0_is_said_not_to_be_known(boot_files: Path) -> None:
    (reason,) = measure_tpm(boot(boot_files)).unknown
    assert reason.startswith("pcr00: not known without")


@pytest.mark.parametrize("bank", BANKS)
def test_kernel_command_line_and_initial_disk_go_where_the_profile_says(boot_files: Path, bank: str) -> None:
    def digest(content: bytes) -> bytes:
        return hashlib.new(bank, content).digest()

    mine = boot(boot_files)
    measured = measure_tpm(mine, bank=bank)
    prefix = "" if bank == "sha256" else "sha384_"
    called = digest(b"Calling EFI Application from Boot Option")
    parts = [authenticode_digest(mine.kernel, bank), called, digest(bytes(4))]
    assert measured.registers[f"{prefix}pcr04"] == replay(parts, bank)
    options = "quiet initrd=initrd\0".encode("utf-16-le")
    assert measured.registers[f"{prefix}pcr09"] == replay([digest(options), digest(mine.initrd)], bank)


@pytest.mark.parametrize("bank", BANKS)
def test_the_log_replays_to_the_registers(boot_files: Path, bank: str) -> None:
    measured = measure_tpm(boot(boot_files), bank=bank)
    registers = {name.removeprefix("sha384_"): value for name, value in measured.registers.items()}
    log = parse_event_log(event_log(measured, bank))
    checks = check_event_log(log, registers, bank)
    assert {check.result.value for check in checks} <= {"pass", "warn"}
    assert not any(check.blocks for check in checks)
    registers["pcr04"] = registers["pcr09"]
    assert any(check.blocks for check in check_event_log(log, registers, bank))


@pytest.mark.parametrize(
    ("name", "register", "value"),
    [("initrd", "pcr09", b"Initrd"), ("cmdline", "pcr09", "Quiet"), ("kernel", "pcr04", None)],
)
def test_a_changed_input_is_named(boot_files: Path, name: str, register: str, value: Any) -> None:
    changed = value if value is not None else boot(boot_files).kernel + b"!"
    before = inputs_of(measure_tpm(boot(boot_files)).events)
    after = inputs_of(measure_tpm(boot(boot_files, **{name: changed})).events)
    assert [each for each in before if before[each] != after[each]] == [register]
    differing = [
        mine[0] for mine, theirs in zip(before[register], after[register], strict=True) if mine != theirs
    ]
    assert differing == [name]


def test_secure_boot_keys_change_pcr_7_alone(boot_files: Path) -> None:
    mine = boot(boot_files)
    before = measure_tpm(mine).registers
    after = measure_tpm(mine, secure_boot=SecureBoot(b"\0", dbx=b"x")).registers
    assert [name for name in before if before[name] != after[name]] == ["pcr07"]


def test_a_header_that_qemu_fills_in_needs_the_memory(boot_files: Path) -> None:
    filled = boot(boot_files, setup_header=SetupHeader.QEMU)
    measured = measure_tpm(filled)
    assert "pcr04" not in measured.registers
    assert any(reason.startswith("pcr04") and "memory" in reason for reason in measured.unknown)
    with pytest.raises(InputError, match="no setup header"):
        measure_tpm(filled, memory=1 << 29)
    with pytest.raises(ConfigurationError, match="ASCII"):
        measure_tpm(boot(boot_files, cmdline="ü"))


def test_the_command_prints_values_and_events(boot_files: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["tpm", "--kernel", str(boot_files / "vmlinuz"), "--setup-header", "file"]
    assert run(measure, "eaa measure", [*words, "--json"]) == 0
    assert list(json.loads(capsys.readouterr().out)) == PREDICTED
    assert run(measure, "eaa measure", [*words, "--events", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert {event["input"] for event in answer["events"]} == {
        "firmware", "kernel", "boot-options", "secure-boot", "constant",
    }  # fmt: skip
    assert run(measure, "eaa measure", words) == 0
    assert "pcr00: not known" in capsys.readouterr().out
