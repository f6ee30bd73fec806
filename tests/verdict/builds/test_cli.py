# SPDX-License-Identifier: Apache-2.0
"""The commands as a person types them: build, rebuild, compare."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from eaa._keys import new_key
from eaa.cli._run import EXIT_OK, EXIT_REJECTED, EXIT_UNDECIDED, EXIT_USAGE, run
from eaa.cli.main import cli
from eaa.verdict import rebuild as module
from eaa.verdict import sandbox as confinement

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tests.verdict.builds.conftest import Bench

    Eaa = Callable[..., tuple[int, str]]

BUILDERS = """
[keys]
a = "a.pub"
b = "b.pub"
[builders."urn:test:a"]
keys = ["a"]
build_types = ["urn:eaa:build:1"]
sources = ["pkg:deb/debian/*", "file:*"]
[builders."urn:test:b"]
keys = ["b"]
build_types = ["urn:eaa:build:1"]
sources = ["pkg:deb/debian/*", "file:*"]
"""


@pytest.fixture
def eaa(capfd: pytest.CaptureFixture[str], bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Eaa:
    """Run `eaa verdict` with the bench's packages; return its status and what it printed."""
    monkeypatch.setattr(module, "_CLOCK_STEP", 0)
    monkeypatch.setenv("NO_COLOR", "1")

    def call(command: str, *arguments: str | Path) -> tuple[int, str]:
        where = ["--packages", str(bench.packages), "--cache", str(bench.folder / "cache")]
        more = where if command in {"build", "rebuild"} else []
        status = run(cli, "eaa", ["verdict", command, *map(str, arguments), *more])
        captured = capfd.readouterr()
        return status, captured.out + captured.err

    return call


def write(bench: Bench, text: bytes, name: str = "build.toml") -> Path:
    path = bench.folder / name
    path.write_bytes(text)
    return path


def key(bench: Bench, name: str) -> Path:
    private, public = new_key()
    (bench.folder / f"{name}.pub").write_bytes(public)
    (bench.folder / name).write_bytes(private)
    return bench.folder / name


def test_from_build_to_agreement(bench: Bench, eaa: Eaa) -> None:
    """Built by one, rebuilt by another from the provenance alone and the sources, and both agree."""
    (bench.folder / "source").write_text("hello\n")
    file = write(bench, bench.text("tr a-z A-Z <in/source >out/made", sources="source"))
    out, again = bench.folder / "out", bench.folder / "again"
    builders = bench.folder / "builders.toml"
    builders.write_text(BUILDERS)
    status, said = eaa("build", file, "--out", out, "--key", key(bench, "a"), "--builder", "urn:test:a")
    assert (status, "built:" in said) == (EXIT_OK, True)
    status, said = eaa("build", file, "--out", out, "--key", bench.folder / "a", "--builder", "urn:test:a")
    assert (status, "up to date:" in said) == (EXIT_OK, True)
    status, said = eaa(
        *("rebuild", out / "provenance.dsse.json", "--sources", bench.folder, "--out", again),
        *("--key", key(bench, "b"), "--builder", "urn:test:b"),
    )
    assert (status, "reproducible: every output is the same" in said) == (EXIT_OK, True)
    assert json.loads((again / "rebuild.json").read_text())["reproducible"] is True
    pair = [out / "provenance.dsse.json", again / "provenance.dsse.json"]
    status, said = eaa("compare", *pair, "--builders", builders, "--artifact", bench.folder / "source")
    assert (status, "provenance.subject" in said) == (EXIT_REJECTED, True)
    status, said = eaa("compare", *pair, "--builders", builders, "--artifact", out / "made")
    assert (status, "2 builders agree: urn:test:a, urn:test:b" in said) == (EXIT_OK, True)
    status, said = eaa("compare", *pair, "--builders", builders, "--threshold", "3", "--json")
    assert (status, json.loads(said)["agreed"]) == (EXIT_REJECTED, False)
    status, said = eaa("compare", pair[0], pair[0], "--builders", builders)
    assert (status, "provenance.threshold" in said) == (EXIT_REJECTED, True)


def test_what_is_not_reproducible_is_refused_and_reported(bench: Bench, eaa: Eaa) -> None:
    """The status is 1, and the report names output, byte and content; builders who disagree are named."""
    file = write(bench, bench.text("echo made by; id -u >out/made"))
    one, other = bench.folder / "one", bench.folder / "other"
    builders = bench.folder / "builders.toml"
    builders.write_text(BUILDERS)
    eaa("build", file, "--out", one, "--key", key(bench, "a"), "--builder", "urn:test:a")
    status, said = eaa(
        *("rebuild", one / "provenance.dsse.json", "--out", other, "--sources", bench.folder),
        *("--key", key(bench, "b"), "--builder", "urn:test:b"),
    )
    assert status == EXIT_REJECTED
    assert "made differs, first at byte 0" in said
    report: dict[str, Any] = json.loads((other / "rebuild.json").read_text())
    assert report["differences"][0]["output"] == "made"
    pair = [folder / "provenance.dsse.json" for folder in (one, other)]
    status, said = eaa("compare", *pair, "--builders", builders)
    assert status == EXIT_REJECTED
    assert "builders disagree on made: urn:test:a made" in said


def test_a_build_file_is_built_and_rebuilt(bench: Bench, eaa: Eaa) -> None:
    """There need not be a provenance."""
    file = write(bench, bench.text("echo 1 >out/made"))
    status, said = eaa("rebuild", file, "--out", bench.folder / "again", "--json")
    assert (status, json.loads(said)["reproducible"]) == (EXIT_OK, True)


def test_without_a_key_it_says_that_it_proves_nothing(bench: Bench, eaa: Eaa) -> None:
    """The provenance is there, and nobody's."""
    file = write(bench, bench.text("echo 1 >out/made"))
    status, said = eaa("build", file, "--out", bench.folder / "out")
    assert (status, "is not signed" in said) == (EXIT_OK, True)
    builders = bench.folder / "builders.toml"
    builders.write_text(BUILDERS)
    for name in ("a", "b"):
        key(bench, name)
    status, said = eaa("compare", bench.folder / "out" / "provenance.dsse.json", "--builders", builders)
    assert (status, "provenance.builder" in said) == (EXIT_REJECTED, True)


def test_what_is_wrong_is_told_in_one_line(bench: Bench, eaa: Eaa, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hostile file, a failing build, a machine without a sandbox: nothing is left."""
    out = bench.folder / "out"
    status, said = eaa("build", write(bench, b"format = 1\nroot = true\n"), "--out", out)
    assert (status, "build-file.malformed" in said) == (EXIT_USAGE, True)
    status, said = eaa("build", write(bench, bench.text("exit 1")), "--out", out)
    assert (status, "build.failed" in said) == (EXIT_USAGE, True)
    monkeypatch.setattr(confinement, "_PROGRAMS", ("no-such-program",))
    status, said = eaa("build", write(bench, bench.text("echo 1 >out/made")), "--out", out)
    assert (status, "sandbox.unavailable" in said) == (EXIT_UNDECIDED, True)
    assert not out.exists()
