# SPDX-License-Identifier: Apache-2.0
"""Which input changed when a register did: the inputs that a signed set names, against the event log that came with the evidence. Pure."""

from __future__ import annotations

from itertools import zip_longest
from typing import TYPE_CHECKING, Final

from eaa.eventlog import parse_event_log
from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eaa.rats import Appraisal
    from eaa.verifier.expected_sets import MeasuredInput

__all__ = ["differences", "logged_digests"]

_CONSTANT: Final = "constant"
"""What the inputs of a register call an event that is the same for everything that boots this way."""


def differences(inputs: Sequence[MeasuredInput], logged: Sequence[str] | None) -> str:
    """Say which inputs of a register differ; empty when nothing is known of what it was made of.

    With ``logged``, the digests of the register's events in their order, the inputs that differ are named; without, those from which the
    register follows.
    """
    if not inputs:
        return ""
    if logged is None:
        names = _names(each.name for each in inputs if each.name != _CONSTANT)
        return f"it follows from {names}" if names else ""
    pairs = list(zip_longest(inputs, logged))
    if len(inputs) != len(logged):
        # What was inserted or left out shifts all that follows: only the first difference says something.
        pairs = next(([each] for each in pairs if _differs(*each)), [])
    differing = [given for given, digest in pairs if _differs(given, digest)]
    if not differing:
        return ""
    if differing[0] is None:
        return "something was measured after the last input"
    named = _names(each.name for each in differing if each is not None)
    many = len({each.name for each in differing if each is not None}) > 1
    return f"{named} {'differ' if many else 'differs'}"


def _differs(given: MeasuredInput | None, digest: str | None) -> bool:
    return given is None or given.digest != digest


def _names(names: Iterable[str]) -> str:
    return ", ".join(dict.fromkeys(names))


def logged_digests(appraisal: Appraisal) -> Mapping[str, Sequence[str]]:
    """Return the digests that the evidence's event log has for each register; none unless the log was proven by the registers."""
    log = getattr(appraisal.evidence, "event_log", b"")
    checks = [each for each in appraisal.checks if each.id.startswith("eventlog.")]
    if not isinstance(log, bytes) or not log or not checks or any(each.blocks for each in checks):
        return {}
    try:
        parsed = parse_event_log(log)
    except InputError:
        return {}
    digests: dict[str, list[str]] = {}
    for event in parsed.extending():
        name = parsed.registers.name_of(event.register)
        size = len(appraisal.evidence.measurements.get(name, ""))
        of_bank = next((each.hex() for each in event.digests.values() if len(each) * 2 == size), None)
        if of_bank is not None:
            digests.setdefault(name, []).append(of_bank)
    return digests
