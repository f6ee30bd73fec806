# SPDX-License-Identifier: Apache-2.0
"""Looking up the set that evidence matches, among 100,000 active values."""

from __future__ import annotations

from datetime import UTC, datetime
from hashlib import sha384

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from eaa.verifier.expected_sets import ExpectedSet, ExpectedSets

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
NAMES = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
SETS = 25_000


def _registers(number: int) -> dict[str, str]:
    """Firmware is shared by many products, kernels by some, initial disks by few."""
    shared = {"mr_td": number % 10, "rtmr_0": number % 100, "rtmr_1": number % 1000, "rtmr_2": number}
    return {name: sha384(f"{name} {value}".encode()).hexdigest() for name, value in shared.items()}


@pytest.fixture(scope="module")
def sets() -> ExpectedSets:
    return ExpectedSets(
        ExpectedSet(
            f"product/{number}", 1, "tdx", {name: (value,) for name, value in _registers(number).items()}
        )
        for number in range(SETS)
    )


@pytest.mark.benchmark(group="reference values")
def test_find_among_100000_values(benchmark: BenchmarkFixture, sets: ExpectedSets) -> None:
    measured = _registers(17_321)
    found = benchmark(sets.find, "tdx", measured, AT)
    assert found is not None
    assert found.product == "product/17321"


@pytest.mark.benchmark(group="reference values")
def test_find_nothing_among_100000_values(benchmark: BenchmarkFixture, sets: ExpectedSets) -> None:
    measured = _registers(17_321) | {"rtmr_2": "00" * 48}
    assert benchmark(sets.find, "tdx", measured, AT) is None
