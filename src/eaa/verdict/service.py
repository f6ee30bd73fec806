# SPDX-License-Identifier: Apache-2.0
"""Signed sets in a database: proposed, activated, retired, revoked, and handed to whoever verifies evidence.

A set counts because of the signatures on it, and not because it lies in the database: each active set's envelope is verified against the
signers that are configured now whenever the active sets are read again, which is when one has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import OrderedDict
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final, Self

from eaa.rats import ConfigurationError, EaaError, InputError, NotFound
from eaa.storage.connections import open_connections
from eaa.storage.migrate import migrate
from eaa.storage.owner import state_version
from eaa.verdict import following, store
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.index import Index, Listed
from eaa.verdict.lifecycle import Action, State
from eaa.verdict.origins import sealed_provenance
from eaa.verdict.presented import open_signed_set, parse_presented
from eaa.verdict.proofs import joined, proven, signatures
from eaa.verdict.schema import STEPS
from eaa.verdict.signers import SignerPolicy
from eaa.verdict.views import set_details, set_summary, source_summary
from eaa.verifier.expected_sets import ExpectedSet, ExpectedSets

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eaa.storage.connections import Connections
    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.store import StoredSet

__all__ = ["OWNERS_ACTIONS", "ReferenceSets"]

_log: Final = logging.getLogger("eaa.verdict")
_REMEMBERED: Final = 65_536
"""Proven sets that are kept in memory, so that a change of one does not verify all again."""
_MAX_REASON: Final = 1000

OWNERS_ACTIONS: Final = (Action.ACTIVATE, Action.RETIRE, Action.ROLLBACK, Action.REVOKE)
"""What can be asked for; the rest follows from it."""


class ReferenceSets:
    """The sets in one database, which may be Verdictd's own. Safe to share between the tasks of one event loop."""

    def __init__(
        self,
        connections: Connections,
        signers: Callable[[], SignerPolicy],
        clock: Callable[[], datetime],
    ) -> None:
        """Take what :meth:`open` has made; use that."""
        self._connections = connections
        self._signers = signers
        self._clock = clock
        self._proven: OrderedDict[bytes, ExpectedSet | None] = OrderedDict()
        self._proven_for = SignerPolicy(())
        self._proving = asyncio.Lock()

    @classmethod
    async def open(
        cls, url: str, *, signers: Callable[[], SignerPolicy], clock: Callable[[], datetime] | None = None
    ) -> Self:
        """Open the database and make its tables if need be. ``signers`` is asked whenever signatures are verified.

        :raises ConfigurationError: when the database cannot be used or is of a newer program, or who may sign cannot be read.
        """
        signers()
        connections = await open_connections(url)
        try:
            await migrate(connections, url)
            await migrate(connections, url, STEPS)
        except BaseException:
            await connections.close()
            raise
        return cls(connections, signers, clock or (lambda: datetime.now(UTC)))

    async def close(self) -> None:
        """Close every connection."""
        await self._connections.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def state_version(self) -> int:
        """Return a number that grows with every change."""
        return await self._connections.read(state_version)

    async def count_change(self) -> None:
        """Count a change that is in no row, such as of who may sign: whoever uses the active sets reads them again.

        :raises UnavailableError: when it cannot be written down.
        """
        await self._connections.write(store.count_change)

    # Reading

    async def active(self) -> ExpectedSets:
        """Return the active sets, ready to hold evidence against."""
        return await self._expected(await self._connections.read(store.listed, state=State.ACTIVE))

    async def preview(self, digest: str, action: str) -> ExpectedSets:
        """Return what :meth:`active` would be after an action, and change nothing.

        :raises EaaError: as :meth:`change` would.
        """
        what, found = _action(action), await self._found(digest)
        if what in {Action.ACTIVATE, Action.ROLLBACK}:
            self._require_valid(found)
        cause = store.Cause("", "", self._clock())
        after = await self._connections.write(store.active_after, found.digest, what, cause)
        return await self._expected(after)

    async def listed(self, product: str | None = None, state: str | None = None) -> list[dict[str, Any]]:
        """Return summaries in order of product and version.

        :raises InputError: when there is no such state.
        """
        try:
            wanted = None if state is None else State(state)
        except ValueError:
            raise InputError(f"there is no state {state!r}", hint=f"States: {', '.join(State)}.") from None
        found = await self._connections.read(store.listed, product=product, state=wanted)
        return await asyncio.to_thread(self._summaries, found)

    async def get(self, digest: str) -> dict[str, Any]:
        """Return everything about one set: values, inputs, artifacts, signatures, envelope, history.

        :raises NotFound: when there is none.
        """
        found = await self._found(digest)
        changes = await self._connections.read(store.history, found.digest)
        reference = _reference(found.envelope)
        proofs = await self._connections.read(store.kept_provenance, reference.provenance)
        return self._summary(found) | set_details(found, reference, changes, proofs)

    async def explain(self, value: str) -> list[dict[str, Any]]:
        """Return every set that has a register value, or the one set that is named ``product@version`` or by its digest.

        :raises NotFound: when no set has it.
        """
        text = value.strip().lower()
        places = await self._connections.read(store.having, text)
        if not places:
            return [await self.get(value.strip())]
        registers: dict[str, list[str]] = {}
        for register, digest in places:
            registers.setdefault(digest, []).append(register)
        return [
            await self.get(digest) | {"matched_registers": sorted(found)}
            for digest, found in registers.items()
        ]

    # Changing

    async def propose(
        self,
        envelope: bytes,
        *,
        who: str,
        why: str = "",
        provenance: Sequence[bytes] = (),
        unsigned: bool = False,
    ) -> dict[str, Any]:
        """Add a set as proposed, and return it. Proposed again, it has the signatures of both envelopes.

        :param envelope: the set in a DSSE envelope, or in a signed CoRIM.
        :param provenance: envelopes that the set names, kept to be explained.
        :param unsigned: take it without a signature of the product's signers, which it then needs before it becomes active.
        :raises InputError: when the envelope does not hold a set.
        :raises SignatureRefused: when none of the product's signers signed it.
        :raises SetRefused: when it was revoked, or another set has its product and version.
        """
        presented = parse_presented(envelope)
        reference = presented.set
        policy = self._signers()
        signed_by, _ = signatures(envelope, reference.product, policy)
        if not signed_by and not unsigned:
            presented.check(policy)
        same = [
            each
            for each in await self._connections.read(store.listed, product=reference.product)
            if each.version == reference.version
        ]
        for each in same:
            if each.digest == reference.digest:
                envelope = joined(each.envelope, envelope, reference.product, policy)
        new = store.NewSet(
            digest=reference.digest,
            product=reference.product,
            version=reference.version,
            tee=reference.tee,
            envelope=envelope,
            expires_at=parse_presented(envelope).ends_at,
            supersedes=reference.supersedes,
        )
        values = [(each.register, value) for each in reference.registers for value in each.values]
        cause = store.Cause(who, _reason(why), self._clock())
        proofs = _named_provenance(reference, provenance)
        unsigned_others = [
            each.digest
            for each in same
            if each.digest != reference.digest and not signatures(each.envelope, each.product, policy)[0]
        ]
        displace = unsigned_others[0] if unsigned_others and signed_by else None
        stored = await self._connections.write(store.propose, new, values, cause, displace=displace)
        if proofs:
            await self._connections.write(store.keep_provenance, proofs)
        _log.info("set proposed: %s %s", stored.name, stored.digest)
        return self._summary(stored)

    def is_signed(self, envelope: bytes) -> bool:
        """Tell whether one of its product's signers signed a set; nobody did what is none.

        :raises InputError: when it is neither an envelope nor a CoRIM.
        """
        try:
            presented = parse_presented(envelope)
        except SignatureRefused:
            return False
        return bool(signatures(envelope, presented.set.product, self._signers())[0])

    async def change(self, digest: str, action: str, *, who: str, why: str = "") -> dict[str, Any]:
        """Activate, retire, revoke or roll back to a set, and return it.

        :raises NotFound: when there is none.
        :raises SignatureRefused: when it is not signed as it must be, not issued yet, or expired.
        :raises SetRefused: when it may not go there.
        """
        what, found = _action(action), await self._found(digest)
        if what in {Action.ACTIVATE, Action.ROLLBACK}:
            self._require_valid(found)
        cause = store.Cause(who, _reason(why), self._clock())
        stored = await self._connections.write(
            following.act_and_hold, found.digest, what, cause, envelope=found.envelope
        )
        _log.info("set %s: %s %s by %s", stored.state, stored.name, stored.digest, who)
        return self._summary(stored)

    # Other Verdicts

    async def index(self) -> Index:
        """Return every set and where it stands, under the number of the last change."""
        # The number is read first: a change in between makes the list too new, never stale.
        sequence = await self.state_version()
        found = await self._connections.read(store.listed)
        return Index(sequence, tuple(Listed(each.digest, each.state) for each in found))

    async def envelope(self, digest: str) -> bytes:
        """Return a set as it was signed.

        :raises NotFound: when there is none of that digest.
        """
        return (await self._connections.read(store.one, digest)).envelope

    async def reference(self, digest: str) -> ReferenceSet:
        """Return what a set says.

        :raises NotFound: when there is none of that digest.
        """
        return _reference(await self.envelope(digest))

    async def missing(self, index: Index) -> list[str]:
        """Return the digests of the sets of another Verdict's index that are not here."""
        return [each.digest for each in await self._connections.read(following.missing, index)]

    async def follow(self, url: str, index: Index) -> list[str]:
        """Lead the sets that are here to where another Verdict's index has them, as far as they are signed; return what was refused.

        :raises AccessDenied: when the index is older than the last one of that Verdict.
        """
        active = {each.digest for each in index.sets if each.state is State.ACTIVE}
        refused, policy, at = [], self._signers(), self._clock()
        for found in await self._connections.read(store.listed):
            if found.digest in active and found.state is not State.ACTIVE:
                try:
                    open_signed_set(found.envelope, policy, at)
                except EaaError as error:
                    refused.append(f"{found.name}: {error}")
                    active.discard(found.digest)
        allowed = tuple(
            each for each in index.sets if each.state is not State.ACTIVE or each.digest in active
        )
        cause = store.Cause(url, f"index {index.sequence}", at)
        return refused + await self._connections.write(
            following.follow, url, Index(index.sequence, allowed), cause
        )

    async def note_failure(self, url: str, error: str) -> None:
        """Write down that a Verdict could not be followed."""
        await self._connections.write(following.note_failure, url, error, self._clock())

    async def sources(self) -> list[dict[str, Any]]:
        """Return how it stands with the Verdicts that are subscribed to."""
        return [source_summary(each) for each in await self._connections.read(following.sources_listed)]

    async def set_source(self, url: str, action: str) -> dict[str, Any]:
        """``resume`` following a Verdict that is held, or ``accept-older``: let its next index be older than the last one, once.

        :raises NotFound: when it is not subscribed to.
        :raises InputError: when there is no such action.
        """
        known = {"resume": following.resume, "accept-older": following.accept_older}
        if action not in known:
            raise InputError(f"{action[:40]!r} cannot be done", hint=f"There are: {', '.join(known)}.")
        return source_summary(await self._connections.write(known[action], url))

    # Proofs

    def _require_valid(self, found: StoredSet) -> None:
        """Refuse a set that is not signed as its product asks for, not issued yet, or expired."""
        open_signed_set(found.envelope, self._signers(), self._clock())

    def _summary(self, found: StoredSet) -> dict[str, Any]:
        return self._summaries([found])[0]

    def _summaries(self, found: Sequence[StoredSet]) -> list[dict[str, Any]]:
        policy, at = self._policy(), self._clock()
        return [set_summary(each, *signatures(each.envelope, each.product, policy), at=at) for each in found]

    async def _found(self, name: str) -> StoredSet:
        """Find a set by its digest or the beginning of it, or by ``product@version``."""
        product, at_sign, version = name.rpartition("@")
        if at_sign:
            listed = await self._connections.read(store.listed, product=product)
            found = [each for each in listed if str(each.version) == version]
        elif len(name) == 64:
            return await self._connections.read(store.one, name)
        else:
            listed = await self._connections.read(store.listed) if len(name) >= 8 else []
            found = [each for each in listed if each.digest.startswith(name)]
        if len(found) != 1:
            raise NotFound(
                f"no set, and no value of a set, is called {name[:200]!r}",
                hint="`eaa verdict list` shows what there is.",
            )
        return found[0]

    async def _expected(self, active: Sequence[StoredSet]) -> ExpectedSets:
        """Return the sets whose signatures hold, indexed. One that is not signed as it must be is left out, and that is said."""
        policy = self._policy()
        async with self._proving:
            if policy != self._proven_for:
                self._proven.clear()
                self._proven_for = policy
            return await asyncio.to_thread(self._prove_all, active, policy)

    def _policy(self) -> SignerPolicy:
        """Return who may sign; while that cannot be read, nobody may."""
        try:
            return self._signers()
        except ConfigurationError as error:
            _log.error("no signed set admits anybody: %s", error)
            return SignerPolicy(())

    def _prove_all(self, active: Sequence[StoredSet], policy: SignerPolicy) -> ExpectedSets:
        found = [self._prove(each, policy) for each in active]
        return ExpectedSets(each for each in found if each is not None)

    def _prove(self, found: StoredSet, policy: SignerPolicy) -> ExpectedSet | None:
        key = sha256(found.envelope).digest()
        if key not in self._proven:
            self._proven[key] = proven(found, policy)
            while len(self._proven) > _REMEMBERED:
                self._proven.popitem(last=False)
        self._proven.move_to_end(key)
        return self._proven[key]


def _reference(envelope: bytes) -> ReferenceSet:
    return parse_presented(envelope).set


def _named_provenance(reference: ReferenceSet, envelopes: Sequence[bytes]) -> dict[str, bytes]:
    """Return provenance by its digest; what the set does not name would be anybody's word."""
    found = {sha256(each).hexdigest(): each for each in envelopes}
    for digest, data in found.items():
        sealed_provenance(data).statement()
        if digest not in reference.provenance:
            raise InputError(
                f"the set does not name the provenance {digest}",
                hint="Name it when the set is made: eaa verdict measure --provenance FILE",
            )
    return found


def _action(text: str) -> Action:
    found = next((each for each in OWNERS_ACTIONS if each == text), None)
    if found is None:
        raise InputError(
            f"{text[:40]!r} cannot be done to a set", hint=f"There are: {', '.join(OWNERS_ACTIONS)}."
        )
    return found


def _reason(text: str) -> str:
    if len(text) > _MAX_REASON or not text.isprintable():
        raise InputError(f"a reason is at most {_MAX_REASON} printable characters")
    return text
