# SPDX-License-Identifier: Apache-2.0
"""Generated code is what its definitions generate."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_grpc_messages_are_what_their_definitions_generate(tmp_path: Path) -> None:
    """`make proto` would change nothing."""
    subprocess.run([ROOT / "scripts" / "proto", tmp_path], check=True, capture_output=True)
    made = sorted((tmp_path / "eaa" / "_proto").iterdir())
    kept = [ROOT / "src" / "eaa" / "_proto" / path.name for path in made]
    assert len(made) >= 3
    assert [
        path.name for path, old in zip(made, kept, strict=True) if path.read_bytes() != old.read_bytes()
    ] == []
