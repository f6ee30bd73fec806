# SPDX-License-Identifier: Apache-2.0
"""A rebuild varies what must not matter, and says which output differs, where, and what."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.verdict import rebuild as module
from eaa.verdict.build_file import parse_build_file
from eaa.verdict.conditions import pinned, varied
from eaa.verdict.make import make
from eaa.verdict.rebuild import Rebuild, first_difference, rebuild

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verdict.builds.conftest import Bench

KEPT = ["clock", "cores", "environment", "file-times", "locale", "order", "path", "timezone", "umask", "user"]


@pytest.fixture(autouse=True)
def _at_once(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for the clock only where a test is about it."""
    if "clock" not in request.node.name:
        monkeypatch.setattr(module, "_CLOCK_STEP", 0)


def build_twice(bench: Bench, text: bytes, *, originals: bool = True) -> Rebuild:
    file = parse_build_file(text)
    workshop = bench.workshop(file)
    with bench.sandbox.stage() as stage:
        first = make(file, workshop, stage / "build", "urn:test")
        expected = {each.name: each.sha256 or "" for each in first.provenance.outputs}
        found = rebuild(file, workshop, stage, "urn:test", expected, first.files if originals else {}, 2)
        assert {name: path.is_file() for name, path in found.made.files.items()} == {"made": True}
        return found


def test_what_follows_from_the_sources_is_the_same(bench: Bench) -> None:
    """All is varied, and nothing shows."""
    (bench.folder / "source").write_text("hello\n")
    found = build_twice(bench, bench.text("tr a-z A-Z <in/source >out/made", sources="source"))
    assert found.reproducible
    assert [each.name for each in found.variations if each.applied] == KEPT
    assert found.to_json()["reproducible"] is True
    assert found.made.provenance.internal["variations"][0]["name"] == "clock"


@pytest.mark.parametrize(
    ("name", "script"),
    [
        ("clock", "date +%s >out/made"),
        ("cores", "nproc >out/made"),
        ("environment", "echo $HOME ${CAPTURE_ENVIRONMENT-} >out/made"),
        ("file-times", "stat -c %Y in/source >out/made"),
        ("locale", "echo $LANG >out/made"),
        ("path", "pwd >out/made"),
        ("timezone", "date -d @0 +%H >out/made"),
        ("umask", "echo >made; stat -c %a made >out/made"),
        ("user", "id -u >out/made; hostname >>out/made"),
    ],
)
def test_each_variation_is_seen_by_what_depends_on_it(bench: Bench, name: str, script: str) -> None:
    """A build that lets one of them into its output is found out, and is not if the file asks to keep just that."""
    (bench.folder / "source").write_text("")
    others = [each for each in KEPT if each != name]
    text = bench.text(script, sources="source", more=f"[rebuild]\nkeep = {others}\n")
    assert not build_twice(bench, text).reproducible
    if name == "clock":
        return  # what asks for the time cannot keep it
    text = bench.text(script, sources="source", more=f'[rebuild]\nkeep = ["{name}", "environment"]\n')
    found = build_twice(bench, text)
    assert found.reproducible
    assert [each.how for each in found.variations if each.name == name] == ["the build file asks to keep it"]


def test_a_difference_is_told_by_output_offset_and_content(bench: Bench) -> None:
    """A path in an archive: diffoscope looks into it."""
    if shutil.which("diffoscope") is None:
        pytest.skip("diffoscope is not installed: apt-get install diffoscope-minimal")
    script = "mkdir tree; pwd >tree/place; tar -cf out/made tree/place"
    found = build_twice(bench, bench.text(script))
    assert not found.reproducible
    [difference] = found.differences
    assert difference.output == "made"
    assert difference.offset is not None
    assert "tree/place" in difference.report
    assert sorted(found.reports) == ["rebuild.made.html", "rebuild.made.txt"]
    assert b"tree/place" in found.reports["rebuild.made.html"]


def test_without_diffoscope_it_says_so(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """Digests and offset are told all the same."""
    monkeypatch.setattr(shutil, "which", lambda _: None)
    [difference] = build_twice(bench, bench.text("echo 1234; pwd >out/made")).differences
    assert (difference.offset, difference.report) == (1, module._NO_DIFFOSCOPE)


def test_without_the_original_its_digest_is_compared(bench: Bench) -> None:
    """There is no offset then, and the report says why."""
    [difference] = build_twice(bench, bench.text("pwd >out/made"), originals=False).differences
    assert (difference.offset, difference.report) == (None, module._NO_ORIGINAL)
    assert difference.expected != difference.found


def test_what_cannot_be_varied_is_said(bench: Bench) -> None:
    """A machine with one core, or without libfaketime."""
    file = parse_build_file(bench.text("true"))
    conditions, variations = varied(file, cores=1)
    assert [each.how for each in variations if not each.applied] == ["this machine has one core"]
    assert not conditions.one_core
    plain = pinned(file.environment)
    assert conditions.variables["SOURCE_DATE_EPOCH"] == plain.variables["SOURCE_DATE_EPOCH"]


@given(st.binary(max_size=50), st.binary(max_size=50))
def test_the_first_difference_is_the_first(
    tmp_path_factory: pytest.TempPathFactory, one: bytes, other: bytes
) -> None:
    """What comes before it is the same, and it is not."""
    folder = tmp_path_factory.mktemp("pair")
    (folder / "one").write_bytes(one)
    (folder / "other").write_bytes(other)
    offset = first_difference(folder / "one", folder / "other")
    if offset is None:
        assert one == other
    else:
        assert one[:offset] == other[:offset]
        assert one[offset : offset + 1] != other[offset : offset + 1]


def test_a_difference_beyond_the_first_part_is_found(tmp_path: Path) -> None:
    """Files are read in parts."""
    (tmp_path / "one").write_bytes(b"x" * 3_000_000)
    (tmp_path / "other").write_bytes(b"x" * 2_500_000 + b"y" + b"x" * 499_999)
    assert first_difference(tmp_path / "one", tmp_path / "other") == 2_500_000
