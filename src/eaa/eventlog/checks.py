# SPDX-License-Identifier: Apache-2.0
"""The checks that tie a log to registers that somebody signed, and its words to its digests.

To be made after the signature over the registers: a log costs work in proportion to its size, and anybody can send one (attack B9).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.authenticity import Authenticity
from eaa.eventlog.model import register_index
from eaa.rats import Rule, Stage

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping

    from eaa.eventlog.model import EventLog
    from eaa.rats import Check

__all__ = [
    "CONTENT",
    "REPLAY",
    "RULES",
    "UNATTESTED",
    "check_attested",
    "check_content",
    "check_event_log",
    "check_replay",
]

_PFP: Final = "TCG PC Client Platform Firmware Profile 1.06"
_MAX_NAMED: Final = 5

REPLAY: Final[Mapping[str, Rule]] = {
    name: Rule(
        f"eventlog.replay.{name}",
        Stage.AUTHENTICITY,
        f"The event log replays to {title}",
        source,
        "Do not believe this event log: send the whole log of this very boot, with every event since the machine started.",
    )
    for name, title, source in (
        *((f"rtmr_{n}", f"RTMR {n}", "UEFI 2.10, 38.4 (confidential computing)") for n in range(4)),
        *((f"pcr{n:02d}", f"PCR {n}", f"{_PFP}, 10.1") for n in range(24)),
    )
}
"""The rule of each register that a log can speak of."""
UNATTESTED: Final = Rule(
    "eventlog.unattested",
    Stage.AUTHENTICITY,
    "Every register that the event log speaks of is attested",
    f"{_PFP}, 10.1",
    "Have the quote cover these registers too; until then nobody vouches for what the log says about them.",
)
CONTENT: Final = Rule(
    "eventlog.content",
    Stage.AUTHENTICITY,
    "Where a digest is of the event's own content, the content is what was measured",
    f"{_PFP}, 10.4.1 (table of event types)",
    "Do not believe this event log: its text was changed after the measurement, or a program logged what it did not measure.",
)
RULES: Final[tuple[Rule, ...]] = (*REPLAY.values(), UNATTESTED, CONTENT)
"""All of them."""


def check_event_log(
    log: EventLog, registers: Mapping[str, bytes], algorithm: str, *, optional: Container[str] = ()
) -> tuple[Check, ...]:
    """Check a log against the registers of signed evidence: ``rtmr_0`` … ``rtmr_3`` or ``pcr00`` … ``pcr23``, of one bank.

    :raises ValueError: when a name is no register; that is the caller's mistake and not the log's.
    """
    return (
        *check_replay(log, registers, algorithm, optional=optional),
        check_attested(log, registers),
        check_content(log),
    )


def check_replay(
    log: EventLog, registers: Mapping[str, bytes], algorithm: str, *, optional: Container[str] = ()
) -> tuple[Check, ...]:
    """Check that the log replays to each of these registers of one bank.

    A register that was extended and of which the log has no event at all cannot be checked: whoever sent the log left its events out, or
    a program extended it without logging. That is "not made", and blocks, unless the register is in ``optional`` (such as RTMR 3,
    which many guests extend without an entry): then it is a warning.

    :raises ValueError: when a name is no register; that is the caller's mistake and not the log's.
    """
    indexes = {name: register_index(name) for name in registers}
    replayable = algorithm in log.algorithms and algorithm in BY_NAME
    replayed = log.replay(algorithm) if replayable else {}
    return tuple(
        _replay(log, name, indexes[name], value, algorithm, replayed, optional=name in optional)
        if replayable
        else REPLAY[name].not_made(
            value.hex(), f"the log has no bank of {algorithm}, only {', '.join(log.algorithms)}"
        )
        for name, value in registers.items()
    )


def _replay(
    log: EventLog,
    name: str,
    index: int,
    value: bytes,
    algorithm: str,
    replayed: Mapping[int, bytes],
    *,
    optional: bool,
) -> Check:
    rule = REPLAY[name]
    if index in replayed:
        return rule.holds(replayed[index] == value, value.hex(), replayed[index].hex())
    if value == log.initial(index, algorithm):
        return rule.passed(value.hex(), "never extended, and no event says otherwise")
    missing = f"the register was extended to {value.hex()}, and the log has no event of it"
    return (rule.warned if optional else rule.not_made)("an event for each extension", missing)


def check_attested(log: EventLog, registers: Iterable[str]) -> Check:
    """Check that the log speaks of no register but these.

    :raises ValueError: as :func:`check_replay` does.
    """
    attested = {register_index(name) for name in registers}
    count: dict[str, int] = {}
    for event in log.extending():
        if event.register not in attested:
            name = log.name_of(event)
            count[name] = count.get(name, 0) + 1
    if not count:
        return UNATTESTED.passed("none besides", "none")
    listed = ", ".join(f"{number} of {name}" for name, number in sorted(count.items()))
    return UNATTESTED.warned("none besides the attested registers", f"events: {listed}")


def check_content(log: EventLog) -> Check:
    """Hold the content of each event to its digests, where they are of that content."""
    proven = total = 0
    wrong = []
    for event in log.extending():
        total += 1
        finding = event.finding
        if finding.authenticity is Authenticity.CONTENT:
            proven += 1
        elif finding.authenticity is Authenticity.MISMATCH:
            wrong.append(f"event {event.number} ({log.name_of(event)}, {event.type_name}): {finding.covers}")
    expected = "no event whose digest should be that of its content and is not"
    if not wrong:
        unknown = total - proven
        return CONTENT.passed(
            expected, f"{proven} of {total} events proven; {unknown} speak of what is not in the log"
        )
    more = f"; and {len(wrong) - _MAX_NAMED} more" if len(wrong) > _MAX_NAMED else ""
    return CONTENT.failed(expected, "; ".join(wrong[:_MAX_NAMED]) + more)
