# SPDX-License-Identifier: Apache-2.0
"""A build makes what its file declares, from what its file pins, or fails and leaves nothing."""

from __future__ import annotations

import os
from dataclasses import replace
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from eaa.verdict.build import BuildFailed
from eaa.verdict.build_file import BuildFileError, parse_build_file
from eaa.verdict.conditions import pinned
from eaa.verdict.packages import PackageMissing
from eaa.verdict.sandbox import LimitExceeded

if TYPE_CHECKING:
    from pathlib import Path

    from tests.verdict.builds.conftest import Bench


def test_it_makes_what_it_declares(bench: Bench) -> None:
    """A source goes in, an output comes out."""
    (bench.folder / "source").write_text("hello\n")
    made = bench.build(bench.text("tr a-z A-Z <in/source >out/made", sources="source"))
    assert made == {"made": b"HELLO\n"}


def test_it_sees_the_pinned_environment(bench: Bench) -> None:
    """Variables, umask, user, folder, times of inputs: as pinned; and no program but the package's."""
    (bench.folder / "source").write_text("")
    script = (
        "(echo $SOURCE_DATE_EPOCH $LC_ALL $TZ $COLOUR; umask; id -u; pwd; hostname; stat -c %Y in/source;"
        " ls /usr/bin; ls in out; touch in/new || echo kept; touch /etc/new || echo kept) >out/made 2>/dev/null"
    )
    text = bench.text(script, sources="source").replace(
        b"[sources]", b'[environment.variables]\nCOLOUR = "blue"\n[sources]'
    )
    assert bench.build(text)["made"].decode().split() == [
        *("1735689600", "C.UTF-8", "UTC", "blue", "0022", "1000", "/build", "build", "1735689600"),
        *("busybox", "in:", "source", "out:", "made", "kept", "kept"),
    ]


def test_steps_build_on_each_other(bench: Bench) -> None:
    """One step's output is another's input, under its name."""
    more = (
        '[steps.last]\ninputs = ["only/made"]\noutputs = ["more"]\n'
        'run = [["busybox", "sed", "-i", "s/one/two/", "out/more"]]'
    )
    text = bench.text("echo one >out/made", more=more).replace(b'"only/made"\n[', b'"last/more"\n[', 1)
    text = text.replace(
        b'run = [["busybox", "sed"', b'run = [["busybox", "cp", "in/made", "out/more"], ["busybox", "sed"'
    )
    assert bench.build(text) == {"made": b"two\n"}


def test_a_package_as_a_source_is_the_folder_of_its_files(bench: Bench) -> None:
    """It lies below `in` under the source's name."""
    text = bench.text("cat in/box/usr/bin/busybox >out/made")
    pin = text.split(b"packages = [")[1].split(b"]")[0]
    text = text.replace(b"[sources]", b"[sources]\nbox = " + pin).replace(b"inputs = []", b'inputs = ["box"]')
    assert bench.build(text)["made"].startswith(b"\x7fELF")


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ("exit 3", "ended with status 3"),
        ("echo so it is >&2; exit 1", "so it is"),
        ("true", "did not make 'made'"),
        ("echo >out/made; echo >out/other", "'other' in out, which it does not declare"),
        ('echo >out/made; touch "out/two\nlines"', "lines' in out"),
        ("ln -s /etc/passwd out/made", "no regular file"),
        ("ln -s ../in out/made", "no regular file"),
        ("mkdir out/made", "no regular file"),
        ("mkfifo out/made", "no regular file"),
        ("rm -r out; ln -s /etc out", "which it does not declare|cannot be read"),
        ("rm -r out", "cannot be read"),
        ("echo >out/made; mknod out/disk b 8 0", "ended with status 1"),
        ("truncate -s 100000000000 out/made", "ended with status"),
        ("nc 127.0.0.1 22 >out/made", "ended with status"),
        ("wget -O out/made http://192.0.2.1/", "ended with status"),
    ],
)
def test_what_is_not_as_declared_fails(bench: Bench, script: str, reason: str) -> None:
    """A failing command, a missing, strange, linked, unnamed or unreadable output, one too large, a network not declared."""
    with pytest.raises(BuildFailed, match=reason):
        bench.build(bench.text(script))


@pytest.mark.parametrize(
    ("script", "limits", "limit"),
    [
        ("sleep 300", "seconds = 1", "seconds"),
        ("while true; do true; done", "seconds = 1", "seconds"),
        ("for i in $(seq 9); do head -c 900000 /dev/zero >$i; done; sleep 60", "bytes = 1000000", "bytes"),
        ("for i in $(seq 99); do : >/tmp/$i; done; sleep 60", "files = 50", "files"),
    ],
)
def test_what_takes_too_much_is_ended(bench: Bench, script: str, limits: str, limit: str) -> None:
    """A command that never ends, output without end, files without end."""
    with pytest.raises(LimitExceeded) as ended:
        bench.build(bench.text(script, more=f"[limits]\n{limits}\n"))
    assert ended.value.limit == limit


def test_the_time_is_the_steps_not_each_commands(bench: Bench) -> None:
    """Many short commands do not add up to more than the limit."""
    text = bench.text("sleep 1", more="[limits]\nseconds = 2\n")
    begin, command = b"run = [", text.split(b"run = [", 1)[1].split(b"]\nshell", 1)[0]
    with pytest.raises(LimitExceeded):
        bench.build(text.replace(begin + command, begin + b", ".join([command] * 9)))


def test_a_source_that_is_not_what_is_pinned_is_refused(bench: Bench) -> None:
    """The refusal names both digests."""
    source = bench.folder / "source"
    source.write_text("as it was")
    text = bench.text("cp in/source out/made", sources="source")
    source.write_text("as it is")
    with pytest.raises(BuildFileError, match=sha256(b"as it is").hexdigest()) as refused:
        bench.build(text)
    assert sha256(b"as it was").hexdigest() in str(refused.value)


@pytest.mark.parametrize("kind", ["absent", "outside", "folder", "pipe", "loop"])
def test_a_source_that_is_no_file_of_the_folder_is_refused(bench: Bench, tmp_path: Path, kind: str) -> None:
    """A link that leads out, a folder, a pipe that would never end, a loop of links."""
    source = bench.folder / "source"
    source.write_text("")
    text = bench.text("cp in/source out/made", sources="source")
    source.unlink()
    if kind == "outside":
        source.symlink_to("/etc/hostname")
    elif kind == "folder":
        source.mkdir()
    elif kind == "pipe":
        os.mkfifo(source)
    elif kind == "loop":
        source.symlink_to("source")
    with pytest.raises(BuildFileError, match="source"):
        bench.build(text)


def test_a_package_that_is_nowhere_is_named(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is found under its name is believed for its digest alone."""
    monkeypatch.setenv("PATH", "/nonexistent")
    text = bench.text("true").replace(b'sha256 = "', b'sha256 = "' + b"0" * 60)
    text = text.replace(b"0" * 60 + text.split(b"0" * 60)[1][:64], b"0" * 64)
    with pytest.raises(PackageMissing, match=r"busybox-static=1\.0") as missing:
        bench.build(text)
    assert "--packages" in missing.value.hint


def test_a_package_changed_after_it_was_found_is_refused(bench: Bench, tmp_path: Path) -> None:
    """It is hashed as it is copied to where it is unpacked."""
    file = parse_build_file(bench.text("true"))
    workshop = bench.workshop(file)
    other = tmp_path / "other.deb"
    other.write_bytes(b"!<arch>\n")
    changed = replace(workshop, packages=dict.fromkeys(workshop.packages, other))
    with bench.sandbox.stage() as stage, pytest.raises(BuildFileError, match="is pinned"):
        changed.build(file, pinned(file.environment), stage)


@pytest.mark.parametrize("place", ["proc", "tmp", "build", "dev"])
def test_a_package_cannot_move_where_things_are_mounted(bench: Bench, tmp_path: Path, place: str) -> None:
    """A package that puts a link in the place of such a folder is refused, whatever its digest."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    package = bench.package(folder, {}, {place: "/usr"})
    text = bench.text("true")
    digest = text.split(b'sha256 = "')[1][:64]
    file = parse_build_file(text.replace(digest, sha256(package.read_bytes()).hexdigest().encode()))
    workshop = bench.workshop(file, given=folder)
    with bench.sandbox.stage() as stage, pytest.raises(BuildFailed):
        workshop.build(file, pinned(file.environment), stage)


def test_a_package_writes_nowhere_else(bench: Bench, tmp_path: Path) -> None:
    """What is written through a link in a package stays in the sandbox."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    package = bench.package(folder, {"usr/bin/busybox": b"x"}, {"usr/share": str(tmp_path)})
    text = bench.text("true")
    digest = text.split(b'sha256 = "')[1][:64]
    file = parse_build_file(text.replace(digest, sha256(package.read_bytes()).hexdigest().encode()))
    before = sorted(tmp_path.rglob("*"))
    with bench.sandbox.stage() as stage, pytest.raises(BuildFailed):
        bench.workshop(file, given=folder).build(file, pinned(file.environment), stage)
    assert [path for path in sorted(tmp_path.rglob("*")) if "cache" not in path.parts] == before


def test_something_that_is_no_package_is_refused(bench: Bench, tmp_path: Path) -> None:
    """dpkg-deb says why."""
    folder = tmp_path / "hostile"
    folder.mkdir()
    (folder / "busybox-static_1.0_amd64.deb").write_bytes(b"!<arch>\nno package")
    text = bench.text("true")
    digest = text.split(b'sha256 = "')[1][:64]
    pinned_digest = sha256(b"!<arch>\nno package").hexdigest().encode()
    file = parse_build_file(text.replace(digest, pinned_digest))
    with bench.sandbox.stage() as stage, pytest.raises(BuildFailed, match="cannot be unpacked"):
        bench.workshop(file, given=folder).build(file, pinned(file.environment), stage)
