# SPDX-License-Identifier: Apache-2.0
"""Platforms that were actually seen: what they need, and the levels that a forecast rates."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import func, insert, select, update

from eaa.endorser.needs import (
    Chip,
    Need,
    Platform,
    chip_of,
    hardware_of,
    needs_of_chip,
    needs_of_platform,
    pck_chain,
    platform_of,
)
from eaa.endorser.schema import platforms, state
from eaa.rats import EndorsementError
from eaa.tee.dcap.pck import read_pck_extension
from eaa.tee.sgx.evidence import EnclaveReport
from eaa.tee.snp.product import Product
from eaa.tee.tdx.evidence import TdxQuote
from eaa.tee.x509 import read_certificates

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import Connection

    from eaa.endorser.store import Store
    from eaa.rats import Evidence

__all__ = ["Observer", "Seen", "seen_in"]

MAX_PLATFORMS: Final = 1_000_000
"""Most platforms that are remembered; further ones are served all the same."""
_AGAIN: Final = timedelta(days=1)
_MAX_MEMORY: Final = 65536


@dataclass(frozen=True, slots=True)
class Seen:
    """One platform: ``scope`` is its FMSPC, or its product line and who signs; ``levels`` is what its evidence said of its TCB."""

    id: str
    tee: str
    root: str
    scope: str
    ca: str
    levels: dict[str, Any]

    def needs(self) -> tuple[Need, ...]:
        """Return what verifying its evidence needs, and its forecast."""
        if self.tee != "snp":
            return needs_of_platform(self.tee, Platform(self.root, self.scope, self.ca))
        products = tuple(Product(each) for each in self.levels["products"])
        chip_id, tcb = bytes.fromhex(self.levels["chip_id"]), bytes.fromhex(self.levels["tcb"])
        return needs_of_chip(Chip(products, self.levels["key"], chip_id, tcb), [self.root])


def seen_in(evidence: Evidence, snp_roots: dict[Product, str]) -> Seen | None:
    """Return the platform of ``evidence``, as it describes itself; None when it does not. ``snp_roots`` are the roots' ids by product."""
    evidence = hardware_of(evidence)
    platform = platform_of(evidence)
    if platform is not None:
        return _of_quote(evidence, platform)
    chip = chip_of(evidence)
    if chip is None:
        return None
    # A report of version 2 does not name its product; nothing can be fetched for it before a certificate comes with one.
    root = snp_roots.get(chip.products[0], "") if len(chip.products) == 1 else ""
    if not root:
        return None
    levels = {
        "products": [each.value for each in chip.products],
        "key": chip.key,
        "chip_id": chip.chip_id.hex(),
        "tcb": chip.tcb.hex(),
    }
    return Seen(_id("snp", chip.chip_id), "snp", root, chip.products[0].value, "", levels)


def _of_quote(evidence: Evidence, platform: Platform) -> Seen | None:
    try:
        extension = read_pck_extension(read_certificates(pck_chain(evidence))[0])
    except EndorsementError:
        return None
    quoting_enclave = EnclaveReport.parse(evidence.envelope.signature.qe_report)  # type: ignore[attr-defined]
    levels: dict[str, Any] = {
        "components": list(extension.tcb_components),
        "pce_svn": extension.pce_svn,
        "qe_svn": quoting_enclave.isv_svn,
    }
    if isinstance(evidence, TdxQuote):
        levels |= {
            "tdx_svn": evidence.report.tee_tcb_svn.hex(),
            "tdx_svn_now": evidence.report.tee_tcb_svn_2.hex(),
            "seam_signer": evidence.report.mrsigner_seam.hex(),
            "seam_attributes": evidence.report.seam_attributes,
        }
    identity = extension.ppid + (extension.platform_instance_id or b"")
    return Seen(_id(evidence.tee, identity), evidence.tee, platform.root, platform.fmspc, platform.ca, levels)


def _id(tee: str, identity: bytes) -> str:
    """Return a name for a platform that tells it from others and does not tell its identity."""
    return f"{tee}-{sha256(b'eaa platform ' + identity).hexdigest()[:24]}"


class Observer:
    """Remembers platforms in the store's database. Hand it evidence whose signature was verified: it believes what that says."""

    def __init__(self, store: Store, *, snp_roots: dict[Product, str] | None = None) -> None:
        self._store = store
        self._snp_roots = snp_roots or {}
        self._written: dict[str, tuple[dict[str, Any], datetime]] = {}

    async def observe(self, evidence: Evidence) -> bool:
        """Remember the platform of ``evidence``; return whether something new was learnt. Costs nothing for a known one.

        :raises UnavailableError: when the database cannot be written.
        """
        seen = seen_in(evidence, self._snp_roots)
        at = self._store.clock()
        if seen is None:
            return False
        levels, when = self._written.get(seen.id, (None, at))
        if levels == seen.levels and at - when < _AGAIN:
            return False
        new = await self._store.connections.write(remember, seen, at)
        if len(self._written) >= _MAX_MEMORY:
            self._written.clear()
        self._written[seen.id] = (seen.levels, at)
        return new


def remember(connection: Connection, seen: Seen, at: datetime) -> bool:
    """Insert or update one platform; return whether it is new, or of other levels than before."""
    connection.execute(select(state.c.version).with_for_update())
    levels = json.dumps(seen.levels, sort_keys=True)
    held = connection.execute(
        select(platforms.c.levels).where(platforms.c.id == seen.id)
    ).scalar_one_or_none()
    if held is not None:
        values = {"levels": levels, "last_seen": at, "scope": seen.scope, "ca": seen.ca, "root": seen.root}
        connection.execute(update(platforms).where(platforms.c.id == seen.id).values(values))
        return bool(held != levels)
    if connection.scalars(select(func.count()).select_from(platforms)).one() >= MAX_PLATFORMS:
        return False
    row = {"id": seen.id, "tee": seen.tee, "root": seen.root, "scope": seen.scope, "ca": seen.ca}
    connection.execute(insert(platforms).values(**row, levels=levels, first_seen=at, last_seen=at))
    return True


def listed(connection: Connection) -> list[Seen]:
    """Return every platform."""
    c = platforms.c
    rows = connection.execute(select(c.id, c.tee, c.root, c.scope, c.ca, c.levels))
    return sorted(
        (Seen(row.id, row.tee, row.root, row.scope, row.ca, json.loads(row.levels)) for row in rows),
        key=lambda each: each.id,
    )
