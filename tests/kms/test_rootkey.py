# SPDX-License-Identifier: Apache-2.0
"""The root key's file is made once, whole, and for its owner only."""

from __future__ import annotations

import base64
import os
import stat
import threading
from typing import TYPE_CHECKING

import pytest

from eaa.kms import LocalKeyManager
from eaa.kms.rootkey import load_or_create_key_file, read_key_file
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_the_file_is_made_for_its_owner_only(tmp_path: Path) -> None:
    """Whatever the umask, file and folder are closed to others, and nothing else is left behind."""
    path = tmp_path / "kms" / "root.key"
    before = os.umask(0)
    try:
        key = load_or_create_key_file(path)
    finally:
        os.umask(before)
    assert len(key) == 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert list(path.parent.iterdir()) == [path]


def test_opening_again_gives_the_same_key(tmp_path: Path) -> None:
    """Open is idempotent; another file gives another key."""
    settings = {"key_file": str(tmp_path / "root.key")}
    first = LocalKeyManager.open(settings, environ={})
    assert LocalKeyManager.open(settings, environ={}).key_id == first.key_id
    assert LocalKeyManager.open({"key_file": str(tmp_path / "other")}, environ={}).key_id != first.key_id


def test_of_many_at_once_one_makes_the_key(tmp_path: Path) -> None:
    """Whoever loses the race reads the winner's key."""
    keys: list[bytes] = []
    together = threading.Barrier(8)

    def load() -> None:
        together.wait()
        keys.append(load_or_create_key_file(tmp_path / "root.key"))

    threads = [threading.Thread(target=load) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(keys) == 8
    assert len(set(keys)) == 1
    assert list(tmp_path.iterdir()) == [tmp_path / "root.key"]


def test_a_full_disk_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the key cannot be made durable, there is no file, and the error says so without a traceback of the system's."""

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(ConfigurationError, match="No space left"):
        load_or_create_key_file(tmp_path / "root.key")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o660, 0o777, 0o610])
def test_a_file_open_to_others_is_refused(tmp_path: Path, mode: int) -> None:
    """The error names the file and its mode, and says what to do."""
    path = tmp_path / "root.key"
    load_or_create_key_file(path)
    path.chmod(mode)
    with pytest.raises(ConfigurationError, match=f"{mode:04o}") as caught:
        load_or_create_key_file(path)
    assert f"chmod 600 {path}" in caught.value.hint


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 32, b"AAAA", base64.b64encode(bytes(31)), b"A" * 9000, b"\xff" * 44]
)
def test_a_file_with_something_else_is_refused_and_kept(tmp_path: Path, content: bytes) -> None:
    """A damaged key file is never replaced by a new key, which would lose the database."""
    path = tmp_path / "root.key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ConfigurationError, match="does not hold a root key"):
        load_or_create_key_file(path)
    assert path.read_bytes() == content


def test_what_is_no_regular_file_is_refused(tmp_path: Path) -> None:
    """A folder, a FIFO (without waiting for a writer) or a link to nowhere in the file's place is an error."""
    fifo, folder, dangling = tmp_path / "fifo", tmp_path / "folder", tmp_path / "link"
    os.mkfifo(fifo, 0o600)
    folder.mkdir(mode=0o700)
    dangling.symlink_to(tmp_path / "nowhere")
    for path in (fifo, folder, dangling):
        with pytest.raises(ConfigurationError, match=str(path)):
            load_or_create_key_file(path)


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path: Path) -> None:
    """A file in the way of the folder is told as the user's problem."""
    (tmp_path / "kms").write_text("in the way")
    with pytest.raises(ConfigurationError, match="cannot use the root key file"):
        load_or_create_key_file(tmp_path / "kms" / "root.key")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_another_users_file_is_refused(tmp_path: Path) -> None:
    """Whoever owns the file could change the key."""
    path = tmp_path / "root.key"
    load_or_create_key_file(path)
    os.chown(path, 12345, -1)
    with pytest.raises(ConfigurationError, match="belongs to user 12345"):
        read_key_file(path)
