# SPDX-License-Identifier: Apache-2.0
"""Files that commands leave: with their mode, whole, and never over one that must stay."""

from __future__ import annotations

from pathlib import Path

import pytest

from eaa.cli._write import write_file
from eaa.rats import ConfigurationError


def test_a_file_has_its_mode_and_takes_anothers_place(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one", 0o600)
    assert path.stat().st_mode & 0o777 == 0o600
    write_file(path, b"two", 0o600)
    assert path.read_bytes() == b"two"
    assert list(tmp_path.iterdir()) == [path]


def test_a_new_file_replaces_nothing(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_file(path, b"one", 0o600, new=True)
    with pytest.raises(ConfigurationError, match="File exists"):
        write_file(path, b"two", 0o600, new=True)
    assert path.read_bytes() == b"one"


def test_what_cannot_be_written_says_why(tmp_path: Path) -> None:
    for path in (tmp_path / "none" / "file", tmp_path, Path("a\0b")):
        with pytest.raises(ConfigurationError, match="cannot be written"):
            write_file(path, b"", 0o600)


def test_what_is_no_file_is_written_to() -> None:
    write_file(Path("/dev/null"), b"gone", 0o600)
    assert not Path("/dev/null").is_file()
