# SPDX-License-Identifier: Apache-2.0
"""The documentation says what is true."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import click

ROOT = Path(__file__).parents[2]


def test_help_texts_in_the_docs_are_what_the_commands_say() -> None:
    """Each `$ … --help` block shows that command's help, word for word."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "help_in_docs.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_the_page_of_checks_is_what_the_rules_say() -> None:
    """docs/reference/checks.md has every rule of the code, and nothing else."""
    done = subprocess.run(
        [sys.executable, ROOT / "scripts" / "checks_in_docs.py"], capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stdout + done.stderr


def test_every_subcommand_is_in_the_reference() -> None:
    """docs/cli.md shows the help of each subcommand of `eaa`, to the last level, and of the two daemons."""
    from eaa.cli.main import cli

    reference = (ROOT / "docs" / "cli.md").read_text()
    commands = [*_commands("eaa", cli), "verdictd", "attestation-agent"]
    assert len(commands) > 80
    assert [command for command in commands if f"$ {command} --help\n" not in reference] == []


def _commands(name: str, command: click.Command) -> list[str]:
    """Return the command and everything below it, as one types them."""
    if not isinstance(command, click.Group):
        return [name]
    context = click.Context(command)
    below = [(each, command.get_command(context, each)) for each in command.list_commands(context)]
    return [
        name,
        *(found for each, sub in below if sub is not None for found in _commands(f"{name} {each}", sub)),
    ]


def test_links_between_pages_lead_somewhere() -> None:
    """Each relative link in a Markdown file names a file that is there."""
    pages = [ROOT / "README.md", ROOT / "CHANGELOG.md", *(ROOT / "docs").rglob("*.md")]
    dead = [
        (str(page.relative_to(ROOT)), target)
        for page in pages
        for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", page.read_text())
        if "://" not in target and not (page.parent / target).exists()
    ]
    assert dead == []


def test_make_help_lists_every_target_of_the_readme() -> None:
    """`make` alone explains the targets, the README's two among them."""
    done = subprocess.run(["make", "-s"], cwd=ROOT, capture_output=True, text=True, check=True)
    shown = re.findall(r"^  make ([\w-]+)\s+\S", done.stdout, re.MULTILINE)
    assert {"setup", "demo", "test"} <= set(shown)
    declared = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert declared is not None
    assert sorted(shown) == sorted(declared[1].split())
