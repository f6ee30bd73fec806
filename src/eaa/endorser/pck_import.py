# SPDX-License-Identifier: Apache-2.0
"""Platforms and their PCK certificates from files: those of Intel's PCS Client Tool, and lists of platforms."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from eaa.endorser import leases, pck_store
from eaa.endorser.client_tool import is_platform_list, read_tool_file, read_tool_platforms
from eaa.endorser.pck import PckAnswer, PckPlatform, prove_certificates
from eaa.rats import EndorsementError, Endorsements, InputError

if TYPE_CHECKING:
    from sqlalchemy import Connection

    from eaa.endorser.client_tool import ToolPlatform, ToolPlatforms
    from eaa.endorser.pck import PckCertificate
    from eaa.endorser.store import Put, Store

__all__ = ["Imported", "import_platforms", "import_tool_file"]


@dataclass(slots=True)
class Imported:
    """What came of an import: collateral put in, platforms with how many new certificates, and what was refused and why."""

    puts: list[Put] = field(default_factory=list)
    platforms: list[tuple[str, int]] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


async def import_tool_file(store: Store, data: bytes, root: str, *, source: str) -> Imported:
    """Take in a file of Intel's tool, each piece by itself, so that one bad piece does not keep the others out.

    :param root: the id of the root of whoever made the platforms.
    :raises EndorsementError: when the file is malformed.
    :raises UnavailableError: when the database cannot be written.
    """
    imported = Imported()
    slots = {} if is_platform_list(data) else await asyncio.to_thread(read_tool_file, data)
    for slot, item in ((slot, item) for slot, each in slots.items() for item in each.items):
        try:
            imported.puts += await store.put(Endorsements((item,)), slot=slot, source=source)
        except EndorsementError as error:
            imported.refused.append(str(error))
    found = await asyncio.to_thread(read_tool_platforms, data)
    await import_platforms(store, found, root, source=source, into=imported)
    return imported


async def import_platforms(
    store: Store, found: ToolPlatforms, root: str, *, source: str, into: Imported
) -> None:
    """Register platforms and take their certificates in, each platform by itself.

    :raises UnavailableError: when the database cannot be written.
    """
    for each in found.platforms:
        try:
            platform = PckPlatform.from_json(each.registration, root)
            held = await store.connections.read(pck_store.certificates, platform.qe_id, platform.pce_id)
            proven = await asyncio.to_thread(_prove, store, platform, each, found, held)
            new = await store.connections.write(_take_in, platform, proven, source, store)
            into.platforms.append((platform.need.scope, new))
        except InputError as error:
            into.refused.append(f"platform {str(each.registration.get('qe_id'))[:32]}: {error}")


def _prove(
    store: Store,
    platform: PckPlatform,
    each: ToolPlatform,
    found: ToolPlatforms,
    held: list[PckCertificate],
) -> tuple[PckCertificate, ...]:
    """Prove a platform's certificates below one of the chains that came with them: the file does not say which."""
    if not each.certificates:
        return ()
    refusal = EndorsementError("the file has no issuer chain for PCK certificates")
    for ca, chain in found.issuer_chains.items():
        answer = PckAnswer(each.certificates, chain, ca=ca)
        try:
            return prove_certificates(answer, store.authenticator, platform, held[0] if held else None)
        except EndorsementError as error:
            refusal = error
    raise refusal


def _take_in(
    connection: Connection,
    platform: PckPlatform,
    proven: tuple[PckCertificate, ...],
    source: str,
    store: Store,
) -> int:
    at = store.clock()
    if pck_store.register(connection, platform, at):
        leases.hasten(connection, platform.need.name, at)
    return pck_store.put(connection, platform, proven, source=source, at=at)
