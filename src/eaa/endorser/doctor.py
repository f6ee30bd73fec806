# SPDX-License-Identifier: Apache-2.0
"""How it stands with everything that is needed: what is there, until when, what went wrong last, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from eaa.endorser import fmspcs, leases, pck_store, platforms
from eaa.endorser.authenticity import TCB_EVALUATION_NUMBERS
from eaa.endorser.history import STANDARD, VLEK
from eaa.endorser.needs import FMSPCS, PCK_CERTIFICATES, Need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from sqlalchemy import Connection

    from eaa.endorser.fmspcs import Families
    from eaa.endorser.leases import Refresh
    from eaa.endorser.store import Snapshot, Store

__all__ = ["Diagnosis", "Health", "diagnose"]

_SOON: Final = timedelta(days=3)
_MISSING: Final = "Import it with `eaa endorser import`, or configure a source that has it."
_IMPORTED: Final = "AMD hands VLEK certificates to cloud providers only: it comes with the evidence, or import it with `eaa endorser import`."
_UNKNOWN_FAMILY: Final = "Intel's list of FMSPCs does not have this one: check --want, or whether the platform is a genuine product."
_NOT_VITAL: Final = frozenset({TCB_EVALUATION_NUMBERS, PCK_CERTIFICATES, FMSPCS})
"""What verifying evidence does without."""
_EXPIRED: Final = "Refresh or import it: evidence that needs it is refused until then."


@dataclass(frozen=True, slots=True)
class Health:
    """One object. ``state`` is ``ok``, ``expiring`` (soon, and the last attempt failed), ``expired`` or ``missing``.

    ``vital`` objects are those without which evidence is refused; the others serve the forecast.
    """

    need: Need
    state: str
    vital: bool
    platforms: int
    issued: datetime | None
    next_update: datetime | None
    stored_at: datetime | None
    source: str
    evaluation_number: int
    next_refresh: datetime | None
    failures: int
    error: str
    remedy: str

    def to_json(self, at: datetime) -> dict[str, Any]:
        """Return it as JSON, with the age in seconds as of ``at``."""
        return {
            "name": self.need.name,
            "state": self.state,
            "vital": self.vital,
            "platforms": self.platforms,
            "issued": _time(self.issued),
            "next_update": _time(self.next_update),
            "stored_at": _time(self.stored_at),
            "age_seconds": int((at - self.issued).total_seconds()) if self.issued else None,
            "source": self.source,
            "evaluation_number": self.evaluation_number,
            "next_refresh": _time(self.next_refresh),
            "failures": self.failures,
            "error": self.error,
            "remedy": self.remedy,
        }


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that is needed, as of ``at``; ``healthy`` when nothing vital is missing or has expired."""

    at: datetime
    objects: tuple[Health, ...]
    platforms: int

    @property
    def healthy(self) -> bool:
        """Whether nothing that evidence needs is missing or has expired."""
        return not any(each.vital and each.state in {"missing", "expired"} for each in self.objects)

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {
            "at": _time(self.at),
            "healthy": self.healthy,
            "platforms": self.platforms,
            "objects": [each.to_json(self.at) for each in self.objects],
        }


async def diagnose(store: Store, wanted: Iterable[Need] = (), *, at: datetime | None = None) -> Diagnosis:
    """Say how it stands with what is held, what the platforms that were seen need, and ``wanted``.

    :raises UnavailableError: when the database cannot be read now.
    """
    await store.sync()
    at = at or store.clock()
    seen = await store.connections.read(platforms.listed)
    rows = await store.connections.read(leases.listed)
    snapshot = store.snapshot()
    families = await store.connections.read(fmspcs.listed)
    needed: dict[str, Need] = {each.name: each for each in wanted}
    needed |= {each.name: each for each in await store.connections.read(pck_store.needs)}
    count: dict[str, int] = {}
    for platform in seen:
        for need in platform.needs():
            needed[need.name] = need
            count[need.name] = count.get(need.name, 0) + 1
    for need in (*snapshot.kept(), *(Need(FMSPCS, root, "") for root in families)):
        needed.setdefault(need.name, need)
    unsigned = await store.connections.read(_unsigned_and_pck, families)
    objects = (
        _health(
            need,
            unsigned.get(name) or _held(snapshot, need),
            rows.get(name),
            count.get(name, 0),
            at,
            _absence(need, families),
        )
        for name, need in sorted(needed.items())
    )
    return Diagnosis(at, tuple(objects), len(seen))


class _Held(NamedTuple):
    """What is there of one object."""

    issued: datetime
    next_update: datetime
    stored_at: datetime
    source: str
    evaluation_number: int = 0


def _unsigned_and_pck(connection: Connection, families: Mapping[str, Families]) -> dict[str, _Held]:
    """Return what is held outside the snapshot, by name: PCK certificates and lists of FMSPCs."""
    found = {
        name: _Held(each.issued, each.next_update, each.stored_at, "")
        for name, each in pck_store.held(connection).items()
    }
    for root, each in families.items():
        found[Need(FMSPCS, root, "").name] = _Held(each.at, each.at + fmspcs.LASTS, each.at, each.source)
    return found


def _held(snapshot: Snapshot, need: Need) -> _Held | None:
    found = next(iter(snapshot.meeting(need)), None)
    if found is None:
        return None
    subject = found.subject
    return _Held(
        subject.issued, subject.next_update, found.stored_at, found.source, subject.evaluation_number
    )


def _absence(need: Need, families: Mapping[str, Families]) -> str:
    """Return what to do about TCB info that is missing because the chip maker's own list does not have the family, or nothing."""
    listed = families.get(need.root)
    if need.kind != "tcb_info" or listed is None or need.scope.rpartition("/")[2] in listed.kinds:
        return ""
    return _UNKNOWN_FAMILY


def _health(
    need: Need, held: _Held | None, row: Refresh | None, count: int, at: datetime, absence: str
) -> Health:
    error, remedy = (row.error, row.remedy) if row is not None else ("", "")
    if held is None:
        by_hand = _IMPORTED if need.kind == "snp_vlek" else ""
        state, remedy = "missing", absence or by_hand or remedy or _MISSING
    elif held.next_update < at:
        state, remedy = "expired", remedy or _EXPIRED
    elif error and held.next_update < at + _SOON:
        state = "expiring"
    else:
        state = "ok"
    return Health(
        need=need,
        state=state,
        vital=need.slot in {STANDARD, VLEK} and need.kind not in _NOT_VITAL,
        platforms=count,
        issued=held.issued if held else None,
        next_update=held.next_update if held else None,
        stored_at=held.stored_at if held else None,
        source=held.source if held else "",
        evaluation_number=held.evaluation_number if held else 0,
        next_refresh=row.due if row is not None else None,
        failures=row.failures if row is not None else 0,
        error=error,
        remedy=remedy,
    )


def _time(when: datetime | None) -> str | None:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ") if when is not None else None
