# SPDX-License-Identifier: Apache-2.0
"""Tiers of AR4SI."""

from __future__ import annotations

import pytest

from eaa.verifier.trust import CLAIM_NAMES, Tier, status, tier, worst


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (-128, "contraindicated"), (-97, "contraindicated"), (-96, "warning"), (-33, "warning"), (-32, "affirming"),
        (-2, "affirming"), (-1, "none"), (0, "none"), (1, "none"), (2, "affirming"), (31, "affirming"), (32, "warning"),
        (95, "warning"), (96, "contraindicated"), (127, "contraindicated"),
    ],
)  # fmt: skip
def test_every_border_of_the_tiers(value: int, expected: str) -> None:
    assert tier(value) == expected


@pytest.mark.parametrize("value", [-129, 128, 1000])
def test_a_value_beyond_eight_bits_has_no_tier(value: int) -> None:
    with pytest.raises(ValueError, match="8-bit"):
        tier(value)


@pytest.mark.parametrize(
    ("vector", "expected"),
    [
        ({}, Tier.NONE),
        (dict.fromkeys(CLAIM_NAMES, 0), Tier.NONE),
        ({"hardware": 0, "executables": 3}, Tier.AFFIRMING),
        ({"hardware": 2, "executables": 33}, Tier.WARNING),
        ({"hardware": 97, "executables": 33, "configuration": 2}, Tier.CONTRAINDICATED),
    ],
)
def test_the_status_is_that_of_the_worst_claim(vector: dict[str, int], expected: Tier) -> None:
    assert status(vector) is expected


def test_the_worst_claims_are_named_first() -> None:
    vector = {"configuration": 2, "executables": 33, "hardware": 97, "file-system": 0}
    assert worst(vector) == "hardware 97, executables 33"
