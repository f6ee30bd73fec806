# SPDX-License-Identifier: Apache-2.0
"""Hold the help texts in the documentation against the commands.

Every block in a Markdown file that begins with ``$ COMMAND --help`` must show what that command says. Without ``--write`` the
blocks that differ are named and the exit status is 1; with it they are corrected.
"""

from __future__ import annotations

import re
import sys
from functools import cache
from pathlib import Path

from click.testing import CliRunner

from eaa.cli.main import cli
from eaa.cli.serve import attestation_agent, verdictd

PROGRAMS = {"eaa": cli, "verdictd": verdictd, "attestation-agent": attestation_agent}
ROOT = Path(__file__).parents[1]
BLOCK = re.compile(
    r"(?P<fence>```+)console\n\$ (?P<command>[^\n]+ --help)\n(?P<text>.*?)(?P=fence)\n", re.DOTALL
)


@cache
def help_of(command: str) -> str:
    """Return what the command says, laid out for 100 columns."""
    program, *arguments = command.split()
    done = CliRunner().invoke(
        PROGRAMS[program], arguments, prog_name=program, terminal_width=100, catch_exceptions=False
    )
    return "".join(f"{line.rstrip()}\n" for line in done.output.splitlines())


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
