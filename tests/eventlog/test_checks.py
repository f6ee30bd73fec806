# SPDX-License-Identifier: Apache-2.0
"""Logs against registers, and what a verdict says of them."""

from __future__ import annotations

import pytest

from eaa.eventlog import (
    RULES,
    EventLog,
    EventType,
    NewEvent,
    Registers,
    check_event_log,
    parse_event_log,
    to_trustee,
    write_event_log,
)
from eaa.rats import Check, Result, Stage

Events = tuple[NewEvent, ...]
ZERO = bytes(48)


@pytest.fixture
def log(boot: Events) -> EventLog:
    return parse_event_log(write_event_log(boot))


@pytest.fixture
def registers(log: EventLog) -> dict[str, bytes]:
    """What an honest TD would have signed."""
    return {log.registers.name_of(index): value for index, value in log.replay("sha384").items()}


def results(checks: tuple[Check, ...]) -> dict[str, str]:
    return {check.id.removeprefix("eventlog."): check.result.value for check in checks}


def test_an_honest_log_passes(log: EventLog, registers: dict[str, bytes]) -> None:
    checks = check_event_log(log, registers, "sha384")
    assert {check.result for check in checks} == {Result.PASS}
    assert [check.id for check in checks] == [
        "eventlog.replay.rtmr_0", "eventlog.replay.rtmr_1", "eventlog.replay.rtmr_2", "eventlog.replay.rtmr_3",
        "eventlog.unattested", "eventlog.content",
    ]  # fmt: skip
    assert checks[-1].found == "8 of 12 events proven; 4 speak of what is not in the log"


def test_another_register_fails_by_name(log: EventLog, registers: dict[str, bytes]) -> None:
    checks = check_event_log(log, registers | {"rtmr_2": b"\1" * 48}, "sha384")
    assert [check.id for check in checks if check.blocks] == ["eventlog.replay.rtmr_2"]
    (failed,) = (check for check in checks if check.blocks)
    assert (failed.expected, failed.found) == ("01" * 48, registers["rtmr_2"].hex())


@pytest.mark.parametrize("position", range(1, 13))
def test_no_event_can_be_left_out_added_or_moved(
    boot: Events, registers: dict[str, bytes], position: int
) -> None:
    """Whatever is done to the list of extending events, a register no longer replays."""
    variants = [
        (*boot[:position], *boot[position + 1 :]),
        (*boot[:position], boot[position], *boot[position:]),
        (
            *boot[:position],
            boot[position]._replace(register=boot[position].register % 4 + 1),
            *boot[position + 1 :],
        ),
    ]
    for events in variants:
        checks = check_event_log(parse_event_log(write_event_log(events)), registers, "sha384")
        assert any(check.blocks and check.id.startswith("eventlog.replay") for check in checks)


def test_words_that_were_changed_fail_though_every_register_replays(
    boot: Events, registers: dict[str, bytes]
) -> None:
    """Attack A26: the digests stay, the kernel command line beside them does not."""
    forged = boot[9]._replace(data=b"kernel_cmdline: /vmlinuz lockdown=confidentiality\0")
    events = (*boot[:9], forged, *boot[10:])
    checks = check_event_log(parse_event_log(write_event_log(events)), registers, "sha384")
    assert [check.id for check in checks if check.blocks] == ["eventlog.content"]
    assert checks[-1].found == "event 10 (rtmr_2, EV_IPL): the digest is not that of the content"


def test_many_changed_words_are_counted() -> None:
    events = [NewEvent(1, EventType.EV_EFI_ACTION, b"said", b"done")] * 9
    parsed = parse_event_log(write_event_log(events))
    (found,) = (
        check.found for check in check_event_log(parsed, {}, "sha384") if check.id == "eventlog.content"
    )
    assert found.count("event ") == 5
    assert found.endswith("and 4 more")


def test_registers_that_were_never_extended_pass_at_their_first_value(boot: Events) -> None:
    parsed = parse_event_log(write_event_log(boot[:5]))
    assert results(check_event_log(parsed, {"rtmr_3": ZERO}, "sha384"))["replay.rtmr_3"] == "pass"


def test_a_register_without_events_that_was_extended_cannot_be_checked(boot: Events) -> None:
    """Its events were left out, or it was extended without logging: neither is a story to accept, unless the owner says so."""
    parsed = parse_event_log(write_event_log(boot[:-1]))
    extended = {"rtmr_3": b"\1" * 48}
    assert results(check_event_log(parsed, extended, "sha384"))["replay.rtmr_3"] == "not-made"
    optional = check_event_log(parsed, extended, "sha384", optional={"rtmr_3"})
    assert results(optional)["replay.rtmr_3"] == "warn"


def test_a_register_with_wrong_events_fails_even_if_it_is_optional(log: EventLog) -> None:
    checks = check_event_log(log, {"rtmr_3": b"\1" * 48}, "sha384", optional={"rtmr_3"})
    assert results(checks)["replay.rtmr_3"] == "fail"


def test_a_bank_that_the_log_lacks_cannot_be_checked(log: EventLog, registers: dict[str, bytes]) -> None:
    checks = check_event_log(log, registers, "sha256")
    assert [check.result for check in checks[:4]] == [Result.NOT_MADE] * 4
    assert "only sha384" in checks[0].found


def test_words_about_registers_that_nobody_signed_are_pointed_out(
    log: EventLog, registers: dict[str, bytes]
) -> None:
    del registers["rtmr_2"]
    checks = check_event_log(log, registers, "sha384")
    assert results(checks)["unattested"] == "warn"
    assert next(check for check in checks if check.id == "eventlog.unattested").found == "events: 4 of rtmr_2"


def test_pcrs_are_checked_by_their_names() -> None:
    events = [NewEvent(0, 3, b"StartupLocality\0\3"), NewEvent(0, 4, bytes(4)), NewEvent(7, 4, bytes(4))]
    parsed = parse_event_log(write_event_log(events, ("sha1", "sha256")), Registers.TPM)
    values = parsed.replay("sha256")
    pcrs = {"pcr00": values[0], "pcr07": values[7], "pcr05": bytes(32), "pcr17": b"\xff" * 32}
    assert set(results(check_event_log(parsed, pcrs, "sha256")).values()) == {"pass"}


def test_a_name_that_is_no_register_is_the_caller_s_mistake(log: EventLog) -> None:
    for name in ("mr_td", "pcr24", "rtmr_4", "pcr7"):
        with pytest.raises(ValueError, match=name):
            check_event_log(log, {name: ZERO}, "sha384")


def test_every_rule_is_of_authenticity_and_says_what_to_do() -> None:
    assert len({rule.id for rule in RULES}) == len(RULES) == 30
    for rule in RULES:
        assert rule.stage is Stage.AUTHENTICITY
        assert rule.title
        assert rule.source
        assert rule.remedy.endswith(".")


def test_trustee_s_form_tells_content_by_the_whole_data(log: EventLog) -> None:
    """``digest_matches_event`` has Trustee's meaning, which knows no prefixes."""
    entries = to_trustee(log)
    assert [entry["index"] for entry in entries] == [event.register for event in log.events]
    matching = [number for number, entry in enumerate(entries, 1) if entry["digest_matches_event"]]
    assert matching == [3, 4, 5, 12, 13]
    assert entries[-1]["details"]["data"]["content"]["image"] == "registry.example/app:1"
    assert entries[2]["details"]["variable_name"] == "61dfe48b-ca93-d211-aa0d-00e098032b8c"
