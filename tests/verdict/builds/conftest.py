# SPDX-License-Identifier: Apache-2.0
"""The sandbox, and a bench to build on: real builds from a package of our own, without asking any archive."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from eaa.verdict.build import Workshop
from eaa.verdict.build_file import BuildFile, parse_build_file
from eaa.verdict.conditions import pinned
from eaa.verdict.packages import collect
from eaa.verdict.sandbox import Sandbox, SandboxUnavailable


@pytest.fixture(scope="session")
def sandbox() -> Sandbox:
    """The sandbox, where this machine has one."""
    try:
        return Sandbox.find()
    except SandboxUnavailable as missing:
        pytest.skip(f"{missing}. {missing.hint}")


@pytest.fixture(scope="session")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one package, BusyBox, as `make setup` has fetched it: it builds without asking any archive."""
    busybox = Path(__file__).parents[3] / ".cache" / "tools" / "busybox"
    if not busybox.is_file() or shutil.which("dpkg-deb") is None:
        pytest.skip("BusyBox is not here: run make setup, on Debian")
    return make_package(tmp_path_factory.mktemp("packages"), {"usr/bin/busybox": busybox.read_bytes()}).parent


def make_package(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    """Make a Debian package of programs and links, the same bytes whenever it is made."""
    tree = folder / "tree"
    for name, content in files.items():
        path = tree / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
        path.chmod(0o755)
    for name, target in (links or {}).items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).symlink_to(target)
    (tree / "DEBIAN").mkdir(parents=True)
    for path in (tree, *tree.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            path.chmod(0o755)
    (tree / "DEBIAN" / "control").write_text(
        "Package: busybox-static\nVersion: 1.0\nArchitecture: amd64\nMaintainer: T <t@example.invalid>\n"
        "Description: made by a test\n"
    )
    package = folder / "busybox-static_1.0_amd64.deb"
    subprocess.run(
        [
            "dpkg-deb",
            "--root-owner-group",
            "--uniform-compression",
            "-Zgzip",
            "--build",
            str(tree),
            str(package),
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "SOURCE_DATE_EPOCH": "0"},
    )
    shutil.rmtree(tree)
    return package


@dataclass(frozen=True)
class Bench:
    """Builds a file that a test describes, in the real sandbox, from one package."""

    sandbox: Sandbox
    packages: Path
    folder: Path

    package = staticmethod(make_package)

    def text(self, script: str, *, more: str = "", outputs: str = '["made"]', sources: str = "") -> bytes:
        """Return a build file with one step that runs a script; the files beside it are sources if they are named."""
        named = [name for name in sources.split() if name]
        pins = "".join(
            f'{name} = {{ file = "{name}", sha256 = "{sha256((self.folder / name).read_bytes()).hexdigest()}" }}\n'
            for name in named
        )
        digest = sha256((self.packages / "busybox-static_1.0_amd64.deb").read_bytes()).hexdigest()
        return f"""
format = 1
name = "test"
[environment]
release = "bookworm"
source_date_epoch = 1735689600
packages = [{{ package = "busybox-static", version = "1.0", sha256 = "{digest}" }}]
[sources]
{pins}
[steps.only]
inputs = {json.dumps(named)}
run = [["busybox", "sh", "-euc", {json.dumps(script)}]]
shell = true
outputs = {outputs}
[outputs]
made = "only/made"
{more}
""".encode()

    def workshop(self, file: BuildFile, given: Path | None = None) -> Workshop:
        """Return what builds the file."""
        found = collect(
            file.packages,
            file.environment,
            cache=self.folder / "cache",
            given=given or self.packages,
            say=lambda _: None,
        )
        return Workshop(self.sandbox, self.folder, found, lambda _: None)

    def build(self, text: bytes, **conditions: Any) -> dict[str, bytes]:
        """Build, and return the outputs."""
        file = parse_build_file(text)
        with self.sandbox.stage() as stage:
            under = replace(pinned(file.environment), **conditions)
            made = self.workshop(file).build(file, under, stage)
            return {name: path.read_bytes() for name, path in made.items()}


@pytest.fixture
def bench(sandbox: Sandbox, packages: Path, tmp_path: Path) -> Bench:
    """A bench in a folder of the test's own."""
    return Bench(sandbox, packages, tmp_path)
