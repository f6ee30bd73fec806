#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Mount every attack of the table, print how each went, and write docs/attacks.md from the tests.

What the table says of a row is read from the marker of its test in tests/attacks (literals only), and nowhere else. The page is
written only when no row failed.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[1]
TESTS = ROOT / "tests" / "attacks"
PAGE = ROOT / "docs" / "attacks.md"

HEAD = """\
<!-- Made by `make attacks` from tests/attacks: change the tests, not this page. -->

# Attacks rejected

Each row is an attack or a defect that has really happened to somebody. Its test mounts it, on the library and on a whole Verdictd where
that applies, with evidence of a [chip maker in software](simulator.md), and holds that it is refused **by the named check** and that no secret leaves;
its twin, the same without the attack, passes. `make attacks` runs them all; so does `make test`.

What a check means, its source and its remedy: [Checks](reference/checks.md).

"""


@dataclass(frozen=True)
class Row:
    """One row. Either ``test`` and ``checks`` are there, or the ``reason`` for which it is pending."""

    name: str
    title: str
    instance: str
    file: str
    test: str = ""
    checks: tuple[str, ...] = ()
    open: str = ""
    reason: str = ""

    @property
    def order(self) -> tuple[str, int]:
        """A before B, then by number."""
        return self.name[0], int(self.name[1:])


def read_rows() -> list[Row]:
    """Return every row that the tests declare, in the table's order."""
    rows: list[Row] = []
    for path in sorted(TESTS.rglob("test_*.py")):
        file = str(path.relative_to(ROOT))
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            rows.extend(_declared(node, file))
    return sorted(rows, key=lambda row: row.order)


def _declared(node: ast.stmt, file: str) -> Iterator[Row]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        for mark in node.decorator_list:
            if isinstance(mark, ast.Call) and ast.unparse(mark.func) == "pytest.mark.attack":
                members = {each.arg: ast.literal_eval(each.value) for each in mark.keywords if each.arg}
                yield Row(ast.literal_eval(mark.args[0]), file=file, test=node.name, **members)
    if isinstance(node, ast.AnnAssign) and ast.unparse(node.target) == "PENDING" and node.value is not None:
        for each in ast.literal_eval(node.value):
            yield Row(each.pop("row"), file=file, **each)


def render(rows: list[Row]) -> str:
    """Return the page."""
    done = [row for row in rows if not row.reason]
    pending = [row for row in rows if row.reason]
    parts = [HEAD, f"{len(done)} of {len(rows)} are rejected"]
    parts.append(f"; {len(pending)} wait for parts that EAA does not have yet.\n" if pending else ".\n")
    for letter, title in (("A", "Evidence and endorsements"), ("B", "Protocol, tokens and service")):
        parts.append(f"\n## {title}\n\n| | Attack | It happened to | Refused by |\n|---|---|---|---|\n")
        for row in rows:
            if row.name.startswith(letter):
                cells = (row.name, row.title, row.instance, _refused_by(row))
                parts.append(f"| {' | '.join(cells)} |\n")
    return "".join(parts)


def _refused_by(row: Row) -> str:
    if row.reason:
        return f"*pending:* {row.reason}"
    checks = ", ".join(f"`{check}`" for check in row.checks)
    still = f"; *still open:* {row.open}" if row.open else ""
    return f"{checks} ([test](../{row.file})){still}"


class Results:
    """A pytest plugin that remembers how each test went."""

    def __init__(self) -> None:
        self.outcome: dict[str, str] = {}

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Keep the worst outcome of a test's phases."""
        name = report.nodeid.rpartition("::")[2]
        if report.failed or report.when == "call":
            self.outcome[name] = "failed" if report.failed else self.outcome.get(name, report.outcome)


def main() -> int:
    """Run, print, write; return pytest's verdict."""
    import pytest  # noqa: PLC0415 - the documentation's test imports this file without running it

    results = Results()
    code = int(
        pytest.main(
            [str(TESTS), "--quiet", "--no-header", "-r", "fE", "--show-capture=no"], plugins=[results]
        )
    )
    rows = read_rows()
    words = {"passed": "rejected", "failed": "NOT REJECTED"}
    print()
    for row in rows:
        result = "pending" if row.reason else words.get(results.outcome.get(row.test, ""), "not run")
        print(f"  {row.name:4} {result:13} {row.title}")
        print(f"       {'':13} {row.reason or ', '.join(row.checks)}")
    # The page itself is judged by a test; it may be what is out of date.
    if all(results.outcome.get(row.test) == "passed" for row in rows if not row.reason):
        page = render(rows)
        if not PAGE.exists() or PAGE.read_text(encoding="utf-8") != page:
            PAGE.write_text(page, encoding="utf-8")
            print(f"\nwritten: {PAGE.relative_to(ROOT)}")
            failed = {name for name, outcome in results.outcome.items() if outcome == "failed"}
            return 0 if failed <= {"test_the_documentation_is_current"} else code
    return code


if __name__ == "__main__":
    sys.exit(main())
