# SPDX-License-Identifier: Apache-2.0
"""What holds for every file under version control."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
MAX_LINES = 500
UNLIMITED = ("requirements.lock", "src/eaa/_proto/", "docs/cli.md", "docs/reference/")
"""What programs wrote."""
COMMON_FOLDERS = {
    "/",
    "/home",
    "/mnt",
    "/opt",
    "/root",
    "/srv",
    "/tmp",
    "/usr/src",
    "/var/tmp",
    str(Path.home()),
}


@cache
def tracked() -> tuple[Path, ...]:
    """Every file that git tracks and that is there."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode != 0:
        pytest.skip("this is no git checkout")
    return tuple(
        ROOT / name for name in listed.stdout.decode().split("\0") if name and (ROOT / name).is_file()
    )


@cache
def texts() -> dict[str, str]:
    """The tracked files that are text, by name."""
    found = {}
    for path in tracked():
        data = path.read_bytes()
        if b"\0" not in data:
            found[str(path.relative_to(ROOT))] = data.decode()
    return found


def hosts() -> set[str]:
    """The package registries that this machine is set up to use, as its own configuration names them."""
    listed = [*Path("/etc/apt").glob("sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    sources = [path.read_text(errors="replace") for path in listed if os.access(path, os.R_OK)]
    for command in (["pip", "config", "list"], ["npm", "config", "get", "registry"]):
        if program := shutil.which(command[0]):
            asked = subprocess.run(
                [program, *command[1:]], cwd="/", capture_output=True, text=True, check=False
            )
            sources.append(asked.stdout)
    sources += [
        value
        for name, value in os.environ.items()
        if name.startswith(("PIP_", "UV_", "NPM_CONFIG_", "npm_config_"))
    ]
    return {
        host
        for source in sources
        for host in re.findall(r"https?://(?:[^/@\s]*@)?([\w-]+(?:\.[\w-]+)+)", source)
    }


def test_every_source_file_begins_with_its_licence() -> None:
    """Each Python file, script and Makefile names its licence in the first two lines."""
    without = [
        name
        for name, text in texts().items()
        if (name.endswith(".py") or name.startswith(("scripts/", ".ci/")) or name == "Makefile")
        and not name.startswith("src/eaa/_proto/")
        and "SPDX-License-Identifier: Apache-2.0" not in "".join(text.splitlines(keepends=True)[:2])
    ]
    assert without == []


def test_no_file_is_too_long_to_read() -> None:
    """Files stay under 500 lines: a longer one has a seam."""
    too_long = {
        name: count
        for name, text in texts().items()
        if not name.startswith(UNLIMITED) and (count := text.count("\n")) > MAX_LINES
    }
    assert too_long == {}


def test_nothing_names_this_machine() -> None:
    """No tracked file holds a registry's host name from this machine's configuration, or where this checkout lies."""
    words = (
        hosts() | {f"{ROOT}/"} | ({f"{ROOT.parent}/"} if str(ROOT.parent) not in COMMON_FOLDERS else set())
    )
    found = [(name, word) for name, text in texts().items() for word in words if word in text]
    assert found == []


def test_the_lock_pins_every_package_by_hash_and_names_no_index() -> None:
    """Each package of the lock has one exact version and at least one hash, and there is no address in it."""
    lock = texts()["requirements.lock"]
    packages = re.split(r"\n(?=\S)", lock.strip())
    assert len(packages) > 50
    assert [
        p for p in packages if not re.match(r"[\w.-]+==\S+ .*--hash=sha256:[0-9a-f]{64}", p, re.DOTALL)
    ] == []
    assert "://" not in lock


def test_the_licence_is_the_whole_apache_licence() -> None:
    """LICENSE is the Apache License 2.0 in its published wording."""
    published = "cfc7749b96f63bd31c3c42b5c471bf756814053e847c10f3eb003417bc523d30"
    assert hashlib.sha256((ROOT / "LICENSE").read_bytes()).hexdigest() == published
