# SPDX-License-Identifier: Apache-2.0
"""Who may see what of a verdict: the owner all of it, the guest nothing of what the owner expects.

Guests see which checks failed, and for the checks of the hardware what was expected and found. What the owner expects of the
software (reference values, policies) is the owner's; of those checks guests see id, title and remedy. Works on the JSON form, so
that a server's refusal, a recorded verdict and a file are redacted by one rule. Pure.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from eaa.rats.checks import Stage

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["redact", "redacted_checks"]

MAX_TEXT: Final = 200
"""Characters of one ``expected`` or ``found``; evidence is a stranger's, and so is its text."""
_HARDWARE: Final = frozenset({Stage.AUTHENTICITY.value, Stage.BINDING.value, Stage.POSTURE.value})
_CHECK: Final = ("id", "stage", "result", "title", "source", "remedy")
_APPRAISAL: Final = ("accepted", "tee", "at", "tcb_status", "advisory_ids", "simulated", "failed_checks")
_VERDICT: Final = (
    "id",
    "at",
    "tee",
    "accepted",
    "status",
    "simulated",
    "failed_checks",
    "request_id",
    "error",
)


def redact(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a guest may see of an appraisal, of a verdict, or of a verdict on record, each given as its JSON."""
    if "checks" in document:
        return _named(document, _APPRAISAL) | {"checks": list(redacted_checks(document["checks"]))}
    inner = {name: redact(document[name]) for name in ("appraisal", "document") if name in document}
    return _named(document, _VERDICT) | inner


def redacted_checks(checks: Iterable[Mapping[str, Any]]) -> tuple[dict[str, str], ...]:
    """Return checks, given as their JSON, as a guest may see them. A stage that is not known is taken for the owner's."""
    return tuple(
        {name: str(check.get(name, "")) for name in _CHECK}
        | (
            {name: _short(str(check.get(name, ""))) for name in ("expected", "found")}
            if check.get("stage") in _HARDWARE
            else {}
        )
        for check in checks
    )


def _named(document: Mapping[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: document[name] for name in names if name in document}


def _short(text: str) -> str:
    clean = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return clean if len(clean) <= MAX_TEXT else f"{clean[: MAX_TEXT - 1]}…"
