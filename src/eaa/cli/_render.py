# SPDX-License-Identifier: Apache-2.0
"""Appraisals for people: what was decided, every reason against it first, then everything that holds.

Works on the JSON form of an appraisal, so that a verdict stored years ago, or sent by a server, reads just like a fresh one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["appraisal_lines", "evidence_lines"]

_MARKS: Final = {
    "fail": ("✗", "red"),
    "not-made": ("?", "yellow"),
    "warn": ("!", "yellow"),
    "pass": ("✓", "green"),
    "not-applicable": ("-", "bright_black"),
}
_BLOCKING: Final = ("fail", "not-made")
_WIDTH: Final = 160


def appraisal_lines(appraisal: Mapping[str, Any], *, full: bool) -> Iterator[str]:
    """Yield the lines of one appraisal. ``full`` shows what was expected and found of every check, not only of those in the way."""
    yield _headline(appraisal)
    status = appraisal.get("tcb_status")
    yield f"  TEE {appraisal['tee']}, judged as of {appraisal['at']}" + (
        f", TCB status {status}" if status else ""
    )
    if appraisal.get("simulated"):
        yield click.style(
            "  Simulated: the root of trust is a chip maker in software, not hardware.", fg="yellow"
        )
    checks = appraisal["checks"]
    blocking = [check for result in _BLOCKING for check in checks if check["result"] == result]
    for check in blocking:
        yield ""
        yield from _reason(check)
    yield ""
    for check in checks:
        if check["result"] not in _BLOCKING:
            yield from _reason(check) if full or check["result"] == "warn" else [_line(check)]


def evidence_lines(claims: Mapping[str, Any]) -> Iterator[str]:
    """Yield what evidence says about itself, which nobody has verified by saying it."""
    yield click.style(f"{claims['tee'].upper()} evidence; unverified, this is what it says", bold=True)
    yield f"  report_data: {claims['report_data']}"
    yield f"  debug: {'yes' if claims['debug'] else 'no'}"
    for name, value in claims["measurements"].items():
        yield f"  {name}: {value}"


def _headline(appraisal: Mapping[str, Any]) -> str:
    if appraisal["accepted"]:
        return click.style("ACCEPTED", fg="green", bold=True)
    results = {check["result"] for check in appraisal["checks"]}
    if "fail" in results:
        return click.style("REJECTED", fg="red", bold=True)
    return click.style("CANNOT TELL: something that is needed is missing", fg="yellow", bold=True)


def _line(check: Mapping[str, str]) -> str:
    mark, colour = _MARKS[check["result"]]
    return f"  {click.style(mark, fg=colour)} {check['id']:<32} {check['title']}"


def _reason(check: Mapping[str, str]) -> Iterator[str]:
    yield _line(check)
    for name in ("expected", "found", "source"):
        if check[name]:
            yield f"      {name + ':':<10}{_short(check[name])}"
    if check["remedy"]:
        yield f"      {'remedy:':<10}{click.style(check['remedy'], bold=True)}"


def _short(text: str) -> str:
    return text if len(text) <= _WIDTH else f"{text[: _WIDTH - 1]}…"
