# SPDX-License-Identifier: Apache-2.0
"""Where endorsements come from: several sources, asked in order, and nothing taken that is not proven, current and what was asked for."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol, TypeVar

from eaa.endorser.files import load_endorsements
from eaa.endorser.history import STANDARD, VLEK
from eaa.endorser.http import Busy
from eaa.rats import EaaError, Endorsement, EndorsementError, Endorsements, NotFound, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from pathlib import Path

    from eaa.endorser.authenticity import Authenticator, Subject
    from eaa.endorser.needs import Need

__all__ = ["Fetched", "FolderSource", "Source", "fetch_from", "first_of"]

_SKEW: Final = timedelta(minutes=10)
"""How far ahead of ours a vendor's clock may be."""


class Source(Protocol):
    """Something that can be asked for endorsements, and is believed only as far as what it says is signed."""

    @property
    def name(self) -> str:
        """What operators know it by: its URL or folder."""
        ...

    def offers(self, need: Need) -> bool:
        """Whether asking makes sense at all."""
        ...

    async def fetch(self, need: Need) -> Endorsement:
        """Return one object.

        :raises NotFound: when the source does not have it.
        :raises UnavailableError: when it cannot be asked now (:class:`~eaa.endorser.http.Busy`: before a certain time).
        :raises EndorsementError: when what it says cannot be read.
        """
        ...


S = TypeVar("S", bound=Source)
A = TypeVar("A")
T = TypeVar("T")


class Fetched(NamedTuple):
    """An endorsement that was proven and is current, and the name of the source that had it."""

    endorsement: Endorsement
    subject: Subject
    source: str


class FolderSource:
    """A folder of collateral files, read again when a file in it changes."""

    def __init__(self, folder: Path, prove: Callable[[Endorsement], Subject]) -> None:
        self.name = str(folder)
        self._folder = folder
        self._prove = prove
        self._seen: frozenset[tuple[str, int, int]] = frozenset()
        self._found: dict[str, Endorsement] = {}

    def offers(self, need: Need) -> bool:
        """Whether it may be there: files do not say of which channel they are."""
        return need.slot in {STANDARD, VLEK}

    async def fetch(self, need: Need) -> Endorsement:
        """Return the newest one in the folder.

        :raises NotFound: when there is none.
        :raises UnavailableError: when the folder cannot be read.
        """
        await asyncio.to_thread(self._read)
        found = self._found.get(need.key)
        if found is None:
            raise NotFound(f"{self.name} has no {need.key}")
        return found

    def _read(self) -> None:
        try:
            status = [(each.name, each.stat()) for each in self._folder.iterdir() if each.is_file()]
        except OSError as error:
            raise UnavailableError(f"{self.name} cannot be read: {error.strerror}") from error
        seen = frozenset((name, each.st_mtime_ns, each.st_size) for name, each in status)
        if seen == self._seen:
            return
        proven: dict[str, tuple[datetime, Endorsement]] = {}
        for item in load_endorsements(self._folder).items if seen else Endorsements().items:
            try:
                subject = self._prove(item)
            except EndorsementError:
                continue  # another chip maker's, perhaps; whoever needs it is told that it is not there
            held = proven.get(subject.key)
            if held is None or held[0] < subject.issued:
                proven[subject.key] = (subject.issued, item)
        self._found = {key: item for key, (_, item) in proven.items()}
        self._seen = seen


async def fetch_from(
    sources: Sequence[Source],
    need: Need,
    authenticator: Authenticator,
    *,
    at: datetime,
    held: Subject | None,
    timeout_seconds: float = 30.0,
) -> Fetched:
    """Ask one source after the other until one has an object that is authentic, current, the right one, and not older than ``held``.

    :raises NotFound: when no source has it.
    :raises UnavailableError: when none could be asked; :class:`~eaa.endorser.http.Busy` when waiting helps.
    :raises EndorsementError: when a source had something, but it was refused.
    """

    async def take(source: Source, endorsement: Endorsement) -> Fetched:
        subject = await asyncio.to_thread(authenticator.authenticate, endorsement)
        _require_fit(subject, need, at, held)
        return Fetched(endorsement, subject, source.name)

    return await first_of(sources, need, lambda source: source.fetch(need), take, timeout_seconds)


async def first_of(
    sources: Sequence[S],
    need: Need,
    ask: Callable[[S], Awaitable[A]],
    take: Callable[[S, A], Awaitable[T]],
    timeout_seconds: float = 30.0,
) -> T:
    """Return what the first source gives, of those that offer ``need``, that can be asked in time and whose answer is taken.

    :raises NotFound: when no source has it.
    :raises UnavailableError: when none could be asked; :class:`~eaa.endorser.http.Busy` when waiting helps.
    :raises EndorsementError: when a source had something, but it was refused.
    """
    failures: list[EaaError] = []
    for source in sources:
        if not source.offers(need):
            continue
        try:
            async with asyncio.timeout(timeout_seconds):
                answer = await ask(source)
            return await take(source, answer)
        except TimeoutError:
            failures.append(
                UnavailableError(
                    f"{source.name} did not answer within {timeout_seconds:g} seconds",
                    hint="Check the network.",
                )
            )
        except (EndorsementError, NotFound, UnavailableError) as error:
            failures.append(_of(source, error))
    raise _worst(failures) or NotFound(
        f"no source offers {need.name}", hint="Configure a source for it, or import it."
    )


def _require_fit(subject: Subject, need: Need, at: datetime, held: Subject | None) -> None:
    """Refuse what is authentic and yet not what is wanted.

    :raises EndorsementError: saying why.
    """
    if subject.key != need.key:
        raise EndorsementError(
            f"{subject.key} came where {need.key} was asked for", hint="Another source may be right."
        )
    if need.slot.startswith("#") and subject.evaluation_number != int(need.slot[1:]):
        raise EndorsementError(
            f"evaluation number {subject.evaluation_number} came where {need.slot[1:]} was asked for"
        )
    if subject.next_update <= at:
        raise EndorsementError(
            f"it has expired on {subject.next_update:%Y-%m-%dT%H:%M:%SZ}",
            hint="The source hands out old collateral: let it refresh, or ask the vendor.",
        )
    if subject.issued > at + _SKEW:
        raise EndorsementError(
            f"it is issued in the future, on {subject.issued:%Y-%m-%dT%H:%M:%SZ}",
            hint="Check this machine's clock.",
        )
    if held is not None and (
        subject.issued < held.issued or subject.evaluation_number < held.evaluation_number
    ):
        raise EndorsementError(
            f"it is older ({subject.issued:%Y-%m-%dT%H:%M:%SZ}, number {subject.evaluation_number}) than what is held"
            f" ({held.issued:%Y-%m-%dT%H:%M:%SZ}, number {held.evaluation_number})",
            hint="The source is behind or replays; import with --force if the vendor really went back.",
        )


def _of(source: Source, error: EaaError) -> EaaError:
    """Return the error with its source's name in it."""
    if source.name in str(error) or isinstance(error, Busy):
        return error
    return type(error)(f"{source.name}: {error}", hint=error.hint)


def _worst(failures: list[EaaError]) -> EaaError | None:
    """Return what an operator has to know: a refusal goes before an outage, an outage before an absence."""
    for kind in (EndorsementError, Busy, UnavailableError, NotFound):
        if found := next((each for each in failures if isinstance(each, kind)), None):
            return found
    return None
