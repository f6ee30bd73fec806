# SPDX-License-Identifier: Apache-2.0
"""One chip maker for all tests of the simulator."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import dcap_qvl  # type: ignore[import-untyped] # it ships no types
import httpx2
import pytest

from eaa.endorser import pcs
from eaa.simulator import ChipMaker, to_common_form
from eaa.simulator.timeline import Timeline
from eaa.simulator.vendor_http import VendorService, VendorTransport

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.rats import Endorsements


class World:
    """A service, the time, and a client that speaks to it without sockets."""

    def __init__(
        self,
        maker: ChipMaker,
        timeline: Timeline | None = None,
        at: datetime = datetime(2026, 11, 1, tzinfo=UTC),
    ) -> None:
        self.maker = maker
        self.at = at
        self.waits: list[float] = []
        self.timeline = timeline or Timeline()
        self.service = VendorService(maker, self.timeline, lambda: self.at, sleep=self._wait)

    async def _wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        await asyncio.sleep(0)

    async def get(self, url: str, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(
            transport=VendorTransport(self.service), base_url="https://pcs.invalid"
        ) as client:
            return await client.get(url, headers={k.replace("_", "-"): v for k, v in headers.items()})

    async def fetch(
        self, tee: Literal["sgx", "tdx"] = "tdx", ca: Any = "platform", **more: Any
    ) -> Endorsements:
        async with httpx2.AsyncClient(transport=VendorTransport(self.service)) as client:
            wanted = pcs.Wanted(self.maker.fmspcs[ca].hex(), tee, ca, **more)
            return await pcs.fetch("https://pcs.invalid", wanted, client)

    async def status(self, machine: Any = None, **more: Any) -> str:
        """Return what an independent verifier makes of a quote of ``machine`` with what the service answers now."""
        machine = machine or self.maker.machine()
        collateral = dcap_qvl.QuoteCollateralV3.from_json(
            json.dumps(to_common_form(await self.fetch(**more)))
        )
        verdict = dcap_qvl.verify_with_root_ca(
            machine.quote_tdx(b"challenge"), collateral, self.maker.root_der, int(self.at.timestamp())
        )
        return str(verdict.status)


@pytest.fixture
def world_of() -> Callable[..., World]:
    """Make a world: ``world_of(maker, timeline, at)``."""
    return World


@pytest.fixture(scope="session")
def at() -> datetime:
    return datetime(2026, 3, 16, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def maker(at: datetime) -> ChipMaker:
    return ChipMaker.create(at)
