# SPDX-License-Identifier: Apache-2.0
"""dstack's JSON."""

from __future__ import annotations

import json
from hashlib import sha384
from typing import Any

import pytest

from eaa.eventlog import Authenticity, Registers, explain, parse_event_log
from eaa.eventlog.dstack import runtime_content
from eaa.rats import EvidenceError

RUNTIME = 0x08000001


def entry(**fields: Any) -> dict[str, Any]:
    """Return an entry of RTMR 3, with other fields if given."""
    return {
        "imr": 3,
        "event_type": RUNTIME,
        "digest": "",
        "event": "app-id",
        "event_payload": "00ff",
    } | fields


def parsed(*entries: Any) -> Any:
    return parse_event_log(json.dumps(list(entries)).encode())


def test_runtime_events_extend_the_digest_of_type_name_and_payload() -> None:
    log = parsed(entry(), entry(event="storage-fs", event_payload="7a6673"))
    digests = [sha384(b"\1\0\0\x08:app-id:\0\xff").digest(), sha384(b"\1\0\0\x08:storage-fs:zfs").digest()]
    assert [event.digests["sha384"] for event in log.events] == digests
    value = bytes(48)
    for digest in digests:
        value = sha384(value + digest).digest()
    assert (log.registers, log.replay("sha384")) == (Registers.CC, {4: value})
    assert {event.authenticity for event in log.events} == {Authenticity.CONTENT}


def test_a_digest_that_is_not_of_the_payload_is_a_mismatch() -> None:
    honest = runtime_content("app-id", b"\0\xff")
    log = parsed(entry(digest=sha384(honest).hexdigest()), entry(digest="11" * 48))
    assert [event.authenticity for event in log.events] == [Authenticity.CONTENT, Authenticity.MISMATCH]


def test_what_is_told_is_what_was_hashed() -> None:
    """Where name and payload are cut is not covered by the digest: two lists that hash alike are told alike."""
    first = parsed(entry(event="a:b", event_payload=b"c".hex()))
    second = parsed(entry(event="a", event_payload=b"b:c".hex()))
    assert first.events == second.events
    assert explain(first.events[0]) == 'dstack event "a": b:c'


def test_boot_events_without_content_say_so() -> None:
    log = parsed(entry(imr=0, event_type=4, digest="22" * 48, event="", event_payload=""))
    (event,) = log.events
    assert (event.register, event.authenticity) == (1, Authenticity.UNAUTHENTICATED)
    assert event.finding.covers == "the log shows no content"
    assert explain(event) == "(no content in the log)"


def test_a_boot_event_s_name_is_a_label() -> None:
    (event,) = parsed(
        entry(imr=0, event_type=10, digest="22" * 48, event="acpi-tables", event_payload="41")
    ).events
    assert (event.label, event.data) == ("acpi-tables", b"A")


@pytest.mark.parametrize("wrap", [json.dumps, list])
def test_answers_that_hold_a_log_are_read(wrap: Any) -> None:
    answer = json.dumps({"quote": "00", "event_log": wrap([entry()]), "vm_config": "{}"})
    assert parse_event_log(f"\n {answer}".encode()) == parsed(entry())


@pytest.mark.parametrize(
    "document",
    [
        "{", "{}", "[1]", '{"event_log": 1}', '{"event_log": "{}"}', '{"event_log": "["}', '[{"imr": 1}]',
        '[{"a": 1, "a": 2}]', "[" * 100_000,
    ],
)  # fmt: skip
def test_other_json_is_refused(document: str) -> None:
    with pytest.raises(EvidenceError) as caught:
        parse_event_log(document.encode())
    assert caught.value.check == "eventlog.format"


@pytest.mark.parametrize(
    "fields",
    [
        {"imr": 4}, {"imr": -1}, {"imr": True}, {"imr": 1.0}, {"event_type": 1 << 32}, {"event_type": "4"},
        {"event": 1}, {"digest": None}, {"event_payload": []}, {"event_payload": "0"}, {"digest": "zz"},
        {"digest": "00"}, {"event_type": 4},
    ],
)  # fmt: skip
def test_entries_that_are_malformed_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(EvidenceError) as caught:
        parsed(entry(), entry(**fields))
    assert caught.value.check == "eventlog.format"
    assert "event 2" in str(caught.value)
