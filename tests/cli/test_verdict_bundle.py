# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict verify-bundle``: a real bundle holds for its identity and its files alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eaa.cli._run import run
from eaa.cli.verdict import verdict

if TYPE_CHECKING:
    from collections.abc import Sequence

pytest.importorskip("sigstore", reason="sigstore is not installed")

BUNDLE = Path(__file__).parents[1] / "verdict" / "data" / "pypi-attestations-0.0.19.slsa.sigstore.json"
ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"
SIGNED = ("--identity", WORKFLOW, "--issuer", ISSUER)


def call(capsys: pytest.CaptureFixture[str], arguments: Sequence[str | Path]) -> tuple[int, str, str]:
    status = run(verdict, "eaa verdict", ["verify-bundle", *(str(each) for each in arguments)])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_a_real_bundle_holds(capsys: pytest.CaptureFixture[str]) -> None:
    status, out, _ = call(capsys, (BUNDLE, *SIGNED))
    assert status == 0
    assert "holds: https://slsa.dev/provenance/v1 about pypi_attestations-0.0.19.tar.gz" in out
    status, out, _ = call(capsys, (BUNDLE, *SIGNED, "--json"))
    assert status == 0
    assert json.loads(out)["identity"] == WORKFLOW


def test_another_identity_or_file_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    status, _, err = call(capsys, (BUNDLE, "--identity", "someone@example.com", "--issuer", ISSUER))
    assert status == 1
    assert "sigstore.identity" in err
    (tmp_path / "file").write_bytes(b"something else")
    status, _, err = call(capsys, (BUNDLE, *SIGNED, "--artifact", tmp_path / "file"))
    assert status == 1
    assert "sigstore.subject" in err


def test_what_is_no_bundle_is_bad_input(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"{}")
    for arguments in ((tmp_path / "file", *SIGNED), (BUNDLE, *SIGNED, "--trusted-root", tmp_path / "file")):
        status, _, err = call(capsys, arguments)
        assert status == 2
        assert "hint:" in err or "no sigstore bundle" in err
