# SPDX-License-Identifier: Apache-2.0
"""What `make fuzz` begins with is sound, so that fuzzing gets past the first field."""

from __future__ import annotations

import runpy
from pathlib import Path

import pytest


def test_every_fuzz_target_accepts_its_own_seeds() -> None:
    """Each target has seeds, and parses them; random mutations of anything less would test the first refusal only."""
    pytest.importorskip("atheris", reason="atheris is not installed")
    fuzz = runpy.run_path(str(Path(__file__).parents[2] / "scripts" / "fuzz.py"), run_name="fuzz")
    targets, seeds = fuzz["TARGETS"], fuzz["seeds"]()
    assert targets.keys() == seeds.keys()
    for name, target in targets.items():
        assert seeds[name]
        for seed in seeds[name]:
            assert len(seed) <= fuzz["MAX_LENGTH"]
            target(seed)
