# SPDX-License-Identifier: Apache-2.0
"""How fast a warm collateral set is handed to the verifier, and TCB info to whoever asks over HTTP."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from eaa.endorser.store import Store
from eaa.tee.registry import parse_evidence

if TYPE_CHECKING:
    from pathlib import Path

    from bench.conftest import Case
    from pytest_benchmark.fixture import BenchmarkFixture


def test_collateral(benchmark: BenchmarkFixture, tmp_path: Path, case: Case) -> None:
    """A further quote of a known family of platforms."""

    async def filled() -> Store:
        store = await Store.open(tmp_path)
        await store.put(case.endorsements)
        await store.close()
        return store

    store = asyncio.run(filled())
    evidence = parse_evidence(case.quote, tee=case.tee)
    found = benchmark(store.endorsements_for, evidence)
    assert len(found.items) == 4
