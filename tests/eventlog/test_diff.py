# SPDX-License-Identifier: Apache-2.0
"""What two boots did differently."""

from __future__ import annotations

import time

import pytest

from eaa.eventlog import EventType, NewEvent, Registers, diff, parse_event_log, write_event_log
from eaa.rats import EvidenceError

Events = tuple[NewEvent, ...]


def compared(before: Events, after: Events) -> list[tuple[str, list[str]]]:
    """Return the registers that moved, each with its changes in words."""
    difference = diff(*(parse_event_log(write_event_log(events)) for events in (before, after)))
    return [(each.name, [change.words() for change in each.changes]) for each in difference.moved]


def test_the_same_boot_is_the_same(boot: Events) -> None:
    difference = diff(*[parse_event_log(write_event_log(boot))] * 2)
    assert difference.same
    assert [each.name for each in difference.registers] == ["rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3"]
    assert all(each.changes == () for each in difference.registers)


def test_a_changed_text_is_told_as_before_and_after(boot: Events) -> None:
    changed = NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: /vmlinuz rw\0", b"/vmlinuz rw")
    assert compared(boot, (*boot[:9], changed, *boot[10:])) == [
        ("rtmr_2", ["kernel command line: /vmlinuz ro became kernel command line: /vmlinuz rw"])
    ]


def test_a_changed_content_behind_the_same_words_is_told_by_its_digest(boot: Events) -> None:
    changed = boot[8]._replace(measured=b"another kernel")
    ((name, (words,)),) = compared(boot, (*boot[:8], changed, *boot[9:]))
    assert name == "rtmr_2"
    assert words.startswith("kernel read by the boot loader: /vmlinuz: other content, digest ")


def test_added_and_removed_events_are_told(boot: Events) -> None:
    more = NewEvent(3, EventType.EV_IPL, b"grub_cmd: insmod evil\0", b"insmod evil")
    assert compared(boot, (*boot[:8], more, *boot[8:])) == [("rtmr_2", ["added: GRUB command: insmod evil"])]
    assert compared((*boot[:8], more, *boot[8:]), boot) == [
        ("rtmr_2", ["removed: GRUB command: insmod evil"])
    ]


def test_events_of_different_types_are_not_called_one_event(boot: Events) -> None:
    other = NewEvent(3, EventType.EV_ACTION, b"Calling INT 19h")
    ((_, words),) = compared(boot, (*boot[:9], other, *boot[10:]))
    assert [each.partition(":")[0] for each in words] == ["removed", "added"]


def test_the_register_that_moved_first_stands_first(boot: Events) -> None:
    late = boot[12]._replace(data=boot[12].data[:-2] + b'"}')
    early = boot[8]._replace(measured=b"another kernel")
    events = (*boot[:8], early, *boot[9:12], NewEvent(4, EventType.EV_ACTION, b"x"), late)
    assert [name for name, _ in compared(boot, events)] == ["rtmr_2", "rtmr_3"]
    first = boot[2]._replace(data=boot[2].data[:-1] + b"\0")
    events = (*boot[:2], first, *events[3:])
    assert compared(boot, events)[0] == ("rtmr_0", ["Secure Boot is on became Secure Boot is off"])


def test_what_only_one_log_extends_differs(boot: Events) -> None:
    ((name, words),) = compared(boot, boot[:-1])
    assert (name, len(words)) == ("rtmr_3", 1)
    assert words[0].startswith("removed: container image pulled")


def test_another_locality_differs_without_an_event() -> None:
    logs = [
        parse_event_log(
            write_event_log(
                [NewEvent(0, 3, b"StartupLocality\0" + byte), NewEvent(0, 4, bytes(4))], ("sha256",)
            ),
            Registers.TPM,
        )
        for byte in (b"\0", b"\3")
    ]
    (moved,) = diff(*logs).moved
    assert (moved.name, moved.changes) == ("pcr00", ())


def test_the_strongest_bank_of_both_counts(boot: Events) -> None:
    logs = [
        parse_event_log(write_event_log(boot, banks), Registers.CC)
        for banks in (("sha1", "sha256"), ("sha1", "sha256", "sha384"))
    ]
    assert diff(*logs).algorithm == "sha256"


def test_what_cannot_be_compared_is_refused(boot: Events) -> None:
    confidential = parse_event_log(write_event_log(boot))
    for other in (
        parse_event_log(write_event_log(boot, ("sha256",))),
        parse_event_log(write_event_log(boot), Registers.TPM),
    ):
        with pytest.raises(EvidenceError) as caught:
            diff(confidential, other)
        assert caught.value.check == "eventlog.diff"


def test_the_difference_as_json_says_it_all(boot: Events) -> None:
    changed = NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: /vmlinuz rw\0", b"/vmlinuz rw")
    logs = [parse_event_log(write_event_log(each)) for each in (boot, (*boot[:9], changed, *boot[10:]))]
    document = diff(*logs).to_json()
    assert (document["same"], document["moved"], document["algorithm"]) == (False, ["rtmr_2"], "sha384")
    (change,) = document["registers"][2]["changes"]
    assert change["kind"] == "changed"
    assert change["before"]["explanation"] == "kernel command line: /vmlinuz ro"
    assert change["after"] | {"digests": None} == {
        "number": 10,
        "type": "EV_IPL",
        "explanation": "kernel command line: /vmlinuz rw",
        "authenticity": "content",
        "digests": None,
    }


def test_long_logs_that_differ_everywhere_take_linear_time() -> None:
    """The best alignment costs the product of the lengths: beyond a bound events are laid side by side."""
    logs = [
        parse_event_log(
            write_event_log([NewEvent(1, EventType.EV_ACTION, b"%d" % number) for number in numbers])
        )
        for numbers in (range(4000), range(4000, 8000))
    ]
    started = time.process_time()
    assert len(diff(*logs).moved[0].changes) == 4000
    assert time.process_time() - started < 3
