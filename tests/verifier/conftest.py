# SPDX-License-Identifier: Apache-2.0
"""A policy engine for every test, and evidence of a simulated chip maker with its appraisal."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import pytest

from eaa.simulator.mint import mint
from eaa.simulator.vendor import ChipMaker
from eaa.tee.registry import parse_evidence
from eaa.verifier import Verifier
from eaa.verifier.policy import PolicyEngine

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.rats import Appraisal

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


class Attest(Protocol):
    """Mint evidence with the given faults and verify it for ``report_data``."""

    def __call__(
        self, tee: str, *faults: str, report_data: bytes = b"challenge", **minting: Any
    ) -> Appraisal: ...


@pytest.fixture(scope="session")
def engine() -> Iterator[PolicyEngine]:
    """An engine that waits long enough for a busy machine; it belongs to no event loop."""
    engine = PolicyEngine(processes=1, deadline=20)
    yield engine
    asyncio.run(engine.close())


@pytest.fixture(scope="session")
def attest() -> Attest:
    """Evidence and its appraisal as of :data:`AT`."""
    maker = ChipMaker.create(AT)
    verifier = Verifier(anchors=(maker.trust_anchor(),))

    def attest(tee: str, *faults: str, report_data: bytes = b"challenge", **minting: Any) -> Appraisal:
        minted = mint(maker, tee, b"challenge", at=AT, faults=faults, **minting)
        evidence = parse_evidence(minted.quote, tee=tee)
        return verifier.verify(evidence, minted.endorsements, at=AT, report_data=report_data)

    return attest


@pytest.fixture
def at() -> datetime:
    """The time at which the evidence is verified."""
    return AT
