# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict`` on files: from artefacts to a signed set, and what is refused on the way."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from eaa._keys import key_id, read_private_key, read_public_key
from eaa.cli._run import run
from eaa.cli.verdict import verdict

if TYPE_CHECKING:
    from pathlib import Path

    import pytest


def call(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, str, str]:
    status = run(verdict, "eaa verdict", [str(each) for each in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_new_key_is_for_its_owner_alone(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    for kind in ("ed25519", "p256"):
        path = tmp_path / kind
        status, out, _ = call(capsys, "key", "new", path, "--kind", kind, "--json")
        made = json.loads(out)
        assert status == 0
        assert path.stat().st_mode & 0o777 == 0o600
        public = read_public_key((tmp_path / f"{kind}.pub").read_bytes())
        assert read_private_key(path.read_bytes()).public_key() == public
        assert made["key_id"] == key_id(public)


def test_a_key_is_never_replaced(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    path = tmp_path / "release"
    assert call(capsys, "key", "new", path)[0] == 0
    before = path.read_bytes(), (tmp_path / "release.pub").read_bytes()
    status, out, err = call(capsys, "key", "new", path)
    assert (status, out) == (2, "")
    assert "File exists" in err
    assert (path.read_bytes(), (tmp_path / "release.pub").read_bytes()) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["release", "release.pub"]
