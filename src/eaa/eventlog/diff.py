# SPDX-License-Identifier: Apache-2.0
"""What two boots did differently: which event moved which register, and what changed in it, in words."""

from __future__ import annotations

from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.explain import explain
from eaa.rats import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eaa.eventlog.model import Event, EventLog

__all__ = ["Change", "LogDifference", "RegisterDifference", "diff"]

_MAX_PRODUCT: Final = 1_000_000
"""Of the lengths of two stretches that are aligned in the best way, which costs their product; longer ones go side by side."""
_SHORT: Final = 8


class Change(NamedTuple):
    """One event that is not the same: changed, or only ``before`` (removed), or only ``after`` (added)."""

    before: Event | None
    after: Event | None

    @property
    def kind(self) -> str:
        """``changed``, ``removed`` or ``added``."""
        if self.before is None:
            return "added"
        return "removed" if self.after is None else "changed"

    def words(self) -> str:
        """Say what changed, on one line."""
        if self.before is None or self.after is None:
            event = self.after or self.before
            assert event is not None
            return f"{self.kind}: {explain(event)}"
        old, new = explain(self.before), explain(self.after)
        if old != new:
            return f"{old} became {new}"
        return f"{new}: other content, digest {_short(self.before)} became {_short(self.after)}"

    def to_json(self) -> dict[str, Any]:
        """Return the change as plain JSON values."""
        return {
            "kind": self.kind,
            "words": self.words(),
            "before": _event_json(self.before),
            "after": _event_json(self.after),
        }


class RegisterDifference(NamedTuple):
    """One register in both logs. ``changes`` are in the order of the logs: the first is what moved the register."""

    name: str
    before: bytes
    after: bytes
    changes: tuple[Change, ...]

    @property
    def moved(self) -> bool:
        """Whether the register ends in another value."""
        return self.before != self.after

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain JSON values."""
        return {
            "name": self.name,
            "moved": self.moved,
            "before": self.before.hex(),
            "after": self.after.hex(),
            "changes": [change.to_json() for change in self.changes],
        }


@dataclass(frozen=True, slots=True)
class LogDifference:
    """Two logs register by register, in one bank. ``registers`` holds all that either log speaks of, by number."""

    algorithm: str
    registers: tuple[RegisterDifference, ...]

    @property
    def same(self) -> bool:
        """Whether every register ends in the same value."""
        return not self.moved

    @property
    def moved(self) -> tuple[RegisterDifference, ...]:
        """The registers that differ, the one that was moved first at the head."""
        moved = (each for each in self.registers if each.moved)
        return tuple(sorted(moved, key=lambda each: _number(each.changes)))

    def to_json(self) -> dict[str, Any]:
        """Return the difference as plain JSON values."""
        return {
            "same": self.same,
            "algorithm": self.algorithm,
            "moved": [each.name for each in self.moved],
            "registers": [each.to_json() for each in self.registers],
        }


def diff(before: EventLog, after: EventLog) -> LogDifference:
    """Compare two logs in the strongest bank that both have.

    :raises EvidenceError: when they have no bank in common, or one speaks of PCRs and the other of RTMRs.
    """
    if before.registers is not after.registers:
        raise EvidenceError(
            "one event log is of a TPM, the other of a confidential VM's own registers",
            check="eventlog.diff",
            hint="Compare logs of the same kind.",
        )
    banks = [name for name in before.algorithms if name in after.algorithms and name in BY_NAME]
    if not banks:
        raise EvidenceError(
            "the two event logs have no bank in common",
            check="eventlog.diff",
            hint="Compare logs of one machine type.",
        )
    algorithm = max(banks, key=lambda name: BY_NAME[name].size)
    old, new = before.replay(algorithm), after.replay(algorithm)
    registers = []
    for index in sorted(old.keys() | new.keys()):
        pair = [[each for each in log.extending() if each.register == index] for log in (before, after)]
        registers.append(
            RegisterDifference(
                before.registers.name_of(index),
                old.get(index) or before.initial(index, algorithm),
                new.get(index) or after.initial(index, algorithm),
                tuple(_changes(pair[0], pair[1], algorithm)),
            )
        )
    return LogDifference(algorithm, tuple(registers))


def _changes(old: list[Event], new: list[Event], algorithm: str) -> Iterator[Change]:
    """Align by what was extended; where that differs, by what the log says of it."""
    digests = [[event.digests[algorithm] for event in events] for events in (old, new)]
    for before, after in _differing(old, new, digests[0], digests[1]):
        texts = [[explain(event) for event in events] for events in (before, after)]
        yield from _pairs(before, after, texts[0], texts[1])


def _differing(
    old: Sequence[Event], new: Sequence[Event], old_keys: list[Any], new_keys: list[Any]
) -> Iterator[tuple[Sequence[Event], Sequence[Event]]]:
    for tag, i1, i2, j1, j2 in _blocks(old_keys, new_keys):
        if tag != "equal":
            yield old[i1:i2], new[j1:j2]


def _pairs(
    old: Sequence[Event], new: Sequence[Event], old_texts: list[str], new_texts: list[str]
) -> Iterator[Change]:
    for _, i1, i2, j1, j2 in _blocks(old_texts, new_texts):
        for offset in range(max(i2 - i1, j2 - j1)):
            before = old[i1 + offset] if i1 + offset < i2 else None
            after = new[j1 + offset] if j1 + offset < j2 else None
            if before is not None and after is not None and before.type != after.type:
                yield Change(before, None)
                yield Change(None, after)
            else:
                yield Change(before, after)


def _blocks(old: list[Any], new: list[Any]) -> Iterator[tuple[str, int, int, int, int]]:
    """Yield stretches as difflib does. What both begin with is cut off first: boots mostly differ late."""
    start = 0
    while start < min(len(old), len(new)) and old[start] == new[start]:
        start += 1
    if start:
        yield "equal", 0, start, 0, start
    left, right = old[start:], new[start:]
    if len(left) * len(right) > _MAX_PRODUCT:
        yield "replace", start, len(old), start, len(new)
        return
    for tag, i1, i2, j1, j2 in SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        yield tag, start + i1, start + i2, start + j1, start + j2


def _number(changes: Sequence[Change]) -> int:
    event = (changes[0].after or changes[0].before) if changes else None
    return 0 if event is None else event.number


def _short(event: Event) -> str:
    *_, digest = event.digests.values()
    return f"{digest[:_SHORT].hex()}…"


def _event_json(event: Event | None) -> dict[str, Any] | None:
    if event is None:
        return None
    return {
        "number": event.number,
        "type": event.type_name,
        "explanation": explain(event),
        "authenticity": event.authenticity.value,
        "digests": {name: digest.hex() for name, digest in event.digests.items()},
    }
