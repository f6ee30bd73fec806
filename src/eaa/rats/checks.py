# SPDX-License-Identifier: Apache-2.0
"""Checks: the atoms of a verdict.

A :class:`Rule` is static: what is compared, where the rule comes from, what to do when it fails. A :class:`Check` is one
application of a rule to one piece of evidence: its result, what was expected and what was found. Explanations are rendered
from checks and are never written a second time.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

__all__ = ["Check", "Result", "Rule", "Stage"]


class Result(StrEnum):
    """Outcome of one check."""

    PASS = "pass"  # noqa: S105 - a verdict, not a password
    FAIL = "fail"
    WARN = "warn"
    NOT_APPLICABLE = "not-applicable"
    NOT_MADE = "not-made"
    """The check applies but could not be made, because something it needs is missing. It never counts as passed."""


class Stage(StrEnum):
    """Which of the questions a rule helps to answer."""

    AUTHENTICITY = "authenticity"
    """Is it real? Formats, signatures, chains, revocation, dates, a known TCB level."""
    BINDING = "binding"
    """Is it the answer to *this* challenge?"""
    POSTURE = "posture"
    """Is this TEE in a state its owner may rely on? Debug, TCB status, attributes."""
    REFERENCE = "reference"
    """Is it the software that the owner expects?"""
    POLICY = "policy"
    """Does the owner's policy allow it?"""


@dataclass(frozen=True, slots=True)
class Rule:
    """A named rule.

    ``id`` is stable (``dcap.qe.identity``), ``source`` cites the specification the rule comes from, ``remedy`` says in one
    sentence what to do when it does not hold.
    """

    id: str
    stage: Stage
    title: str
    source: str
    remedy: str

    def holds(self, ok: bool, expected: str, found: str) -> Check:  # noqa: FBT001 - reads as a sentence at the call
        """Return a check that passes when ``ok``, else fails."""
        return Check(self, Result.PASS if ok else Result.FAIL, expected, found)

    def passed(self, expected: str, found: str) -> Check:
        """Return a passing check."""
        return Check(self, Result.PASS, expected, found)

    def failed(self, expected: str, found: str) -> Check:
        """Return a failing check."""
        return Check(self, Result.FAIL, expected, found)

    def warned(self, expected: str, found: str) -> Check:
        """Return a check that does not reject, but that the owner should read."""
        return Check(self, Result.WARN, expected, found)

    def not_made(self, expected: str, missing: str) -> Check:
        """Return a check that could not be made because ``missing`` is missing."""
        return Check(self, Result.NOT_MADE, expected, missing)

    def not_applicable(self, why: str) -> Check:
        """Return a check that does not apply to this evidence."""
        return Check(self, Result.NOT_APPLICABLE, "", why)


class Check(NamedTuple):
    """One rule applied to one piece of evidence. ``expected`` and ``found`` are text for a reader, never secrets."""

    rule: Rule
    result: Result
    expected: str
    found: str

    @property
    def id(self) -> str:
        """The rule's stable id."""
        return self.rule.id

    @property
    def blocks(self) -> bool:
        """Whether this check alone keeps evidence from being accepted."""
        return self.result is Result.FAIL or self.result is Result.NOT_MADE

    def to_json(self) -> dict[str, str]:
        """Return the check as plain JSON values, self-explaining without this program."""
        return {
            "id": self.rule.id,
            "stage": self.rule.stage.value,
            "result": self.result.value,
            "title": self.rule.title,
            "expected": self.expected,
            "found": self.found,
            "source": self.rule.source,
            "remedy": self.rule.remedy if self.blocks or self.result is Result.WARN else "",
        }
