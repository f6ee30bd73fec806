# SPDX-License-Identifier: Apache-2.0
"""Binary logs, well-formed and not."""

from __future__ import annotations

import struct
import time

import pytest

from eaa.eventlog import EventType, NewEvent, Registers, explain, parse_event_log, write_event_log
from eaa.eventlog.algorithms import ALGORITHMS, BY_NAME
from eaa.eventlog.tcg import MAX_EVENTS, MAX_SIZE
from eaa.rats import EvidenceError

Events = tuple[NewEvent, ...]
SEPARATOR = NewEvent(1, EventType.EV_SEPARATOR, bytes(4))
LEGACY = struct.Struct("<II20sI")


def refused(data: bytes) -> str:
    """Return why a log is refused."""
    with pytest.raises(EvidenceError) as caught:
        parse_event_log(data)
    assert caught.value.check == "eventlog.format"
    assert caught.value.hint
    return str(caught.value)


def test_what_was_written_is_read(boot: Events) -> None:
    log = parse_event_log(write_event_log(boot, ("sha256", "sha384", "sm3")))
    assert (log.format, log.algorithms) == ("tcg2", ("sha256", "sha384", "sm3"))
    assert [(each.register, each.type, each.data) for each in log.events] == [
        (each.register, each.type, each.data) for each in boot
    ]
    assert [each.number for each in log.events] == list(range(1, len(boot) + 1))
    assert log.events[1].digests["sm3"] == BY_NAME["sm3"].digest(b"a table")


@pytest.mark.parametrize("algorithm", sorted(BY_NAME))
def test_every_bank_replays(algorithm: str) -> None:
    """Each register is the chain of its own events; EV_NO_ACTION is no part of it."""
    written = write_event_log(
        [NewEvent(1, 3, b"x"), SEPARATOR, SEPARATOR, NewEvent(2, 5, b"y")], (algorithm,)
    )
    hashed = BY_NAME[algorithm]
    zero = bytes(hashed.size)
    once = hashed.digest(zero + hashed.digest(bytes(4)))
    assert parse_event_log(written).replay(algorithm) == {
        1: hashed.digest(once + hashed.digest(bytes(4))),
        2: hashed.digest(zero + hashed.digest(b"y")),
    }


def test_sm3_is_the_standard_s() -> None:
    """GB/T 32905-2016, example 1."""
    expected = "66c7f0f462eeedd9d1f2d46bdc10e4e24167c4875cf2f7a2297da02b8f4ba8e0"
    assert BY_NAME["sm3"].digest(b"abc").hex() == expected


def test_a_bank_that_is_not_there_is_not_replayed(boot: Events) -> None:
    with pytest.raises(ValueError, match="sha1"):
        parse_event_log(write_event_log(boot)).replay("sha1")


@pytest.mark.parametrize("padding", [b"\xff", b"\0"])
@pytest.mark.parametrize("extra", [1, 7, 8, 4096])
def test_padding_is_dropped(boot: Events, padding: bytes, extra: int) -> None:
    written = write_event_log(boot)
    padded = write_event_log(boot, size=len(written) + extra, padding=padding)
    assert len(padded) == len(written) + extra
    assert parse_event_log(padded) == parse_event_log(written)


def test_nothing_hides_behind_the_end(boot: Events) -> None:
    """Bytes behind the end marker would be text that nothing replays."""
    assert "behind the end" in refused(write_event_log(boot) + b"\xff" * 64 + b"GRUB")
    assert "behind the end" in refused(write_event_log(boot) + bytes(8) + b"\1" + bytes(8))


def test_a_log_cut_anywhere_is_refused_or_shorter(boot: Events) -> None:
    """At an event's end the rest is simply missing, which the replay shows; anywhere else the log is malformed."""
    written = write_event_log(boot[1:])
    whole = parse_event_log(written).events
    shorter = 0
    for size in range(len(written)):
        try:
            events = parse_event_log(written[:size]).events
        except EvidenceError as error:
            assert error.check == "eventlog.format"  # noqa: PT017 - most lengths raise, a few do not
        else:
            assert events == whole[: len(events)]
            shorter += 1
    assert shorter >= len(whole)


def test_the_order_of_banks_in_an_event_is_free() -> None:
    """Firmware may write an event's digests in another order than the header's."""
    written = bytearray(write_event_log([SEPARATOR], ("sha1", "sha256")))
    at = len(written) - 4 - 4 - (2 + 20) - (2 + 32)
    first, second = written[at : at + 22], written[at + 22 : at + 22 + 34]
    written[at : at + 56] = second + first
    (event,) = parse_event_log(bytes(written)).events
    assert event.digests == {name: BY_NAME[name].digest(bytes(4)) for name in ("sha1", "sha256")}


def test_an_event_without_one_of_the_banks_is_refused() -> None:
    """It would show in the words and not in the replay of that bank."""
    header = write_event_log([], ("sha256", "sha384"))
    event = (
        struct.pack("<III", 1, EventType.EV_IPL, 1)
        + struct.pack("<H", 0xB)
        + bytes(32)
        + struct.pack("<I", 40)
    )
    assert "1 digests, the log has 2 banks" in refused(header + event + bytes(400))


def test_an_event_with_one_bank_twice_or_an_unknown_one_is_refused() -> None:
    header = write_event_log([], ("sha256", "sm3"))
    bank = struct.pack("<H", 0xB) + bytes(32)
    start, end = struct.pack("<III", 1, EventType.EV_IPL, 2), struct.pack("<I", 0)
    assert "two digests of one algorithm" in refused(header + start + bank + bank + end)
    other = struct.pack("<H", 0xC) + bytes(32)
    assert "no bank of the log" in refused(header + start + bank + other + end)


def test_sizes_that_lie_are_refused() -> None:
    written = bytearray(write_event_log([SEPARATOR]))
    written[-8:-4] = struct.pack("<I", 0xFFFFFFFF)
    assert "4294967295 bytes, 4 are left" in refused(bytes(written))


def test_registers_that_nothing_has_are_refused() -> None:
    assert "register 32" in refused(write_event_log([NewEvent(32, EventType.EV_SEPARATOR, bytes(4))]))


@pytest.mark.parametrize(
    "spec",
    [
        b"Spec ID Event03\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 0) + b"\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBI", 0, 0, 2, 0, 2, 0xFFFFFFFF) + b"\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0xC, 32) + b"\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0x99, 0) + b"\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHHHH", 0, 0, 2, 0, 2, 2, 0xC, 48, 0xC, 48) + b"\0",
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0xC, 48),
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0xC, 48) + b"\1",
        b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0xC, 48) + b"\0more",
    ],
)
def test_a_header_that_does_not_add_up_is_refused(spec: bytes) -> None:
    assert "Spec ID event" in refused(LEGACY.pack(0, 3, bytes(20), len(spec)) + spec)


def test_an_algorithm_that_is_not_known_is_read_and_not_replayed() -> None:
    """Crypto-agile: the header says how long its digests are."""
    spec = b"Spec ID Event03\0" + struct.pack("<IBBBBIHH", 0, 0, 2, 0, 2, 1, 0x77, 3) + b"\0"
    event = struct.pack("<IIIH", 1, EventType.EV_IPL, 1, 0x77) + b"abc" + struct.pack("<I", 2) + b"xy"
    log = parse_event_log(LEGACY.pack(0, 3, bytes(20), len(spec)) + spec + event)
    assert log.algorithms == ("0x0077",)
    assert log.events[0].digests == {"0x0077": b"abc"}
    assert log.events[0].authenticity == "unauthenticated"
    with pytest.raises(ValueError, match="0x0077"):
        log.replay("0x0077")


def test_logs_before_tpm_2_are_read() -> None:
    digest = BY_NAME["sha1"].digest(bytes(4))
    event = LEGACY.pack(7, EventType.EV_SEPARATOR, digest, 4) + bytes(4)
    log = parse_event_log(event * 2 + bytes(32))
    assert (log.format, log.registers, log.algorithms, len(log.events)) == (
        "tcg12",
        Registers.TPM,
        ("sha1",),
        2,
    )
    once = BY_NAME["sha1"].extend(bytes(20), digest)
    assert log.replay("sha1") == {7: BY_NAME["sha1"].extend(once, digest)}


@pytest.mark.parametrize(
    "data", [b"", b"\0", b"\xff" * 4096, b"\0" * 31, b"PK\3\4" + bytes(64), b"\x7fELF" + bytes(100)]
)
def test_what_is_no_log_is_refused(data: bytes) -> None:
    refused(data)


def test_padding_alone_is_no_log() -> None:
    assert "no event" in refused(bytes(4096))


@pytest.mark.parametrize(
    ("events", "first"),
    [
        ([NewEvent(0, 3, b"StartupLocality\0\3")], 3),
        ([NewEvent(0, 3, b"StartupLocality\0\3\0")], 0),
        ([NewEvent(0, 3, b"StartupLocality\0")], 0),
        ([NewEvent(1, 3, b"StartupLocality\0\3")], 0),
        ([NewEvent(0, EventType.EV_EFI_HCRTM_EVENT, b"HCRTM")], 4),
        ([NewEvent(0, EventType.EV_S_CRTM_VERSION, b"1"), NewEvent(0, 3, b"StartupLocality\0\3")], 0),
    ],
)
def test_pcr_0_begins_with_the_locality(events: list[NewEvent], first: int) -> None:
    """PFP 10.4.5.3; the event counts only before PCR 0 is extended."""
    written = write_event_log([*events, NewEvent(0, 4, bytes(4)), NewEvent(7, 4, bytes(4))], ("sha256",))
    log = parse_event_log(written)
    assert log.initial(0, "sha256") == bytes(31) + bytes([first])
    assert log.initial(7, "sha256") == bytes(32)
    hashed = BY_NAME["sha256"]
    value = log.initial(0, "sha256")
    for event in log.extending():
        value = hashed.extend(value, event.digests["sha256"]) if event.register == 0 else value
    assert log.replay("sha256")[0] == value


def test_pcrs_of_a_dynamic_launch_begin_with_ones_until_there_is_one() -> None:
    written = write_event_log([NewEvent(17, 4, bytes(4)), NewEvent(7, 4, bytes(4))], ("sha256",))
    log = parse_event_log(written)
    assert (log.initial(18, "sha256"), log.initial(17, "sha256")) == (b"\xff" * 32, bytes(32))


def test_the_caller_may_say_what_registers_are_meant(boot: Events) -> None:
    written = write_event_log(boot)
    assert parse_event_log(written).registers is Registers.CC
    log = parse_event_log(written, Registers.TPM)
    assert log.name_of(log.events[1]) == "pcr01"
    assert parse_event_log(write_event_log([*boot, NewEvent(7, 4, bytes(4))])).registers is Registers.TPM
    assert parse_event_log(write_event_log(boot, ("sha256", "sha384"))).registers is Registers.TPM


def test_registers_have_names() -> None:
    assert [Registers.CC.name_of(index) for index in (0, 1, 4, 5)] == ["mr_td", "rtmr_0", "rtmr_3", "ccmr_5"]


def test_logs_beyond_the_limits_are_refused_at_once() -> None:
    assert "at most" in refused(bytes(MAX_SIZE + 1))
    many = write_event_log([NewEvent(1, EventType.EV_ACTION, b"")] * (MAX_EVENTS + 1), ("sha1",))
    assert f"more than {MAX_EVENTS}" in refused(many)
    legacy = LEGACY.pack(1, EventType.EV_ACTION, bytes(20), 0)
    assert f"more than {MAX_EVENTS}" in refused(legacy * (MAX_EVENTS + 1))


def test_the_largest_log_takes_linear_time() -> None:
    """Everything that is done with a log, on the most events and on the most bytes (attack B9)."""
    many = write_event_log(
        [NewEvent(1, EventType.EV_EFI_ACTION, b"x")] * MAX_EVENTS, ("sha1", "sha256", "sha384")
    )
    large = write_event_log([NewEvent(1, EventType.EV_IPL, b"a" * (MAX_SIZE - 1000))])
    started = time.process_time()
    for written in (many, large):
        log = parse_event_log(written)
        for algorithm in log.algorithms:
            log.replay(algorithm)
        for event in log.events:
            assert len(explain(event)) < 3000
            assert event.authenticity
    assert time.process_time() - started < 5


def test_every_algorithm_has_the_size_of_its_digests() -> None:
    assert [each.size for each in ALGORITHMS.values()] == [
        len(each.digest(b"")) for each in ALGORITHMS.values()
    ]
