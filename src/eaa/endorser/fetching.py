# SPDX-License-Identifier: Apache-2.0
"""One object, from the first source that has it into the store: proven as its kind can be proven."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, NamedTuple

from eaa.endorser import fmspcs, pck_store
from eaa.endorser.authenticity import Subject
from eaa.endorser.needs import FMSPCS, PCK_CERTIFICATES
from eaa.endorser.pck import prove_certificates
from eaa.endorser.pcs import PcsSource
from eaa.endorser.sources import fetch_from, first_of
from eaa.rats import Endorsements, NotFound

if TYPE_CHECKING:
    from collections.abc import Sequence

    from eaa.endorser.needs import Need
    from eaa.endorser.pck import PckAnswer
    from eaa.endorser.sources import Source
    from eaa.endorser.store import Store

__all__ = ["Taken", "fetch_into"]


class Taken(NamedTuple):
    """What was taken in, what became of it, and the name of the source that had it."""

    subject: Subject
    outcome: str
    source: str


async def fetch_into(
    store: Store, sources: Sequence[Source], need: Need, *, timeout_seconds: float = 30.0
) -> Taken:
    """Fetch one object and put it into the store.

    :raises NotFound: when no source has it.
    :raises UnavailableError: when none could be asked, or the database cannot be written.
    :raises EndorsementError: when a source had something, but it was refused.
    """
    if need.kind == PCK_CERTIFICATES:
        return await _certificates(store, _services(sources), need, timeout_seconds)
    if need.kind == FMSPCS:
        return await _families(store, _services(sources), need, timeout_seconds)
    stored = store.snapshot().slots.get((need.key, need.slot))
    found = await fetch_from(
        sources,
        need,
        store.authenticator,
        at=store.clock(),
        held=stored.subject if stored is not None else None,
        timeout_seconds=timeout_seconds,
    )
    ((subject, outcome),) = await store.put(
        Endorsements((found.endorsement,)), slot=need.slot, source=found.source
    )
    return Taken(subject, outcome.value, found.source)


def _services(sources: Sequence[Source]) -> list[PcsSource]:
    return [each for each in sources if isinstance(each, PcsSource)]


async def _certificates(store: Store, sources: list[PcsSource], need: Need, timeout_seconds: float) -> Taken:
    qe_id, _, pce_id = need.scope.partition("/")
    read, write = store.connections.read, store.connections.write
    platform = await read(pck_store.find, qe_id, pce_id)
    if platform is None:
        raise NotFound("the platform is registered no more", hint="Register it again.")
    held = await read(pck_store.certificates, qe_id, pce_id)

    async def take(source: PcsSource, answer: PckAnswer) -> Taken:
        before = held[0] if held else None
        proven = await asyncio.to_thread(prove_certificates, answer, store.authenticator, platform, before)
        at = store.clock()
        new = await write(pck_store.put, platform, proven, source=source.name, at=at)
        until = min(each.next_update for each in proven)
        return Taken(
            Subject(need.kind, need.root, need.scope, at, until), "added" if new else "unchanged", source.name
        )

    return await first_of(sources, need, lambda source: source.certificates(platform), take, timeout_seconds)


async def _families(store: Store, sources: list[PcsSource], need: Need, timeout_seconds: float) -> Taken:
    async def take(source: PcsSource, kinds: dict[str, str]) -> Taken:
        at = store.clock()
        await store.connections.write(fmspcs.put, need.root, kinds, source=source.name, at=at)
        return Taken(Subject(need.kind, need.root, "", at, at + fmspcs.LASTS), "replaced", source.name)

    return await first_of(sources, need, lambda source: source.fmspcs(), take, timeout_seconds)
