# SPDX-License-Identifier: Apache-2.0
"""Hold the help texts in the documentation against the commands.

Every block in a Markdown file that begins with ``$ COMMAND --help`` must show what that command says. Without ``--write`` the
blocks that differ are named and the exit status is 1; with it they are corrected.
"""

from __future__ import annotations

import re
import subprocess
import sys
from functools import cache
from os import environ
from pathlib import Path

ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?P<fence>```+)console\n\$ (?P<command>[^\n]+ --help)\n(?P<text>.*?)(?P=fence)\n", re.DOTALL
)


@cache
def help_of(command: str) -> str:
    """Return what the command says, laid out for 100 columns."""
    program, *arguments = command.split()
    path = Path(sys.executable).with_name(program)
    environment = {**environ, "COLUMNS": "100", "NO_COLOR": "1"}
    done = subprocess.run(
        [path, *arguments],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    return "".join(f"{line.rstrip()}\n" for line in done.stdout.splitlines())


def main() -> int:
    """Check or correct the blocks of README.md and docs/."""
    write = sys.argv[1:] == ["--write"]
    wrong = 0
    for path in [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        text = path.read_text()
        true = BLOCK.sub(
            lambda m: f"{m['fence']}console\n$ {m['command']}\n{help_of(m['command'])}{m['fence']}\n", text
        )
        if true == text:
            continue
        if write:
            path.write_text(true)
            continue
        for shown, said in zip(BLOCK.finditer(text), BLOCK.finditer(true), strict=True):
            if shown[0] != said[0]:
                wrong += 1
                print(f"{path.relative_to(ROOT)}: {shown['command']} says something else now")
    if wrong:
        print("run: .venv/bin/python scripts/help_in_docs.py --write")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
