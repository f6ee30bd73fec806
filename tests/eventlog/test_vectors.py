# SPDX-License-Identifier: Apache-2.0
"""Recorded logs of firmware and guests: what they replay to, what is proven in them, and what Trustee makes of them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eaa.eventlog import (
    Authenticity,
    Registers,
    check_event_log,
    diff,
    explain,
    parse_event_log,
    register_index,
    to_trustee,
)
from eaa.rats import Result
from eaa.tee.tdx.evidence import parse_tdx_quote

if TYPE_CHECKING:
    from tests.eventlog.conftest import Vector

    from eaa.eventlog import EventLog
    from eaa.rats import Check

RTMRS = ("rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3")


def expected_of(vector: Vector) -> dict[str, dict[int, str]]:
    """Return what the manifest states of a log: bank → register number in the log → value."""
    expected = vector.entry["expected"]
    banks: dict[str, dict[int, str]] = {}
    for name, value in expected.get("pcrs", {}).items():
        bank, number = name.split(":")
        banks.setdefault(bank, {})[int(number)] = value
    for number, value in expected.get("rtmr", {}).items():
        banks.setdefault("sha384", {})[int(number) + 1] = value
    return banks


def against_quote(log: EventLog, quote: bytes) -> tuple[Check, ...]:
    """Check a log against the registers of a quote, signed or not."""
    measurements = parse_tdx_quote(quote).measurements
    return check_event_log(log, {name: bytes.fromhex(measurements[name]) for name in RTMRS}, "sha384")


def failing(checks: tuple[Check, ...]) -> list[str]:
    return [check.id for check in checks if check.blocks]


def test_every_recorded_log_is_read_and_replays_to_what_is_stated(recorded: list[Vector]) -> None:
    """Registers stated by the sources, and those that an independent replay found, in every bank."""
    compared = 0
    for vector in recorded:
        log = parse_event_log(vector.data)
        for bank, registers in expected_of(vector).items():
            replayed = log.replay(bank)
            for number, value in registers.items():
                assert replayed.get(number, log.initial(number, bank)).hex() == value, (
                    vector.id,
                    bank,
                    number,
                )
                compared += 1
        if vector.entry["tee"] != "eventlog" or "replay" not in vector.entry.get("independent_check", {}):
            continue
        independent = vector.entry["independent_check"]["replay"]
        if log.format == "dstack":
            independent = {"sha384": {int(number) + 1: value for number, value in independent.items()}}
        for bank, registers in independent.items():
            ours = {number: value.hex() for number, value in log.replay(bank).items()}
            assert ours == {int(number): value for number, value in registers.items()}, (vector.id, bank)
            compared += len(ours)
        assert vector.entry["independent_check"]["events"] == len(log.events), vector.id
    assert compared > 400


def test_every_event_is_explained_on_one_line(recorded: list[Vector]) -> None:
    """No event of any recorded log is left to its hex, but GUIDs and digests."""
    for vector in recorded:
        for event in parse_event_log(vector.data).events:
            words = explain(event)
            assert words
            assert words.isprintable()
            assert "cannot be read" not in words, (vector.id, event.number, words)


def test_content_is_what_was_measured_in_every_genuine_log(recorded: list[Vector]) -> None:
    """No rule about a digest of content is broken by recorded firmware, boot loaders and guests; the forged log breaks one."""
    proven = 0
    for vector in recorded:
        events = parse_event_log(vector.data).events
        mismatches = [event.number for event in events if event.authenticity is Authenticity.MISMATCH]
        assert mismatches == ([15] if vector.id == "ccel-neg-flip-digest" else []), vector.id
        proven += sum(event.authenticity is Authenticity.CONTENT for event in events)
    assert proven > 1000


def test_the_kind_of_registers_is_recognised(recorded: list[Vector]) -> None:
    for vector in recorded:
        confidential = vector.id.startswith(("ccel", "tdx", "dstack"))
        assert parse_event_log(vector.data).registers is (Registers.CC if confidential else Registers.TPM), (
            vector.id
        )


def test_trustee_says_the_same(recorded: list[Vector]) -> None:
    """Our form of ``uefi_event_logs`` is Trustee's, entry by entry."""
    compared = 0
    for vector in recorded:
        stated = vector.file("parsed_json")
        if stated is not None:
            assert to_trustee(parse_event_log(vector.data)) == json.loads(stated)["uefi_event_logs"], (
                vector.id
            )
            compared += 1
    assert compared == 4


def test_logs_replay_to_the_quotes_they_came_with(recorded: list[Vector]) -> None:
    """A quote's RTMRs are its own log's; a log of another boot, of another TD or with a digest flipped is refused by name."""
    outcomes = {
        f"{vector.id}:{vector.role}": failing(against_quote(parse_event_log(vector.data), quote))
        for vector in recorded
        if (quote := vector.file("quote")) is not None
    }
    assert (
        outcomes
        == {
            "tdx-cdai-live-ccel:event_log": [],
            "tdx-cdai-live-ccel:event_log_other_boot": ["eventlog.replay.rtmr_2"],
            "tdx-google-cos113-ccel:event_log": [],
            "ccel-neg-flip-digest:event_log": ["eventlog.replay.rtmr_1", "eventlog.content"],
            "ccel-neg-trustee-other-td:event_log": [
                "eventlog.replay.rtmr_0",
                "eventlog.replay.rtmr_1",
                "eventlog.replay.rtmr_2",
                "eventlog.replay.rtmr_3",
            ],
            "tdx-trustee-v4-debug:event_log": [
                "eventlog.replay.rtmr_0",
                "eventlog.replay.rtmr_1",
                "eventlog.replay.rtmr_2",
                "eventlog.replay.rtmr_3",
            ],
        }
        or "tdx-trustee-v4-debug:event_log" not in outcomes
    )


def test_dstack_logs_replay_to_their_quotes(recorded: list[Vector]) -> None:
    for vector in recorded:
        if not vector.id.startswith("dstack"):
            continue
        checks = against_quote(parse_event_log(vector.data), bytes.fromhex(json.loads(vector.data)["quote"]))
        assert [check.result for check in checks] == [Result.PASS] * 6


def test_the_difference_of_two_boots_is_the_initial_ram_disk(recorded: list[Vector]) -> None:
    logs = {each.role: parse_event_log(each.data) for each in recorded if each.id == "tdx-cdai-live-ccel"}
    difference = diff(logs["event_log"], logs["event_log_other_boot"])
    (moved,) = difference.moved
    (change,) = moved.changes
    assert (moved.name, change.kind) == ("rtmr_2", "changed")
    assert change.after is not None
    assert change.after.number == 18
    assert change.words().startswith("initial RAM disk")


def test_register_names_lead_to_the_numbers_in_logs() -> None:
    assert [register_index(name) for name in ("rtmr_0", "rtmr_3", "pcr00", "pcr23")] == [1, 4, 0, 23]
