# SPDX-License-Identifier: Apache-2.0
"""What a person sees while the story is played."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.padding import Padding
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from eaa.cli._demo.sides import Explanation
    from eaa.cli._demo.story import Act, Outcome

__all__ = ["Narrator"]


class Narrator:
    """Tells each act while it runs, what it came to, and a table of them all at the end."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._took = 0.0

    @contextmanager
    def during(self, act: Act) -> Iterator[None]:
        """Show that ``act`` is going on."""
        began = time.monotonic()
        with self._console.status(Text(act.title)):
            yield
        self._took = time.monotonic() - began

    def after(self, act: Act, outcome: Outcome) -> None:
        """Tell what ``act`` came to, with the explanation that a user gets."""
        line = _mark(held=outcome.held)
        line.append(f" {act.title}", style="bold")
        line.append(f"  {self._took:.1f} s", style="dim")
        self._console.print(line)
        self._console.print(Padding(Text(outcome.seen), (0, 0, 0, 4), expand=False))
        if outcome.explanations:
            self._explain(outcome.explanations)

    def end(self, results: Sequence[tuple[Act, Outcome]], seconds: float) -> None:
        """Print the table of all acts, and whether all of them held."""
        table = Table(title="What was expected, and what was seen", title_justify="left", pad_edge=False)
        for heading in ("", "step", "expected", "seen"):
            table.add_column(heading, overflow="fold")
        for act, outcome in results:
            table.add_row(_mark(held=outcome.held), Text(act.title), Text(act.expected), Text(outcome.seen))
        self._console.print()
        self._console.print(table)
        failed = sum(not outcome.held for _, outcome in results)
        said = (
            f"{len(results)} steps, {failed} not as expected"
            if failed
            else f"all {len(results)} steps as expected"
        )
        self._console.print(Text(f"{said}, in {seconds:.0f} s", style="bold red" if failed else "bold green"))

    def _explain(self, explanations: Sequence[Explanation]) -> None:
        first, *others = explanations
        grid = Table.grid(padding=(0, 2))
        grid.add_column(style="dim")
        grid.add_column(overflow="fold")
        for name, value in first._asdict().items():
            if value:
                grid.add_row(name, Text(value))
        if others:
            grid.add_row("also", Text(", ".join(each.check for each in others)))
        self._console.print(Padding(grid, (0, 0, 0, 4), expand=False))


def _mark(*, held: bool) -> Text:
    return Text("✓", style="green") if held else Text("✗", style="red")
