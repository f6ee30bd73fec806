# SPDX-License-Identifier: Apache-2.0
"""The frame of the command line: what is imported when, and what an error looks like."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import click
import pytest

from eaa.cli import _run, main
from eaa.cli._options import json_option
from eaa.rats import (
    AccessDenied,
    Appraisal,
    Claims,
    EaaError,
    EvidenceError,
    EvidenceRejected,
    NotFound,
    PolicyError,
    Rule,
    Stage,
    UnavailableError,
)
from eaa.tee.sgx.evidence import SgxQuote

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = pytest.mark.usefixtures("as_users_run_it")
RULE = Rule("test.rule", Stage.POSTURE, "A rule", "nowhere", "Do it.")


@pytest.fixture
def as_users_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the variables that change what is shown."""
    for name in ("EAA_DEBUG", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)


def rejected(*, undecided: bool) -> EvidenceRejected:
    check = RULE.not_made("x", "y") if undecided else RULE.failed("x", "y")
    claims = Claims("sgx", b"", {}, debug=False)
    evidence: Any = object.__new__(SgxQuote)
    return EvidenceRejected(Appraisal(evidence, datetime(2026, 1, 1, tzinfo=UTC), (check,), claims))


def failing(error: BaseException) -> click.Command:
    @click.command()
    @json_option
    def command(*, as_json: bool) -> None:
        raise error

    return command


def python(code: str, *args: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *args],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def test_help_lists_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys\nfrom eaa.cli.main import main\n"
        "try:\n    main(['--help'])\nfinally:\n"
        "    heavy = {'cryptography', 'rich', 'eaa.rats', 'httpx2', 'pydantic', 'sqlalchemy'} & set(sys.modules)\n"
        "    print(sorted(heavy), file=sys.stderr)"
    )
    done = python(code)
    assert (done.returncode, done.stderr) == (0, "[]\n")
    for name, entry in main.SUBCOMMANDS.items():
        assert f"  {name} " in done.stdout
        assert entry.help in done.stdout


@pytest.mark.parametrize("name", list(main.SUBCOMMANDS))
def test_every_subcommand_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run.run(main.cli, "eaa", [name, "--help"]) == 0
    shown = capsys.readouterr().out
    assert shown.startswith(f"Usage: eaa {name} ")


@pytest.mark.parametrize(
    ("target", "missing"),
    [
        ("eaa.cli.no_such_module:x", "eaa.cli.no_such_module"),
        ("eaa.cli.main:no_such", "eaa.cli.main:no_such"),
    ],
)
def test_missing_module_spoils_its_own_command_only(
    target: str, missing: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(main.SUBCOMMANDS, "demo", main.Subcommand(target, "Broken."))
    assert _run.run(main.cli, "eaa", ["demo"]) == 2
    shown = capsys.readouterr().err
    assert f"'demo' is not in this installation: {missing} is missing" in shown
    assert _run.run(main.cli, "eaa", ["--help"]) == 0


@pytest.mark.parametrize(
    ("error", "status", "shown"),
    [
        (rejected(undecided=False), 1, "error: evidence rejected: test.rule (evidence.rejected)"),
        (rejected(undecided=True), 3, "error: evidence rejected: test.rule (evidence.rejected)"),
        (AccessDenied("no", check="kbs.token"), 1, "error: no (access.denied: kbs.token)"),
        (
            EvidenceError("short", check="dcap.quote.length", hint="Send all."),
            1,
            "error: short (evidence.malformed: dcap.quote.length)\nhint: Send all.",
        ),
        (PolicyError("a\nb\x1b[31m\x00c"), 2, "error: a b [31m c (policy.invalid)"),
        (NotFound("none"), 2, "error: none (not-found)"),
        (UnavailableError("away", hint="Wait."), 3, "error: away (unavailable)\nhint: Wait."),
        (EaaError("other"), 3, "error: other (error)"),
        (click.UsageError("wrong"), 2, "Usage: eaa [OPTIONS]\nerror: wrong (usage)\nhint: Try 'eaa --help'."),
        (click.FileError("f", "gone"), 2, "error: Could not open file 'f': gone (usage)"),
        (click.Abort(), 130, "interrupted"),
        (KeyboardInterrupt(), 130, "interrupted"),
    ],
)
def test_error_is_one_line_and_an_exit_status(
    error: BaseException, status: int, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _run.run(failing(error), "eaa", []) == status
    captured = capsys.readouterr()
    assert captured.err == f"{shown}\n"
    assert captured.out == ""


def test_error_is_json_where_json_was_asked_for(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run.run(failing(EvidenceError("short", hint="Send all.")), "eaa", ["--json"]) == 1
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {
        "error": {
            "code": "evidence.malformed",
            "message": "short",
            "hint": "Send all.",
            "check": "evidence.format",
        }
    }
    assert captured.err == ""


def test_rejection_in_json_carries_the_whole_appraisal(capsys: pytest.CaptureFixture[str]) -> None:
    assert _run.run(failing(rejected(undecided=False)), "eaa", ["--json"]) == 1
    shown = json.loads(capsys.readouterr().out)["error"]
    assert shown["appraisal"]["failed_checks"] == ["test.rule"]


class Panic(BaseException):
    """What a Rust extension raises when it gives up: no Exception."""


@pytest.mark.parametrize("error", [ValueError("the secret is 42"), RecursionError("42"), Panic("42")])
def test_fault_of_ours_is_told_without_traceback_or_its_text(
    error: BaseException, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _run.run(failing(error), "eaa", []) == 70
    shown = capsys.readouterr().err
    assert f"internal error: {type(error).__name__} (internal)" in shown
    assert "report" in shown
    assert "42" not in shown
    assert "Traceback" not in shown
    monkeypatch.setenv("EAA_DEBUG", "1")
    assert _run.run(failing(error), "eaa", []) == 70
    assert "Traceback" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "status", "shown"),
    [
        (["--version"], 0, "eaa 0."),
        (["no-such-command"], 2, "No such command 'no-such-command'"),
        (["--no-such-option"], 2, "No such option '--no-such-option'"),
        ([], 2, "Commands:"),
    ],
)
def test_usage(arguments: list[str], status: int, shown: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert _run.run(main.cli, "eaa", arguments) == status
    captured = capsys.readouterr()
    assert shown in captured.out + captured.err


@pytest.mark.parametrize(
    ("act", "status"),
    [
        (lambda: None, 0),
        (lambda: 3, 3),
        (lambda: True, 0),
        (lambda: click.get_current_context().exit(1), 1),
        (lambda: sys.exit(5), SystemExit),
    ],
)
def test_exit_status_is_what_the_command_says(act: Callable[[], Any], status: Any) -> None:
    command = click.Command("c", callback=act)
    if status is SystemExit:
        with pytest.raises(SystemExit):
            _run.run(command, "eaa", [])
    else:
        assert _run.run(command, "eaa", []) == status


def test_closed_output_ends_quietly() -> None:
    code = (
        "import click, sys\nfrom eaa.cli._run import run\n"
        "c = click.Command('c', callback=lambda: [click.echo('x' * 1000) for _ in range(10000)])\n"
        "sys.exit(run(c, 'eaa', []))"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 141


def test_colour_is_only_for_terminals_and_never_against_no_color(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    _run.run(failing(NotFound("none")), "eaa", [])
    assert "\x1b" not in capsys.readouterr().err
    monkeypatch.setattr("click.utils.should_strip_ansi", lambda _, color=None: color is False)
    _run.run(failing(NotFound("none")), "eaa", [])
    assert "\x1b[31merror:" in capsys.readouterr().err
    monkeypatch.setenv("NO_COLOR", "1")
    _run.run(failing(NotFound("none")), "eaa", [])
    assert "\x1b" not in capsys.readouterr().err


def test_shell_completion_knows_the_commands() -> None:
    environment = {"_EAA_COMPLETE": "bash_complete", "COMP_WORDS": "eaa ver", "COMP_CWORD": "1"}
    done = python("from eaa.cli.main import main; main()", **environment)
    assert (done.returncode, done.stdout) == (0, "plain,verify\nplain,verdict\n")


def test_verbose_logs_to_standard_error() -> None:
    code = (
        "import click, logging, sys\nfrom eaa.cli import main\n"
        "@main.cli.command('log')\ndef log():\n    logging.getLogger('eaa.x').info('seen')\n"
        "main.cli.get_command = lambda ctx, name: log\n"
        "main.main(sys.argv[1:])"
    )
    assert python(code, "-v", "log").stderr == "INFO eaa.x: seen\n"
    assert python(code, "log").stderr == ""
