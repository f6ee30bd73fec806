# SPDX-License-Identifier: Apache-2.0
"""Options and parameter types that several commands share."""

from __future__ import annotations

import json
import re
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eaa.cli._run import Session

if TYPE_CHECKING:
    from collections.abc import Callable

    from click.shell_completion import CompletionItem
    from rich.console import Console

__all__ = [
    "HexBytes",
    "InputFile",
    "Rfc3339",
    "at_option",
    "console",
    "echo_json",
    "json_option",
    "report_data_option",
    "tee_option",
]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_RFC3339: Final = re.compile(
    r"\d{4}-\d{2}-\d{2}[Tt ]\d{2}:\d{2}:\d{2}(\.\d+)?([Zz]|[+-]\d{2}:\d{2})", re.ASCII
)
_MAX_INPUT: Final = 16 * 1024 * 1024


class Rfc3339(click.ParamType[datetime]):
    """A time with its offset (RFC 3339, section 5.6); the value is in UTC."""

    name = "RFC3339"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        """Return the time, or fail as bad usage."""
        if isinstance(value, datetime):
            return value
        text = str(value)
        complete = _RFC3339.fullmatch(text)
        try:
            # An empty string is no time either, so both reasons end in one message.
            return datetime.fromisoformat(text.upper() if complete else "").astimezone(UTC)
        except (ValueError, OverflowError):
            example = "2026-03-16T12:00:00Z"
            self.fail(f"{text!r} is not an RFC 3339 time with its offset, such as {example}", param, ctx)


class HexBytes(click.ParamType[bytes]):
    """Bytes written in hex of either case, between ``minimum`` and ``maximum`` bytes long."""

    name = "HEX"

    def __init__(self, maximum: int, minimum: int = 0) -> None:
        self.minimum = minimum
        self.maximum = maximum

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the bytes, or fail as bad usage."""
        if isinstance(value, bytes):
            return value
        text = str(value)
        if not re.fullmatch(r"([0-9A-Fa-f]{2})*", text):
            self.fail("not hex: pairs of 0-9 and a-f are expected, without prefix or spaces", param, ctx)
        if not self.minimum <= len(text) // 2 <= self.maximum:
            size = f"{self.maximum}" if self.minimum == self.maximum else f"{self.minimum} to {self.maximum}"
            self.fail(f"{len(text) // 2} bytes of hex where {size} are expected", param, ctx)
        return bytes.fromhex(text)


class InputFile(click.ParamType[bytes]):
    """The bytes of a file, or of standard input for ``-``; never more than ``max_size`` are read."""

    name = "FILE"

    def __init__(self, max_size: int = _MAX_INPUT) -> None:
        self.max_size = max_size

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> bytes:
        """Return the content, or fail as bad usage."""
        if isinstance(value, bytes):
            return value
        try:
            if value == "-":
                data = sys.stdin.buffer.read(self.max_size + 1)
            else:
                with Path(value).open("rb") as file:
                    data = file.read(self.max_size + 1)
        except (OSError, ValueError) as error:
            reason = error.strerror if isinstance(error, OSError) else "not a file name"
            self.fail(f"cannot read {str(value)!r}: {reason}", param, ctx)
        if len(data) > self.max_size:
            self.fail(f"{str(value)!r} has more than the {self.max_size} bytes that are read", param, ctx)
        return data

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """Complete file names."""
        from click.shell_completion import CompletionItem  # noqa: PLC0415 - needed only when completing

        del ctx, param
        return [CompletionItem(incomplete, type="file")]


def json_option(command: _Command) -> _Command:
    """Add ``--json`` as parameter ``as_json``; from then on errors are JSON too."""

    def remember(ctx: click.Context, param: click.Parameter, value: bool) -> bool:  # noqa: FBT001 - click's signature
        del param
        ctx.ensure_object(Session).json = value
        return value

    return click.option(
        "--json",
        "as_json",
        is_flag=True,
        is_eager=True,
        callback=remember,
        help="Answer in JSON, for machines.",
    )(command)


def at_option(command: _Command) -> _Command:
    """Add ``--at`` as parameter ``at``: a time in UTC, by default now."""
    return click.option(
        "--at",
        type=Rfc3339(),
        default=lambda: datetime.now(UTC),
        show_default="now",
        help="Time to judge at, such as 2026-03-16T12:00:00Z.",
    )(command)


def tee_option(*known: str) -> Callable[[_Command], _Command]:
    """Add the required ``--tee`` as parameter ``tee``, one of ``known``."""
    return click.option(
        "--tee", type=click.Choice(known, case_sensitive=False), required=True, help="Kind of TEE."
    )


def report_data_option(command: _Command) -> _Command:
    """Add the required ``--report-data`` as parameter ``report_data``: up to 64 bytes."""
    return click.option(
        "--report-data",
        type=HexBytes(64),
        required=True,
        help="What the evidence must be bound to, up to 64 bytes; the TEE pads with zeros.",
    )(command)


def echo_json(value: object) -> None:
    """Write one JSON document and a newline to standard output."""
    click.echo(json.dumps(value, ensure_ascii=False, indent=2))


def console(*, stderr: bool = False) -> Console:
    """Return a rich console that honours ``NO_COLOR`` and never colours a pipe."""
    from rich.console import Console  # noqa: PLC0415 - slow, and needed only by human output

    return Console(stderr=stderr, highlight=False, soft_wrap=False)
