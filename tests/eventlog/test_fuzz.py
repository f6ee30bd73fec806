# SPDX-License-Identifier: Apache-2.0
"""Whatever the bytes: a value or EvidenceError, and words that are safe to print."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eaa.eventlog import (
    Event,
    EventLog,
    EventType,
    NewEvent,
    Registers,
    check_event_log,
    diff,
    explain,
    parse_event_log,
    to_trustee,
    variable_data,
    write_event_log,
)
from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY, SHIM_LOCK
from eaa.rats import EvidenceError

Events = tuple[NewEvent, ...]
relaxed = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


def used(log: EventLog) -> None:
    """Do everything that can be done with a log."""
    for algorithm in log.algorithms:
        if algorithm in BY_NAME:
            assert {len(value) for value in log.replay(algorithm).values()} <= {BY_NAME[algorithm].size}
    for event in log.events:
        told = explain(event)
        assert told.isprintable()
        assert len(told) <= 2001
        assert event.authenticity
    json.dumps(to_trustee(log), ensure_ascii=False).encode()
    check_event_log(log, {"rtmr_0": bytes(48), "pcr00": bytes(48)}, log.algorithms[0])
    if any(algorithm in BY_NAME for algorithm in log.algorithms):
        assert diff(log, log).same


def read(data: bytes) -> None:
    try:
        log = parse_event_log(data)
    except EvidenceError as error:
        assert error.check == "eventlog.format"  # noqa: PT017 - either outcome is fine, no third is
    else:
        used(log)


@relaxed
@given(st.binary(max_size=400))
def test_random_bytes(data: bytes) -> None:
    read(data)


@relaxed
@given(st.data())
def test_mutations_of_a_log(boot: Events, data: st.DataObject) -> None:
    banks = data.draw(st.sampled_from([("sha384",), ("sha1", "sha256"), ("sm3",)]))
    written = bytearray(write_event_log(boot, banks, size=4096))
    places = st.integers(0, len(written) - 1)
    for at, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=8)):
        written[at] = value
    read(bytes(written))
    read(bytes(written[: data.draw(places)]))


@relaxed
@given(st.sampled_from([each.value for each in EventType]), st.binary(max_size=200), st.text(max_size=10))
def test_any_content_of_any_type(kind: int, content: bytes, label: str) -> None:
    events = (Event(1, 1, kind, {"sha384": bytes(48)}, content, label),)
    used(EventLog("tcg2", Registers.CC, ("sha384",), events))


VARIABLES = [
    (GLOBAL_VARIABLE, "SecureBoot"), (GLOBAL_VARIABLE, "PK"), (IMAGE_SECURITY, "db"), (SHIM_LOCK, "SbatLevel"),
    (GLOBAL_VARIABLE, "BootOrder"), (GLOBAL_VARIABLE, "Boot0001"), (SHIM_LOCK, "MokList"), (SHIM_LOCK, "Shim"),
]  # fmt: skip
KINDS = [
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EV_EFI_VARIABLE_BOOT,
    EventType.EV_EFI_VARIABLE_AUTHORITY,
]


@relaxed
@given(st.sampled_from(VARIABLES), st.sampled_from(KINDS), st.binary(max_size=200))
def test_any_value_of_a_variable(name: tuple[bytes, str], kind: int, value: bytes) -> None:
    read(write_event_log([NewEvent(1, kind, variable_data(*name, value))]))


PATHS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 26), st.binary(max_size=50)), max_size=8)


@relaxed
@given(PATHS)
def test_any_device_path(path: list[tuple[int, int, bytes]]) -> None:
    packed = b"".join(
        bytes((kind, sub)) + (4 + len(data)).to_bytes(2, "little") + data for kind, sub, data in path
    )
    content = bytes(24) + len(packed).to_bytes(8, "little") + packed
    read(write_event_log([NewEvent(1, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, content)]))


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-1, 1 << 33)
    | st.text(max_size=8)
    | st.sampled_from(["00ff", "11" * 48]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
ENTRIES = st.fixed_dictionaries(
    {"imr": st.integers(-1, 4) | VALUES, "event_type": st.sampled_from([4, 6, 10, 0x08000001]) | VALUES},
    optional={"digest": VALUES, "event": VALUES, "event_payload": VALUES},
)


@relaxed
@given(st.lists(ENTRIES | VALUES, max_size=4) | VALUES)
def test_any_json(document: Any) -> None:
    read(
        json.dumps(document).encode()
        if isinstance(document, list | dict)
        else b"[" + json.dumps(document).encode()
    )
