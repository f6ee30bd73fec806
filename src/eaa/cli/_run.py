# SPDX-License-Identifier: Apache-2.0
"""The process boundary of every command: errors become one line and an exit status, never a traceback."""

from __future__ import annotations

import json
import os
import sys
import traceback
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

if TYPE_CHECKING:
    from collections.abc import Sequence

__all__ = [
    "EXIT_INTERNAL",
    "EXIT_OK",
    "EXIT_REJECTED",
    "EXIT_UNDECIDED",
    "EXIT_USAGE",
    "MissingCommand",
    "Session",
    "run",
]

EXIT_OK: Final = 0
EXIT_REJECTED: Final = 1
EXIT_USAGE: Final = 2
EXIT_UNDECIDED: Final = 3
EXIT_INTERNAL: Final = 70  # EX_SOFTWARE of sysexits.h
_EXIT_INTERRUPTED: Final = 128 + 2  # as a shell reports SIGINT
_EXIT_OUTPUT_CLOSED: Final = 128 + 13  # as a shell reports SIGPIPE


@dataclass
class Session:
    """What one run of a command knows about how to answer; click's ``ctx.obj``."""

    json: bool = False


class MissingCommand(click.ClickException):
    """A subcommand that this installation cannot import."""

    exit_code = EXIT_USAGE

    def __init__(self, command: str, missing: str) -> None:
        super().__init__(f"the command {command!r} is not in this installation: {missing} is missing")


@dataclass(frozen=True)
class _Report:
    """One error as a user sees it."""

    status: int
    code: str
    message: str
    hint: str = ""
    check: str = ""
    appraisal: dict[str, Any] | None = None

    def to_json(self) -> dict[str, Any]:
        fields = {
            "code": self.code,
            "message": self.message,
            "hint": self.hint,
            "check": self.check,
            "appraisal": self.appraisal,
        }
        return {"error": {name: value for name, value in fields.items() if value}}


def run(command: click.Command, name: str, args: Sequence[str] | None = None) -> int:
    """Run ``command`` as the program ``name`` and return its exit status.

    A command succeeds with 0, or with the ``int`` it returns or gives to ``ctx.exit``. An error becomes ``error: … (code)``
    and ``hint: …`` on standard error, or, once the command has seen ``--json``, one JSON object on standard output. Only
    with ``EAA_DEBUG=1`` in the environment is a traceback shown.
    """
    session = Session()
    try:
        result = _invoke(command, name, sys.argv[1:] if args is None else list(args), session)
        sys.stdout.flush()
    except (SystemExit, GeneratorExit):
        raise
    except BrokenPipeError:
        # Whoever read our output has gone; the interpreter's own flush at exit must not complain about it.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return _EXIT_OUTPUT_CLOSED
    except BaseException as error:  # noqa: BLE001 - the boundary; a Rust extension's panic is no Exception
        return _fail(error, session)
    return result if isinstance(result, int) and not isinstance(result, bool) else EXIT_OK


def _invoke(command: click.Command, name: str, args: list[str], session: Session) -> object:
    """Do what ``command.main`` does, which would turn a closed output into status 1: to us, "rejected"."""
    completion = f"_{name}_COMPLETE".replace("-", "_").upper()
    if instruction := os.environ.get(completion):
        from click.shell_completion import shell_complete  # noqa: PLC0415 - needed only when completing

        return shell_complete(command, {}, name, completion, instruction)
    try:
        with command.make_context(name, args, obj=session) as ctx:
            return command.invoke(ctx)
    except click.exceptions.Exit as done:
        return done.exit_code


def _fail(error: BaseException, session: Session) -> int:
    if isinstance(error, click.Abort | KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return _EXIT_INTERRUPTED
    report = _describe(error)
    if os.environ.get("EAA_DEBUG") == "1":
        traceback.print_exception(error)
    if session.json:
        click.echo(json.dumps(report.to_json(), ensure_ascii=False))
        return report.status
    if isinstance(error, click.UsageError) and error.ctx is not None:
        click.echo(error.ctx.get_usage(), err=True)
    colour = False if os.environ.get("NO_COLOR") else None
    where = f"{report.code}: {report.check}" if report.check else report.code
    click.echo(
        f"{click.style('error:', fg='red')} {_one_line(report.message)} ({where})", err=True, color=colour
    )
    if report.hint:
        click.echo(f"{click.style('hint:', fg='cyan')} {_one_line(report.hint)}", err=True, color=colour)
    return report.status


def _describe(error: BaseException) -> _Report:
    if isinstance(error, click.UsageError):
        hint = f"Try '{error.ctx.command_path} --help'." if error.ctx is not None else ""
        return _Report(EXIT_USAGE, "usage", error.format_message(), hint)
    if isinstance(error, click.ClickException):
        return _Report(EXIT_USAGE, "usage", error.format_message())

    # Imported here: it is loaded already if one of its errors is on its way, and `eaa --help` does not need it.
    from eaa.rats import EaaError, EvidenceRejected  # noqa: PLC0415

    if isinstance(error, EaaError):
        return _Report(
            _status(error),
            error.code,
            str(error),
            error.hint,
            getattr(error, "check", ""),
            error.appraisal.to_json() if isinstance(error, EvidenceRejected) else None,
        )
    # The text of a foreign exception may hold anything, a secret too: its type is all that is shown.
    return _Report(
        EXIT_INTERNAL,
        "internal",
        f"internal error: {type(error).__name__}",
        "This is a fault of EAA, please report it; with EAA_DEBUG=1 in the environment it shows where it happened.",
    )


def _status(error: BaseException) -> int:
    from eaa.rats import AccessDenied, EvidenceError, EvidenceRejected, InputError, NotFound  # noqa: PLC0415

    if isinstance(error, EvidenceRejected):
        return EXIT_UNDECIDED if error.appraisal.undecided else EXIT_REJECTED
    if isinstance(error, AccessDenied | EvidenceError):
        return EXIT_REJECTED
    if isinstance(error, InputError | NotFound):
        return EXIT_USAGE
    return EXIT_UNDECIDED


def _one_line(text: str) -> str:
    """Fold whitespace and drop control characters: a message may quote what a stranger sent."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
