# SPDX-License-Identifier: Apache-2.0
"""Appraisals for people: what was decided, then the checks as a tree, one branch for each question, every reason against it first.

Works on the JSON form of an appraisal or a verdict, so that one stored years ago, or sent by a server, reads just like a fresh
one; and on what is left of it for a guest, where some checks have no ``expected`` and ``found``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["appraisal_lines", "evidence_lines", "verdict_lines"]

_MARKS: Final = {
    "fail": ("✗", "red"),
    "not-made": ("?", "yellow"),
    "warn": ("!", "yellow"),
    "pass": ("✓", "green"),
    "not-applicable": ("-", "bright_black"),
}
_ORDER: Final = tuple(_MARKS)
_BLOCKING: Final = ("fail", "not-made")
_COUNTED: Final = {
    "fail": "failed",
    "not-made": "not made",
    "warn": "to be read",
    "pass": "passed",
    "not-applicable": "not applicable",
}
_QUESTIONS: Final = {
    "authenticity": "Is it real?",
    "binding": "Is it the answer to this challenge?",
    "posture": "Is it in a state its owner may rely on?",
    "reference": "Is it the software that the owner expects?",
    "policy": "Does the owner's policy allow it?",
}
_WIDTH: Final = 400
"""Characters of one text: long enough for every component that falls short, short enough for a hostile certificate name."""


def verdict_lines(verdict: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    """Yield the lines of a verdict on record, or of any document that holds an appraisal."""
    document = verdict.get("document", verdict)
    appraisal = document if "checks" in document else document.get("appraisal")
    if appraisal is None:
        yield from _unreadable(verdict, document)
        return
    yield from appraisal_lines(appraisal, full=full, about=tuple(_about(verdict, document)))
    for release in verdict.get("releases", ()):
        yield f"  released {_plain(release['path'])} version {release['resource_version']} at {release['at']}"


def appraisal_lines(appraisal: Mapping[str, Any], *, full: bool, about: Sequence[str] = ()) -> Iterator[str]:
    """Yield the lines of one appraisal, ``about`` below its headline.

    ``full`` shows what was expected and found of every check, and not only of those in the way.
    """
    yield _headline(appraisal)
    status = appraisal.get("tcb_status")
    yield f"  TEE {_plain(appraisal['tee'])}, judged as of {_plain(appraisal['at'])}" + (
        f", TCB status {_plain(status)}" if status else ""
    )
    yield from (f"  {line}" for line in about)
    if appraisal.get("simulated"):
        yield click.style(
            "  Simulated: the root of trust is a chip maker in software, not hardware.", fg="yellow"
        )
    stages: dict[str, list[Mapping[str, Any]]] = {stage: [] for stage in _QUESTIONS}
    for check in appraisal["checks"]:
        stages.setdefault(check.get("stage", ""), []).append(check)
    answered = [(stage, checks) for stage, checks in stages.items() if checks]
    for stage, checks in sorted(answered, key=lambda each: not _blocks(each[1])):
        yield ""
        yield from _stage_lines(stage, checks, full=full)


def evidence_lines(claims: Mapping[str, Any]) -> Iterator[str]:
    """Yield what evidence says about itself, which nobody has verified by saying it."""
    yield click.style(f"{claims['tee'].upper()} evidence; unverified, this is what it says", bold=True)
    yield f"  report_data: {claims['report_data']}"
    yield f"  debug: {'yes' if claims['debug'] else 'no'}"
    for name, value in claims["measurements"].items():
        if name != "report_data":
            yield f"  {_plain(name)}: {_plain(value)}"


def _about(verdict: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a verdict says beside its checks, as far as it is there."""
    known = {**document, **verdict}
    if "id" in known:
        request = f", request {_plain(known['request_id'])}" if known.get("request_id") else ""
        yield f"verdict {_plain(known['id'])}{request}"
    if known.get("status"):
        vector = document.get("trust_vector", {})
        claims = ", ".join(f"{_plain(name)} {value}" for name, value in vector.items() if value)
        yield f"status {_plain(known['status'])}" + (f": {claims}" if claims else "")
    if document.get("policy_id"):
        yield f"policy {_plain(document['policy_id'])}, SHA-384 {_plain(document.get('policy_digest', ''))[:16]}…"


def _unreadable(verdict: Mapping[str, Any], document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of a verdict on evidence that could not be read, so that there was nothing to check."""
    yield click.style("REJECTED", fg="red", bold=True)
    error = document.get("error", {})
    yield f"  the evidence could not be read: {_plain(error.get('message', 'it is not said why'))} ({_plain(error.get('check', ''))})"
    yield from (f"  {line}" for line in _about(verdict, document))


def _headline(appraisal: Mapping[str, Any]) -> str:
    if appraisal["accepted"]:
        return click.style("ACCEPTED", fg="green", bold=True)
    results = {check["result"] for check in appraisal["checks"]}
    if "fail" in results:
        return click.style("REJECTED", fg="red", bold=True)
    return click.style("CANNOT TELL: something that is needed is missing", fg="yellow", bold=True)


def _blocks(checks: Sequence[Mapping[str, Any]]) -> bool:
    return any(check["result"] in _BLOCKING for check in checks)


def _stage_lines(stage: str, checks: Sequence[Mapping[str, Any]], *, full: bool) -> Iterator[str]:
    """Yield one branch: its question and counts, then its checks, the worst first."""
    results = [check["result"] for check in checks]
    counts = ", ".join(
        f"{results.count(result)} {word}" for result, word in _COUNTED.items() if result in results
    )
    yield f"{click.style(_QUESTIONS.get(stage, _plain(stage)), bold=True)} {counts}"
    for check in sorted(checks, key=lambda each: _ORDER.index(each["result"])):
        in_the_way = check["result"] in (*_BLOCKING, "warn")
        yield from _reason(check) if full or in_the_way else [_line(check)]


def _line(check: Mapping[str, Any]) -> str:
    mark, colour = _MARKS[check["result"]]
    return f"  {click.style(mark, fg=colour)} {_plain(check['id']):<32} {_plain(check['title'])}"


def _reason(check: Mapping[str, Any]) -> Iterator[str]:
    yield _line(check)
    for name in ("expected", "found", "source"):
        if check.get(name):
            yield f"      {name + ':':<10}{_plain(check[name])}"
    if check.get("remedy"):
        yield f"      {'remedy:':<10}{click.style(_plain(check['remedy']), bold=True)}"


def _plain(value: object) -> str:
    """Return text that is safe to show: a certificate or an event log may hold what would steer a terminal."""
    text = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(value))
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
