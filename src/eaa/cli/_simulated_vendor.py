# SPDX-License-Identifier: Apache-2.0
"""The chip maker in software of ``verdictd --simulator``: its root, and its collateral put into the store as it changes."""

from __future__ import annotations

import asyncio
import logging
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final

from eaa.rats import Endorsements
from eaa.simulator import ChipMaker
from eaa.simulator.amd import AmdChipMaker
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.endorser.store import Store
    from eaa.rats import TrustAnchor

__all__ = ["SimulatedVendor"]

_TEES: Final = ("tdx", "sgx")
_CAS: Final = ("platform", "processor")
_SNP: Final = Product.GENOA
"""The one product of SEV-SNP whose machines are trusted; each more would cost a start a second, for the RSA key of its root."""
_LOOK_SECONDS: Final = 2.0
_REFRESH: Final = timedelta(hours=12)

_log: Final = logging.getLogger("eaa.simulator")


class SimulatedVendor:
    """The chip maker of a folder, founded there on first use. Other processes may mint with it and revoke its machines."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._maker = ChipMaker.load_or_create(folder, datetime.now(UTC))
        self._amd = AmdChipMaker.load(folder)
        self._seen: tuple[int, int] | None = None
        self._published = datetime.min.replace(tzinfo=UTC)

    @property
    def trust_anchors(self) -> tuple[TrustAnchor, ...]:
        """What to trust to accept this chip maker's machines."""
        return (self._maker.trust_anchor(), self._amd.trust_anchor(_SNP))

    async def publish(self, store: Store) -> None:
        """Put current collateral for every TEE and CA into ``store``."""
        self._seen = self._state()
        self._published = at = datetime.now(UTC)
        await store.put(await asyncio.to_thread(self._collateral, at), source="simulator")

    async def keep_publishing(self, store: Store) -> None:
        """Publish again when the chip maker's file changes, and long before the collateral ends."""
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            if self._state() != self._seen or datetime.now(UTC) - self._published > _REFRESH:
                await self.publish(store)
                _log.info("simulated collateral published")

    def _collateral(self, at: datetime) -> Endorsements:
        self._maker = ChipMaker.load(self._folder)
        dcap = (self._maker.collateral(tee, at, ca=ca) for tee in _TEES for ca in _CAS)
        # An SNP guest brings the certificates below the root itself, as its host hands them out.
        return Endorsements.merged((*dcap, Endorsements((self._amd.revocation_list(_SNP, at),))))

    def _state(self) -> tuple[int, int]:
        status = (self._folder / "vendor.json").stat()
        return status.st_ino, status.st_mtime_ns
