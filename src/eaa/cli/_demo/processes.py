# SPDX-License-Identifier: Apache-2.0
"""Real programs, started for a while: each writes to a log of its own, and leaving the block ends them all."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

from eaa.rats import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

__all__ = ["Processes", "Service", "program"]

_POLL: Final = 0.02
_PATIENCE: Final = 5.0
_LOG_TAIL: Final = 2000


def program(name: str) -> str:
    """Return the path of one of EAA's own commands, from the installation that runs now."""
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else shutil.which(name) or name


@dataclass(frozen=True, slots=True)
class Service:
    """A running program whose output goes to ``log``."""

    name: str
    process: subprocess.Popen[bytes]
    log: Path

    def ready(self, within: float = 30.0) -> dict[str, Any]:
        """Wait until the program writes a JSON line with ``"event": "ready"``, and return that line.

        :raises UnavailableError: when it ends before, or takes longer than ``within`` seconds.
        """
        deadline = time.monotonic() + within
        while time.monotonic() < deadline:
            ended = self.process.poll() is not None
            for line in self.log.read_text(errors="replace").splitlines(keepends=True):
                with contextlib.suppress(ValueError):
                    message = json.loads(line) if line.endswith("\n") else None
                    if isinstance(message, dict) and message.get("event") == "ready":
                        return message
            if ended:
                break
            time.sleep(_POLL)
        what = "ended" if self.process.poll() is not None else f"was not ready after {within:.0f} seconds"
        raise UnavailableError(f"{self.name} {what}", hint=f"Its output ends with: {self.log_tail()}")

    def log_tail(self) -> str:
        """Return the end of what the program wrote."""
        return self.log.read_text(errors="replace")[-_LOG_TAIL:].strip() or "(nothing)"

    def stop(self) -> None:
        """Ask the program to end, and end it when it does not."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(_PATIENCE)
            except subprocess.TimeoutExpired:
                self.process.kill()
        self.process.wait()


class Processes:
    """The programs started in one ``with`` block."""

    def __init__(self, logs: Path) -> None:
        self._logs = logs
        self._ending = contextlib.ExitStack()

    def start(
        self, name: str, command: Sequence[str], environment: Mapping[str, str] | None = None
    ) -> Service:
        """Start a program; its standard output and error go to ``NAME.log``."""
        log = self._logs / f"{name}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(  # noqa: S603 - our own programs, arguments of our own
                command,
                env={**os.environ, **(environment or {})},
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        service = Service(name, process, log)
        self._ending.callback(service.stop)
        return service

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *failure: object) -> None:
        self._ending.close()
