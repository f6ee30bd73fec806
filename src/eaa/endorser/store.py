# SPDX-License-Identifier: Apache-2.0
"""The Endorser's store: authentic endorsements and their history in a database; what is current, in memory.

Contents are kept under their SHA-256 and never changed, each version once it was current stays, and everything that comes in
together comes in with one transaction: a process that dies in the middle has changed nothing.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Concatenate, Final, NamedTuple, ParamSpec, Self

from eaa.endorser import history
from eaa.endorser.authenticity import (
    CHANNELLED,
    TCB_EVALUATION_NUMBERS,
    Authenticator,
    Subject,
    anchor_id,
    evaluation_numbers,
)
from eaa.endorser.history import API_V3, EARLY, STANDARD, VLEK, Outcome, Proven, Version, number_slot
from eaa.endorser.needs import (
    Chip,
    Need,
    Platform,
    chip_of,
    hardware_of,
    needs_of_chip,
    needs_of_platform,
    platform_of,
)
from eaa.endorser.schema import STEPS
from eaa.rats import ConfigurationError, Endorsement, Endorsements, UnavailableError
from eaa.storage.connections import open_connections
from eaa.storage.migrate import migrate
from eaa.tee.dcap.roots import INTEL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from os import PathLike

    from sqlalchemy import Connection

    from eaa.rats import Evidence, TrustAnchor
    from eaa.storage.connections import Connections

__all__ = ["EARLY", "STANDARD", "Outcome", "Put", "Snapshot", "Store", "Stored", "now"]

P = ParamSpec("P")

FILE: Final = "endorser.db"
"""The database of a store that is named by its folder."""

_log: Final = logging.getLogger("eaa.endorser")


def now() -> datetime:
    """Return the time, in UTC."""
    return datetime.now(UTC)


class Put(NamedTuple):
    """One endorsement that was put into the store."""

    subject: Subject
    outcome: Outcome


class Stored(NamedTuple):
    """One endorsement in the store, what it is about, and when and from where it came."""

    subject: Subject
    endorsement: Endorsement
    stored_at: datetime
    source: str


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The store at one moment. Never changes. ``slots`` has a name and slot as key, ``stored`` is the slot ``standard`` of it.

    Where there is TCB info in the form of version 3 of Intel's API only, ``stored`` has that. ``roots`` are the ids of the roots that are pinned.
    """

    stored: Mapping[str, Stored]
    slots: Mapping[tuple[str, str], Stored]
    roots: tuple[str, ...]

    def find(self, kind: str, root: str, scope: str = "") -> Endorsement | None:
        """Return the endorsement of one kind about ``scope`` (see :class:`Subject`), or None."""
        found = self.stored.get("/".join(part for part in (kind, root, scope) if part))
        return found.endorsement if found is not None else None

    def early(self, key: str) -> Stored | None:
        """Return what Intel's early channel says: never behind the standard one."""
        candidates = (self.slots.get((key, slot)) for slot in (EARLY, STANDARD))
        found = [each for each in candidates if each is not None]
        return max(
            found, key=lambda each: (each.subject.evaluation_number, each.subject.issued), default=None
        )

    def numbered(self, key: str, number: int) -> Stored | None:
        """Return the newest statement with one TCB evaluation data number."""
        return self.slots.get((key, number_slot(number)))

    def kept(self) -> list[Need]:
        """Return what is to be kept fresh of all that is held.

        A statement of one TCB evaluation data number is renewed along with the channel that hands it out, else by itself, for as
        long as Intel lists the number.
        """
        kept = [Need.of_key(key, slot) for key, slot in self.slots if slot in {STANDARD, EARLY, API_V3, VLEK}]
        for (key, slot), stored in self.slots.items():
            number = stored.subject.evaluation_number
            channels = (self.slots.get((key, each)) for each in (STANDARD, EARLY))
            alone = slot.startswith("#") and stored.subject.kind in CHANNELLED
            if alone and not any(
                each is not None and each.subject.evaluation_number == number for each in channels
            ):
                listed = self._listed(stored.subject)
                kept += [Need.of_key(key, slot)] if listed is None or number in listed else []
        return kept

    def _listed(self, subject: Subject) -> frozenset[int] | None:
        """Return the evaluation numbers that Intel serves of the subject's TEE, or None when its list is not held."""
        tee = "tdx" if subject.scope.startswith(("tdx/", "TD_QE")) else "sgx"
        found = self.find(TCB_EVALUATION_NUMBERS, subject.root, tee)
        return evaluation_numbers(found.content) if found is not None else None

    def collateral(self, tee: str, platform: Platform) -> Endorsements:
        """Return what is there for quotes of ``tee`` (``sgx``, ``tdx``) from ``platform``: at most one of each kind."""
        keys = [each.key for each in needs_of_platform(tee, platform)[:4]]
        return self._of_keys(keys)

    def certificates(self, chip: Chip) -> Endorsements:
        """Return what is there for SNP reports of ``chip``, below any root."""
        found = [stored for need in needs_of_chip(chip, self.roots) for stored in self.meeting(need)]
        return Endorsements(tuple(each.endorsement for each in found))

    def meeting(self, need: Need) -> list[Stored]:
        """Return what meets a need: of a VLEK whose cloud provider is open any, of its list the one imported without saying so, too."""
        before, star, after = need.key.partition("*")
        if star:
            return [self.stored[key] for key in self.stored if key.startswith(before) and key.endswith(after)]
        found = self.slots.get((need.key, need.slot))
        if found is None and need.slot == VLEK:
            found = self.stored.get(need.key)
        return [found] if found is not None else []

    def _of_keys(self, keys: Iterable[str]) -> Endorsements:
        found = (self.stored.get(key) for key in keys)
        return Endorsements(tuple(each.endorsement for each in found if each is not None))

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        """Return what ``evidence`` needs, as far as it is there."""
        return _find(evidence, self.collateral, self.certificates)


class _State(NamedTuple):
    """A snapshot, the change number it was read at, and the sets already made from it."""

    number: int
    snapshot: Snapshot
    collateral: Callable[[str, Platform], Endorsements]
    certificates: Callable[[Chip], Endorsements]


class Store:
    """Endorsements in a database that several processes may share; safe to share between the tasks of one event loop.

    Whatever enters is proven first to be issued below one of ``anchors``. Reading is from memory: :meth:`sync` and :meth:`follow`
    bring in what other processes have changed.
    """

    def __init__(
        self,
        connections: Connections,
        location: str,
        anchors: Sequence[TrustAnchor],
        clock: Callable[[], datetime] = now,
    ) -> None:
        """Take what :meth:`open` has made; use that."""
        self.connections = connections
        self.location = location
        self.clock = clock
        self._anchors = tuple(anchors)
        self.authenticator = Authenticator(self._anchors)
        self._reading = asyncio.Lock()
        self._contents: dict[bytes, bytes] = {}
        self._roots = tuple(map(anchor_id, self._anchors))
        self._state = _state(-1, _snapshot({}, self._roots))

    @classmethod
    async def open(
        cls,
        location: str | PathLike[str],
        anchors: Sequence[TrustAnchor] = (INTEL_ROOT,),
        *,
        clock: Callable[[], datetime] = now,
    ) -> Store:
        """Open a store; a folder and its database are made if need be.

        :param location: a folder, or the URL of a database (``postgresql://user@host/name``).
        :raises ConfigurationError: when it cannot be used, or is of a newer program, or damaged.
        """
        url = str(location) if "://" in str(location) else _url_of(Path(location))
        connections = await open_connections(url)
        try:
            await migrate(connections, url, STEPS)
            store = cls(connections, str(location), anchors, clock)
            await store.sync()
        except BaseException:
            await connections.close()
            raise
        return store

    async def close(self) -> None:
        """Close every connection. Closing twice does no harm."""
        await self.connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def anchors(self) -> tuple[TrustAnchor, ...]:
        """The roots below which endorsements are taken in."""
        return self._anchors

    async def put(
        self,
        endorsements: Endorsements,
        *,
        slot: str = STANDARD,
        source: str = "import",
        force: bool = False,
    ) -> tuple[Put, ...]:
        """Take endorsements in, all or none, and return what became of each.

        An older issue date or a lower TCB evaluation data number never replaces what is in a slot, unless ``force``.

        :param slot: ``standard``, ``early``, ``v3``, or ``#`` and a TCB evaluation data number; what has no channels goes to ``standard``.
        :raises EndorsementError: when one of them is not authentic; nothing is stored then.
        :raises UnavailableError: when the database cannot be written.
        """
        prove = self.authenticator.authenticate
        proven = await asyncio.to_thread(lambda: [Proven(each, prove(each)) for each in endorsements.items])
        outcomes = await self.connections.write(
            history.put, proven, slot=slot, source=source, at=self.clock(), force=force
        )
        await self.sync()
        return tuple(Put(item.subject, outcome) for item, outcome in zip(proven, outcomes, strict=True))

    def snapshot(self) -> Snapshot:
        """Return what the store holds now, as far as this process knows."""
        return self._state.snapshot

    async def snapshot_at(self, at: datetime, *, stored: bool = False) -> Snapshot:
        """Return the state as of ``at``: the newest of what the chip makers had issued by then, whenever it came here.

        With ``stored``, what this store held at that time: what a verifier had in its hands.

        :raises ConfigurationError: when the database is damaged.
        """
        found, contents = await self._versions(history.as_of, at, stored=stored)
        return _snapshot(_slots(found, contents), self._roots)

    async def history(self, key: str | None = None) -> list[Version]:
        """Return every version of one subject (:attr:`Subject.key`), or of all, in the order in which they came."""
        return await self.connections.read(history.history, key)

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        """Return the collateral that ``evidence`` needs, as far as it is there; the appraisal tells what is missing.

        Which platform the evidence is from is read from it without proof: a lie gets collateral that does not fit.
        """
        return _find(evidence, self._state.collateral, self._state.certificates)

    async def sync(self) -> None:
        """Bring in what another process has changed.

        :raises ConfigurationError: when the database is damaged; what is in memory stays.
        :raises UnavailableError: when it cannot be read now; likewise.
        """
        async with self._reading:
            number = await self.connections.read(history.change_number)
            if number == self._state.number:
                return
            found, contents = await self._versions(history.current)
            self._contents = contents
            self._state = _state(number, _snapshot(_slots(found, contents), self._roots))

    async def follow(self, seconds: float = 1.0) -> None:
        """Bring in what other processes change, for ever."""
        while True:
            await asyncio.sleep(seconds)
            try:
                await self.sync()
            except (ConfigurationError, UnavailableError) as error:
                _log.warning("the endorser's database cannot be read, what is in memory goes on: %s", error)

    async def _versions(
        self, work: Callable[Concatenate[Connection, P], list[Version]], *args: P.args, **kwargs: P.kwargs
    ) -> tuple[list[Version], dict[bytes, bytes]]:
        """Read versions and their contents; once more if somebody has pruned in between."""
        found = await self.connections.read(work, *args, **kwargs)
        try:
            return found, await self._read(found)
        except ConfigurationError:
            again = await self.connections.read(work, *args, **kwargs)
            if again == found:
                raise
            return again, await self._read(again)

    async def _read(self, found: Sequence[Version]) -> dict[bytes, bytes]:
        digests = {digest for each in found for digest in (each.content, each.issuer_chain)}
        known = {digest: self._contents[digest] for digest in digests & self._contents.keys()}
        new = await self.connections.read(history.contents, digests - known.keys())
        for digest in digests - known.keys():
            if sha256(new.get(digest, b"?")).digest() != digest:
                raise ConfigurationError(
                    f"the store {_shown(self.location)} is damaged: object {digest.hex()[:16]} is missing or has other content",
                    hint="Import the collateral into an empty store again.",
                )
        return known | new


def _slots(found: Sequence[Version], contents: Mapping[bytes, bytes]) -> dict[tuple[str, str], Stored]:
    return {
        (each.subject.key, each.slot): Stored(
            each.subject,
            Endorsement(each.subject.kind, contents[each.content], contents[each.issuer_chain]),
            each.stored_at,
            each.source,
        )
        for each in found
    }


def _snapshot(slots: dict[tuple[str, str], Stored], roots: tuple[str, ...]) -> Snapshot:
    # Evidence can be judged by TCB info in the older form as well as by none other.
    older, newer = (
        {key: each for (key, slot), each in slots.items() if slot == name} for name in (API_V3, STANDARD)
    )
    return Snapshot(older | newer, slots, roots)


def _state(number: int, snapshot: Snapshot) -> _State:
    return _State(
        number,
        snapshot,
        lru_cache(maxsize=4096)(snapshot.collateral),
        lru_cache(maxsize=4096)(snapshot.certificates),
    )


def _find(
    evidence: Evidence,
    collateral: Callable[[str, Platform], Endorsements],
    certificates: Callable[[Chip], Endorsements],
) -> Endorsements:
    hardware = hardware_of(evidence)
    platform = platform_of(hardware)
    if platform is not None:
        return collateral(hardware.tee, platform)
    chip = chip_of(hardware)
    return certificates(chip) if chip is not None else Endorsements()


def _url_of(folder: Path) -> str:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigurationError(
            f"the store {folder} cannot be written: {error.strerror}",
            hint="Check the folder's owner, mode and free space.",
        ) from error
    return f"sqlite:///{folder.absolute() / FILE}"


def _shown(location: str) -> str:
    """Return a location without the password that a URL may hold."""
    return location.rpartition("@")[2] if "://" in location else location
