# SPDX-License-Identifier: Apache-2.0
"""`eaa demo` as a process: it can be stopped at any time and leaves nothing behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eaa.cli._demo.processes import program

if TYPE_CHECKING:
    from eaa.cli._demo.containers import ContainerTools

pytestmark = pytest.mark.interop


def commands_that_name(text: str) -> list[str]:
    """The command lines of running processes in which ``text`` occurs."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            command = path.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if text in command:
            found.append(command)
    return found


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_a_stopped_demo_leaves_nothing_behind(
    how: signal.Signals, tools: ContainerTools, folder: Path
) -> None:
    """A signal in the middle ends every program and removes the folder."""
    base = folder / f"stopped-{how.name}"
    base.mkdir()
    environment = {**os.environ, "TMPDIR": str(base)}
    with subprocess.Popen([program("eaa"), "demo"], env=environment, stdout=subprocess.DEVNULL) as demo:
        try:
            until = time.monotonic() + 60
            while not list(base.glob("eaa-demo-*/encrypted/index.json")):
                assert time.monotonic() < until
                assert demo.poll() is None
                time.sleep(0.02)
            assert any("verdictd" in command for command in commands_that_name(str(base)))
        finally:
            demo.send_signal(how)
        assert demo.wait(20) == 128 + how
    assert list(base.iterdir()) == []
    assert commands_that_name(str(base)) == []
