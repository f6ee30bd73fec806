# SPDX-License-Identifier: Apache-2.0
"""Packages come from where they are to be had, and count for their digest alone. Here an apt-get of our own plays the archive."""

from __future__ import annotations

import sys
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from eaa.verdict import packages as module
from eaa.verdict.build_file import Environment, PackageSource
from eaa.verdict.packages import PackageMissing, collect

if TYPE_CHECKING:
    from pathlib import Path

CONTENT = b"the package"
PACKAGE = PackageSource(package="box", version="1:2", sha256=sha256(CONTENT).hexdigest())
ENVIRONMENT = Environment(release="bookworm", packages=[PACKAGE], source_date_epoch=0)
APT = """#!{python}
import sys
from pathlib import Path
words = sys.argv[1:]
Path("{log}").open("a").write(" ".join(words) + "\\n")
if "--print-uris" in words and "-qq" not in words:
    for line in ("debian/dists/stable", "debian-security/dists/stable-security", "other/dists/nodistro", "x/dists/cloud-sdk"):
        print(f"'http://archive.example.test/{{line}}/InRelease' some_InRelease 0")
lists = [word.partition("=")[2] for word in words if word.startswith("Dir::Etc::sourcelist=")]
if "download" in words and bool(lists) == {own_lists}:
    if lists:
        Path("{log}").open("a").write(Path(lists[0]).read_text())
    Path("box_1%3a2_amd64.deb").write_bytes({content!r})
"""


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """What the archive was asked."""
    return tmp_path / "log"


def archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, own_lists: bool, content: bytes) -> None:
    """Put an apt-get in the way that has the package under the machine's lists, or under lists of one's own only."""
    program = tmp_path / "bin" / "apt-get"
    program.parent.mkdir()
    program.write_text(
        APT.format(python=sys.executable, log=tmp_path / "log", own_lists=own_lists, content=content)
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    keyring = tmp_path / "keyring.gpg"
    keyring.touch()
    monkeypatch.setattr(module, "_KEYRING", keyring)


def fetch(tmp_path: Path, given: Path | None = None) -> bytes:
    cache = tmp_path / "cache"
    found = collect([PACKAGE], ENVIRONMENT, cache=cache, given=given, say=lambda _: None)
    assert not cache.exists() or {path.suffix for path in cache.iterdir()} <= {".deb"}
    return found[PACKAGE].read_bytes()


def test_the_machines_own_lists_are_asked_first(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they have is kept, so that it is not asked for again."""
    archive(tmp_path, monkeypatch, own_lists=False, content=CONTENT)
    assert fetch(tmp_path) == CONTENT
    [asked] = log.read_text().splitlines()
    assert asked.endswith("download box=1:2")
    assert fetch(tmp_path) == CONTENT
    assert log.read_text().splitlines() == [asked]


def test_another_release_comes_from_the_same_archives(
    tmp_path: Path, log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Debian's archives that the machine knows are asked for the release that is wanted, and others' are not."""
    archive(tmp_path, monkeypatch, own_lists=True, content=CONTENT)
    assert fetch(tmp_path) == CONTENT
    sources = [line.rpartition("] ")[2] for line in log.read_text().splitlines() if line.startswith("deb ")]
    assert sources == [
        "http://archive.example.test/debian bookworm main",
        "http://archive.example.test/debian bookworm-updates main",
        "http://archive.example.test/debian-security bookworm-security main",
    ]


def test_what_is_not_the_digest_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An archive that has something else under the version has nothing."""
    archive(tmp_path, monkeypatch, own_lists=False, content=b"another package")
    with pytest.raises(PackageMissing, match="box=1:2") as missing:
        fetch(tmp_path)
    assert "--packages" in missing.value.hint
    assert list((tmp_path / "cache").iterdir()) == []


def test_a_folder_that_is_given_is_looked_into(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No archive is asked then, and there need not be an apt-get; a package in it with another digest is passed over."""
    monkeypatch.setenv("PATH", str(tmp_path))
    given = tmp_path / "given"
    given.mkdir()
    (given / "box_1_amd64.deb").write_bytes(b"another version")
    (given / "box_2_amd64.deb").write_bytes(CONTENT)
    assert fetch(tmp_path, given) == CONTENT


def test_a_spoilt_cache_is_not_believed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies under a digest and is something else is fetched again."""
    archive(tmp_path, monkeypatch, own_lists=False, content=CONTENT)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / f"{PACKAGE.sha256}.deb").write_bytes(b"spoilt")
    assert fetch(tmp_path) == CONTENT
