# SPDX-License-Identifier: Apache-2.0
"""Write docs/reference/checks.md from the rules in the code, or check that it is current.

Without ``--write`` the exit status is 1 when the page differs from the rules.
"""

from __future__ import annotations

import importlib
import pkgutil
import sys
from collections.abc import Mapping
from itertools import groupby
from pathlib import Path

import eaa
from eaa.rats import Rule, Stage
from eaa.tee.registry import kinds
from eaa.verifier.reference import rules_of

PAGE = Path(__file__).parents[1] / "docs" / "reference" / "checks.md"
SKIPPED = (
    "eaa._proto",
    "eaa.cli",
    "eaa.simulator",
    *(f"eaa.{package}.migrations" for package in ("storage", "endorser", "verdict")),
)
HEADINGS = {
    Stage.AUTHENTICITY: "Is it real?",
    Stage.BINDING: "Is it the answer to this challenge?",
    Stage.POSTURE: "Is it in a state its owner may rely on?",
    Stage.REFERENCE: "Is it the software that the owner expects?",
    Stage.POLICY: "Does the owner's policy allow it?",
}


def rules() -> list[Rule]:
    """Return every rule of every module, each once, by id."""
    found: dict[str, Rule] = {}
    for module in pkgutil.walk_packages(eaa.__path__, "eaa.", onerror=lambda _: None):
        if module.name.startswith(SKIPPED):
            continue
        for value in vars(importlib.import_module(module.name)).values():
            several = value.values() if isinstance(value, Mapping) else (value,)
            found |= {each.id: each for each in several if isinstance(each, Rule)}
    for name in kinds():
        found |= {rule.id: rule for rule in rules_of(name).values()}
    return sorted(found.values(), key=lambda rule: (list(Stage).index(rule.stage), rule.id))


def page() -> str:
    """Return the text of the page."""
    lines = [
        "# Checks",
        "",
        "A verdict is a list of checks. Each has a stable id, the source of its rule, and a remedy in one sentence. A check that",
        "fails, or that applies and could not be made, keeps evidence from being accepted.",
        "",
        "This page is written by `scripts/checks_in_docs.py` from the rules in the code.",
    ]
    for stage, group in groupby(rules(), key=lambda rule: rule.stage):
        lines += ["", f"## {HEADINGS[stage]}", ""]
        for rule in group:
            lines += [
                f"**`{rule.id}`** {rule.title}.  ",
                f"Source: {rule.source}.  ",
                f"Remedy: {rule.remedy}",
                "",
            ]
        lines.pop()
    return "\n".join(lines) + "\n"


def main() -> int:
    """Check or write the page."""
    text = page()
    if sys.argv[1:] == ["--write"]:
        PAGE.parent.mkdir(parents=True, exist_ok=True)
        PAGE.write_text(text)
        return 0
    if not PAGE.is_file() or PAGE.read_text() != text:
        print(
            "docs/reference/checks.md differs from the rules; run: .venv/bin/python scripts/checks_in_docs.py --write"
        )
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
