# SPDX-License-Identifier: Apache-2.0
"""Which input of a TD's direct boot a changed register names, and the event log that is predicted."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from eaa.eventlog import parse_event_log
from eaa.tee.measured import event_log, inputs_of
from eaa.tee.tdx.acpi import AcpiBlobs
from eaa.tee.tdx.direct_boot import DirectBoot
from eaa.tee.tdx.measure import measure_tdx

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.tee.measured import LaunchMeasurement

GIB = 1 << 30
RECORDED = "tdx/tdx-cdai-live-ccel/event_log.bin"


def measured(boot_files: Path, **changed: Any) -> LaunchMeasurement:
    firmware, kernel, initrd = (
        (boot_files / name).read_bytes() for name in ("OVMF.fd", "vmlinuz", "initrd.img")
    )
    boot = DirectBoot(
        changed.get("kernel", kernel), changed.get("initrd", initrd), changed.get("cmdline", "quiet")
    )
    return measure_tdx(
        changed.get("firmware", firmware),
        boot=boot,
        memory=changed.get("memory", 2 * GIB),
        acpi=AcpiBlobs(b"loader", b"rsdp", changed.get("acpi", b"tables")),
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [("initrd", b"Initrd"), ("cmdline", "Quiet"), ("memory", GIB), ("acpi", b"Tables")],
)
def test_a_changed_input_is_named(boot_files: Path, name: str, value: Any) -> None:
    assert differing(measured(boot_files), measured(boot_files, **{name: value})) == {name}


@pytest.mark.parametrize(("name", "file", "at"), [("kernel", "vmlinuz", -1), ("firmware", "OVMF.fd", 0x2000)])
def test_one_byte_of_a_file_names_it(boot_files: Path, name: str, file: str, at: int) -> None:
    content = bytearray((boot_files / file).read_bytes())
    content[at] ^= 1
    assert differing(measured(boot_files), measured(boot_files, **{name: bytes(content)})) == {name}


def differing(before: LaunchMeasurement, after: LaunchMeasurement) -> set[str]:
    mine, theirs = inputs_of(before.events), inputs_of(after.events)
    assert set(mine) == set(theirs) == {"mr_td", "rtmr_0", "rtmr_1", "rtmr_2"}
    return {
        one[0].value
        for register, parts in mine.items()
        for one, other in zip(parts, theirs[register], strict=True)
        if one != other
    }


def test_the_predicted_log_is_like_that_of_a_real_td(boot_files: Path, vectors: Path) -> None:
    """Register, type and order of every event, and its content but for addresses and sizes, are those of a TD that was recorded."""
    mine = parse_event_log(event_log(measured(boot_files))).events
    theirs = parse_event_log((vectors / RECORDED).read_bytes()).events
    assert [(event.register, event.type, len(event.data)) for event in mine] == [
        (event.register, event.type, len(event.data)) for event in theirs
    ]
    with_addresses = {1, 2, 12}
    assert all(
        one.data == other.data
        for one, other in zip(mine, theirs, strict=True)
        if one.number not in with_addresses
    )
