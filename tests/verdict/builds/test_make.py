# SPDX-License-Identifier: Apache-2.0
"""A folder with a build in it is whole, says where it comes from, and is built once."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from eaa.rats import ConfigurationError, InputError
from eaa.verdict.build_file import parse_build_file
from eaa.verdict.delivery import PROVENANCE_FILE, deliver, delivered
from eaa.verdict.envelope import open_envelope
from eaa.verdict.make import Identity, build_into
from eaa.verdict.provenance import BUILD_TYPE, Provenance
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verdict.builds.conftest import Bench

    from eaa._keys import PrivateKey


def build(bench: Bench, text: bytes, out: Path, key: PrivateKey | None) -> tuple[Provenance, bool]:
    file = parse_build_file(text)
    return build_into(out, file, bench.workshop(file), Identity.of(key))


def test_outputs_and_signed_provenance_lie_together(bench: Bench, keys: tuple[PrivateKey, ...]) -> None:
    """The provenance names the builder, the build file, all that went in and all that came out, with digests."""
    (bench.folder / "source").write_text("hello\n")
    text, out = bench.text("cp in/source out/made", sources="source"), bench.folder / "out"
    made, built = build(bench, text, out, keys[0])
    assert built
    assert sorted(path.name for path in out.iterdir()) == ["made", PROVENANCE_FILE]
    opened = open_envelope((out / PROVENANCE_FILE).read_bytes(), [keys[0].public_key()])
    found = Provenance.from_statement(opened.statement)
    assert found == made
    assert (found.build_type, found.build_file()) == (BUILD_TYPE, text)
    assert found.builder == Identity.of(keys[0]).id
    assert [(each.name, each.uri.partition("?")[0]) for each in found.dependencies] == [
        ("build-file", ""),
        ("environment/busybox-static", "pkg:deb/debian/busybox-static@1.0"),
        ("source/source", "file:source"),
    ]
    assert [each.name for each in found.outputs] == ["made"]
    assert found.started is not None
    assert found.finished is not None
    assert found.started <= found.finished


def test_what_is_there_is_not_built_again(bench: Bench, keys: tuple[PrivateKey, ...]) -> None:
    """A second run changes nothing; another build file, another builder, a lost or changed output do."""
    text, out = bench.text("echo 1 >out/made"), bench.folder / "out"
    assert build(bench, text, out, keys[0])[1]
    before = (out / PROVENANCE_FILE).stat()
    assert not build(bench, text, out, keys[0])[1]
    assert (out / PROVENANCE_FILE).stat() == before
    assert build(bench, text, out, keys[1])[1]
    (out / "made").write_text("2\n")
    assert build(bench, text, out, keys[1])[1]
    assert (out / "made").read_text() == "1\n"
    (out / "made").unlink()
    assert build(bench, text, out, keys[1])[1]
    assert build(bench, bench.text("echo 3 >out/made"), out, keys[1])[1]
    assert (out / "made").read_text() == "3\n"


def test_an_up_to_date_build_still_wants_its_sources(bench: Bench) -> None:
    """A source that was changed since is no less wrong because the old output is still there."""
    (bench.folder / "source").write_text("as it was")
    text, out = bench.text("cp in/source out/made", sources="source"), bench.folder / "out"
    build(bench, text, out, None)
    (bench.folder / "source").write_text("as it is")
    with pytest.raises(InputError, match="is pinned"):
        build(bench, text, out, None)


def test_a_failed_build_leaves_the_earlier_one(bench: Bench) -> None:
    """Nothing of the folder is touched before all of the new build is there."""
    out = bench.folder / "out"
    build(bench, bench.text("echo 1 >out/made"), out, None)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    with pytest.raises(InputError, match="status 1"):
        build(bench, bench.text("echo 2 >out/made; exit 1"), out, None)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert [path.name for path in bench.folder.iterdir() if path.name.startswith(".")] == []


def test_a_crash_leaves_the_earlier_build_or_the_new_one(tmp_path: Path) -> None:
    """Killed at any system call of the delivery, the folder holds one build whole."""
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from eaa.verdict import delivery\n"
        "calls = int(sys.argv[1])\n"
        "def count(real):\n"
        "    def call(*args, **kwargs):\n"
        "        global calls\n"
        "        calls -= 1\n"
        "        if calls == 0:\n"
        "            os.kill(os.getpid(), signal.SIGKILL)\n"
        "        return real(*args, **kwargs)\n"
        "    return call\n"
        "for name in ('fsync', 'rename', 'unlink', 'rmdir', 'mkdir'):\n"
        "    setattr(os, name, count(getattr(os, name)))\n"
        "delivery._write = count(delivery._write)\n"
        "delivery._put = count(delivery._put)\n"
        "out = Path(sys.argv[2])\n"
        "delivery.deliver(out, {'made': b'new', 'more': b'new', 'provenance.dsse.json': b'new'})\n"
    )
    ends = set()
    for calls in range(1, 40):
        out = tmp_path / str(calls) / "out"
        out.mkdir(parents=True)
        deliver_old(out)
        done = subprocess.run([sys.executable, "-c", script, str(calls), str(out)], check=False, timeout=120)
        ends.add(done.returncode)
        contents = {path.read_bytes() for path in out.iterdir()}
        assert contents in ({b"old", old_provenance()}, {b"new"})
        if done.returncode == 0:
            break
    assert ends == {-signal.SIGKILL, 0}


def old_provenance() -> bytes:
    provenance = Provenance(
        builder="urn:test",
        build_type=BUILD_TYPE,
        outputs=(Artifact.of("made", b"old"),),
        dependencies=(),
        external={},
        internal={},
    )
    return Identity("urn:test", None).seal(provenance)


def deliver_old(out: Path) -> None:
    deliver(out, {"made": b"old", PROVENANCE_FILE: old_provenance()})


@pytest.mark.parametrize("there", ["a file of mine", "a file", "a link", "mine beside a build"])
def test_what_no_build_has_left_is_not_replaced(tmp_path: Path, there: str) -> None:
    """A folder with other things in it, a file, a link: refused, and left as it was."""
    out = tmp_path / "out"
    if there == "a file":
        out.write_text("mine")
    elif there == "a link":
        (tmp_path / "elsewhere").mkdir()
        out.symlink_to(tmp_path / "elsewhere")
    else:
        out.mkdir()
        if there == "mine beside a build":
            deliver_old(out)
        (out / "mine").write_text("mine")
    with pytest.raises(ConfigurationError, match="nothing in it is replaced"):
        deliver(out, {"made": b"new"})
    assert out.is_symlink() or (out if out.is_file() else out / "mine").read_text() == "mine"


def test_what_a_provenance_names_elsewhere_is_not_looked_at(tmp_path: Path) -> None:
    """An output's name that leads out of the folder makes it no build."""
    (tmp_path / "made").write_bytes(b"old")
    provenance = Provenance(
        builder="urn:test",
        build_type=BUILD_TYPE,
        outputs=(Artifact.of("../made", b"old"),),
        dependencies=(),
        external={},
        internal={},
    )
    out = tmp_path / "out"
    out.mkdir()
    (out / PROVENANCE_FILE).write_bytes(Identity("urn:test", None).seal(provenance))
    assert delivered(out) is None


def test_where_nothing_can_be_written_it_says_so(tmp_path: Path) -> None:
    """A folder below a file cannot be made."""
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigurationError, match="cannot be written"):
        deliver(tmp_path / "file" / "out", {"made": b"new"})
    assert os.listdir(tmp_path) == ["file"]  # noqa: PTH208 - names
