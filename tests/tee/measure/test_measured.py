# SPDX-License-Identifier: Apache-2.0
"""Which input decides which register, and the log that predicted events make."""

from __future__ import annotations

import hashlib

from eaa.eventlog import check_event_log, parse_event_log
from eaa.eventlog.types import EventType
from eaa.tee.measured import (
    Input,
    LaunchMeasurement,
    MeasuredEvent,
    event_log,
    inputs_of,
    measurement_of,
    replay,
    unknown_of,
)

LAUNCH = MeasuredEvent("mr_td", None, "the firmware", b"f" * 48, Input.FIRMWARE)
KERNEL = MeasuredEvent(
    "rtmr_1", EventType.EV_EFI_BOOT_SERVICES_APPLICATION, "the kernel", b"k" * 48, Input.KERNEL
)
END = MeasuredEvent(
    "rtmr_1", EventType.EV_SEPARATOR, "the end", hashlib.sha384(bytes(4)).digest(), Input.CONSTANT, bytes(4)
)
ACPI = MeasuredEvent("rtmr_0", EventType.EV_PLATFORM_CONFIG_FLAGS, "the tables", None, Input.ACPI)


def test_inputs_are_listed_in_the_order_of_measurement() -> None:
    assert inputs_of([END, LAUNCH, KERNEL]) == {
        "rtmr_1": ((Input.CONSTANT, END.digest), (Input.KERNEL, KERNEL.digest)),
        "mr_td": ((Input.FIRMWARE, LAUNCH.digest),),
    }


def test_a_register_with_an_unknown_event_has_no_inputs() -> None:
    known = MeasuredEvent("rtmr_0", END.type, "the end", END.digest, Input.CONSTANT)
    assert inputs_of([known, ACPI]) == {}
    assert unknown_of([known, ACPI, KERNEL]) == {"rtmr_0": ("the tables",)}


def test_registers_without_events_are_zeros_and_unknown_ones_are_left_out() -> None:
    measured = measurement_of({"mr_td": b"f" * 48}, ("rtmr_0", "rtmr_1", "rtmr_2"), [LAUNCH, ACPI, KERNEL])
    assert measured.registers == {
        "mr_td": b"f" * 48,
        "rtmr_1": hashlib.sha384(bytes(48) + b"k" * 48).digest(),
        "rtmr_2": bytes(48),
    }
    assert measured.unknown == ("rtmr_0: not known without the tables",)


def test_replay_is_in_the_banks_algorithm() -> None:
    assert replay([b"d" * 32], "sha256") == hashlib.sha256(bytes(32) + b"d" * 32).digest()
    assert replay([]) == bytes(48)


def test_the_log_of_what_is_predicted_is_read_by_the_production_path() -> None:
    measured = measurement_of({}, ("rtmr_1",), [LAUNCH, KERNEL, END])
    log = parse_event_log(event_log(measured))
    assert [event.digests["sha384"] for event in log.events] == [KERNEL.digest, END.digest]
    assert all(not check.blocks for check in check_event_log(log, measured.registers, "sha384"))
    changed = LaunchMeasurement({"rtmr_1": bytes(48)}, measured.events, ())
    assert any(check.blocks for check in check_event_log(log, changed.registers, "sha384"))
