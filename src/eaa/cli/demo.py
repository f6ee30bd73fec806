# SPDX-License-Identifier: Apache-2.0
"""``eaa demo``: the whole story on this machine, with real programs and real formats."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import console, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.rats import EaaError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.cli._demo.story import Act, Outcome

__all__ = ["demo"]

_MAX_FOLDER: Final = 60
"""Characters of the folder's path: the Unix sockets in it must stay below 108."""
_TERMINATED: Final = 128 + signal.SIGTERM


@click.command(epilog="\b\nExamples:\n  eaa demo\n  eaa demo --keep\n  eaa demo --json")
@click.option("--keep", is_flag=True, help="Keep the folder with everything that was made, and the logs.")
@json_option
def demo(*, keep: bool, as_json: bool) -> int:
    """Play the whole story: an image that only an attested TEE can open.

    Starts Verdictd, encrypts a container image with skopeo, opens it in a simulated TDX guest after attestation, and shows the
    same image staying shut for guests that must not have it. Everything stays on this machine and ends with the command. The
    exit status is 0 only if every step went as expected.
    """
    # Imported here: --help needs none of it.
    from eaa.cli._demo.containers import ContainerTools  # noqa: PLC0415
    from eaa.cli._demo.narrator import Narrator  # noqa: PLC0415
    from eaa.cli._demo.story import Story  # noqa: PLC0415

    tools = ContainerTools.find()
    narrator = None if as_json else Narrator(console())
    results: list[tuple[Act, Outcome]] = []
    began = time.monotonic()
    with _terminable(), _folder(keep=keep) as folder, Story(folder, tools) as story:
        for act in story.acts():
            with narrator.during(act) if narrator else nullcontext():
                outcome = _perform(act)
            if narrator:
                narrator.after(act, outcome)
            results.append((act, outcome))
            if act.essential and not outcome.held:
                break
    if narrator:
        narrator.end(results, time.monotonic() - began)
    if keep:
        click.echo(f"everything is in {folder}", err=True)
    held = all(outcome.held for _, outcome in results)
    if as_json:
        echo_json({"held": held, "steps": [_as_json(act, outcome) for act, outcome in results]})
    return EXIT_OK if held else EXIT_REJECTED


def _perform(act: Act) -> Outcome:
    from eaa.cli._demo.story import Outcome  # noqa: PLC0415

    try:
        return act.perform()
    except EaaError as error:
        return Outcome(f"{error} {error.hint}".strip(), held=False)


def _as_json(act: Act, outcome: Outcome) -> dict[str, Any]:
    return {
        "step": act.title,
        "expected": act.expected,
        "seen": outcome.seen,
        "held": outcome.held,
        "explanations": [each._asdict() for each in outcome.explanations],
    }


@contextmanager
def _folder(*, keep: bool) -> Iterator[Path]:
    """Give a new folder that only this user can enter, and remove it at the end unless it is to be kept."""
    base = tempfile.gettempdir()
    folder = Path(tempfile.mkdtemp(prefix="eaa-demo-", dir=base if len(base) < _MAX_FOLDER else "/tmp"))  # noqa: S108
    try:
        yield folder
    finally:
        if not keep:
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _terminable() -> Iterator[None]:
    """Let a request to terminate unwind as Ctrl-C does, so that nothing is left behind."""

    def terminate(*_: object) -> None:
        sys.exit(_TERMINATED)

    before = signal.signal(signal.SIGTERM, terminate)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
