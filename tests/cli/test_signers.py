# SPDX-License-Identifier: Apache-2.0
"""The signers' file that a newcomer's first key is written into: sound before it counts, and never guessed at."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from eaa._keys import new_key
from eaa.cli._signers import enrol, signers_of
from eaa.cli._verdict_files import read_signers
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def test_an_absent_default_lets_nobody_sign(tmp_path: Path) -> None:
    assert signers_of(None, tmp_path / "signers.toml")().products == ()
    with pytest.raises(ConfigurationError):
        signers_of(str(tmp_path / "named.toml"), tmp_path / "signers.toml")()


def test_what_is_kept_is_what_the_files_say(tmp_path: Path) -> None:
    """Nothing is parsed again while nothing changed; a key file that changed in place, with its times set back, is seen."""
    path, key = tmp_path / "signers.toml", tmp_path / "release.pub"
    key.write_bytes(new_key()[1])
    path.write_text('[keys]\nr = "release.pub"\n[products."acme/web"]\nsigners = ["r"]\nthreshold = 1\n')
    read = signers_of(None, path)
    first, times = read(), key.stat()
    assert read() is first
    key.write_bytes(new_key()[1])
    os.utime(key, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert read() != first
    key.unlink()
    with pytest.raises(ConfigurationError, match=r"release\.pub"):
        read()
    path.unlink()
    assert read().products == ()


def test_a_file_is_begun_and_continued(tmp_path: Path) -> None:
    path = tmp_path / "signers.toml"
    for name, product in (("one", "acme/web"), ("two", "acme/db")):
        assert enrol(path, product, name, new_key()[1]) is None
    read = signers_of(None, path)()
    assert [(each.pattern, list(each.keys), each.threshold) for each in read.products] == [
        ("acme/web", ["one"], 1),
        ("acme/db", ["two"], 1),
    ]
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(("product", "name"), [("acme/web", "other"), ("acme/db", "one")])
def test_what_is_there_is_not_changed(tmp_path: Path, product: str, name: str) -> None:
    """A product with signers, and a name that is taken, are for a person to decide about."""
    path = tmp_path / "signers.toml"
    enrol(path, "acme/web", "one", new_key()[1])
    before = path.read_bytes()
    assert f'"{name}"' in (enrol(path, product, name, new_key()[1]) or "")
    assert path.read_bytes() == before


def test_an_unsound_file_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "signers.toml"
    path.write_text("[keys]\n")
    with pytest.raises(ConfigurationError):
        enrol(path, "acme/web", "one", new_key()[1])
    assert path.read_text() == "[keys]\n"
    enrol(tmp_path / "new.toml", "acme/web", "one", new_key()[1])
    assert len(read_signers(tmp_path / "new.toml").products) == 1
