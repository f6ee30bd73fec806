# SPDX-License-Identifier: Apache-2.0
"""Tables for people, of what the administration lists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eaa.cli._options import console

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["print_table"]


def print_table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, empty: str) -> None:
    """Print one row per mapping under the named columns, or the sentence ``empty``; long values are folded, never cut."""
    listed = list(rows)
    if not listed:
        click.echo(empty)
        return

    from rich.box import SIMPLE_HEAD  # noqa: PLC0415 - slow, and needed only by human output
    from rich.table import Table  # noqa: PLC0415
    from rich.text import Text  # noqa: PLC0415

    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for column in columns:
        table.add_column(column.replace("_", " "), overflow="fold")
    for row in listed:
        table.add_row(*(Text(_shown(row.get(column))) for column in columns))
    console().print(table)


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, list):
        return "\n".join(_shown(each) for each in value)
    return str(value)
