# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables of a declared machine: from a real QEMU where there is one, and no QEMU that can hold us up."""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.cli._measure.qemu import ask_for_acpi
from eaa.cli._run import run
from eaa.cli.measure import measure
from eaa.rats import ConfigurationError, InputError
from eaa.tee.fw_cfg import File, dma_read, parse_directory
from eaa.tee.tdx.acpi import AcpiBlobs, load_acpi, save_acpi

BLOBS = AcpiBlobs(b"loader", b"rsdp", b"tables")


def directory(*names: bytes, count: int | None = None) -> bytes:
    entries = b"".join(
        struct.pack(">IHH56s", 10 + index, 0x20 + index, 0, name) for index, name in enumerate(names)
    )
    return struct.pack(">I", len(names) if count is None else count) + entries


@pytest.fixture(scope="module")
def firmware() -> str:
    """Debian's OVMF for a machine without TDX, which is what runs here."""
    path = Path("/usr/share/ovmf/OVMF.fd")
    if shutil.which("qemu-system-x86_64") is None or not path.is_file():
        pytest.skip("qemu-system-x86_64 or OVMF.fd is not here: install qemu-system-x86 and ovmf")
    return str(path)


@pytest.mark.interop
def test_a_real_qemu_says_which_tables_a_machine_has(
    firmware: str, tmp_path: Path, boot_files: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    machine = ("-machine", "q35", "-m", "256M", "-nodefaults", "-bios", firmware)
    words = ["acpi", "--out", str(tmp_path / "acpi"), "--", *machine, "-smp", "2"]
    assert run(measure, "eaa measure", words) == 0
    two = load_acpi(tmp_path / "acpi")
    assert b"DSDT" in two.tables
    assert two.rsdp.startswith(b"RSD PTR ")
    # Both in one: the same RTMR 0 as with the folder.
    parts = [
        f"--{name}={boot_files / file}" for name, file in (("firmware", "OVMF.fd"), ("kernel", "vmlinuz"))
    ]
    known: list[str] = []
    for source in (f"--acpi={tmp_path / 'acpi'}", f"--machine-args={' '.join(machine)} -smp 2"):
        capsys.readouterr()
        assert run(measure, "eaa measure", ["tdx", *parts, "--memory=256M", source, "--json"]) == 0
        known.append(json.loads(capsys.readouterr().out)["rtmr_0"])
    assert known[0] == known[1]
    # The host's own code in a table is seen.
    table = tmp_path / "ssdt.aml"
    table.write_bytes(b"code of the host")
    evil = ask_for_acpi(
        "qemu-system-x86_64", (*machine, "-smp", "2", "-acpitable", f"sig=SSDT,data={table}"), 120
    )
    assert b"code of the host" in evil.tables
    assert evil.loader != two.loader


@pytest.mark.parametrize(
    ("qemu", "machine", "reason"),
    [
        ("/nonexistent/qemu", ("-bios", "x"), "cannot start"),
        ("false", ("-bios", "x"), "did not start"),
        ("qemu", ("-m", "2G"), "no firmware"),
        ("qemu", ("-bios", "x", "-daemonize"), "-daemonize cannot be"),
        ("qemu", ("-bios", "x", "--qmp", "unix:x"), "--qmp cannot be"),
    ],
)
def test_what_cannot_be_asked_is_refused(qemu: str, machine: tuple[str, ...], reason: str) -> None:
    with pytest.raises(ConfigurationError, match=reason) as refused:
        ask_for_acpi(qemu, machine, 60)
    assert refused.value.hint


def test_a_qemu_that_says_nothing_is_ended_in_time(tmp_path: Path) -> None:
    mute = tmp_path / "qemu"
    mute.write_text("#!/bin/sh\nexec sleep 600\n")
    mute.chmod(0o700)
    begun = time.monotonic()
    with pytest.raises(ConfigurationError, match="did not start in time"):
        ask_for_acpi(str(mute), ("-bios", "x"), 0.3)
    assert time.monotonic() - begun < 60


def test_what_a_failing_qemu_says_is_passed_on(tmp_path: Path) -> None:
    failing = tmp_path / "qemu"
    failing.write_text("#!/bin/sh\necho 'no such machine' >&2\nexit 1\n")
    failing.chmod(0o700)
    with pytest.raises(ConfigurationError, match="no such machine"):
        ask_for_acpi(str(failing), ("-bios", "x"), 60)


def test_files_are_found_by_name() -> None:
    assert parse_directory(directory(b"etc/e820", b"etc/acpi/rsdp")) == {
        "etc/e820": File(0x20, 10),
        "etc/acpi/rsdp": File(0x21, 11),
    }


def test_a_request_is_big_endian() -> None:
    assert dma_read(File(0x23, 131072), 0x100000).hex() == "0023000a" + "00020000" + "0000000000100000"


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0",
        directory(b"a", count=2),
        directory(count=1 << 31),
        directory(b"a", b"a"),
        directory(b""),
        directory(b"\xff"),
    ],
)
def test_a_directory_that_cannot_be_is_refused(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_directory(data)


@given(
    st.binary(max_size=400)
    | st.lists(st.binary(max_size=56), max_size=5).map(lambda names: directory(*names))
)
def test_any_directory_gives_files_or_is_refused(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_directory(data)


def test_a_folder_of_tables_is_read_as_written(tmp_path: Path) -> None:
    assert [file.name for file in save_acpi(BLOBS, tmp_path / "acpi")] == ["table-loader", "rsdp", "tables"]
    assert load_acpi(tmp_path / "acpi") == BLOBS


def test_an_incomplete_folder_is_refused(tmp_path: Path) -> None:
    save_acpi(BLOBS, tmp_path)
    (tmp_path / "rsdp").write_bytes(b"")
    with pytest.raises(ConfigurationError, match="no content"):
        load_acpi(tmp_path)
    (tmp_path / "rsdp").unlink()
    with pytest.raises(ConfigurationError, match="cannot read"):
        load_acpi(tmp_path)
    with pytest.raises(ConfigurationError, match="cannot write"):
        save_acpi(BLOBS, tmp_path / "tables")
