# SPDX-License-Identifier: Apache-2.0
"""How it stands with everything that is needed: what is there, until when, what went wrong last, and what to do about it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from eaa.endorser import leases, platforms
from eaa.endorser.authenticity import TCB_EVALUATION_NUMBERS
from eaa.endorser.history import EARLY, STANDARD
from eaa.endorser.needs import Need

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.endorser.leases import Refresh
    from eaa.endorser.store import Snapshot, Store, Stored

__all__ = ["Diagnosis", "Health", "diagnose"]

_SOON: Final = timedelta(days=3)
_MISSING: Final = "Import it with `eaa endorser import`, or configure a source that has it."
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
    needed: dict[str, Need] = {each.name: each for each in wanted}
    count: dict[str, int] = {}
    for platform in seen:
        for need in platform.needs():
            needed[need.name] = need
            count[need.name] = count.get(need.name, 0) + 1
    for key, slot in snapshot.slots:
        if slot in {STANDARD, EARLY}:
            need = Need.of_key(key, slot)
            needed.setdefault(need.name, need)
    objects = (
        _health(need, _held(snapshot, need), rows.get(name), count.get(name, 0), at)
        for name, need in sorted(needed.items())
    )
    return Diagnosis(at, tuple(objects), len(seen))


def _held(snapshot: Snapshot, need: Need) -> Stored | None:
    if "*" not in need.key:
        return snapshot.slots.get((need.key, need.slot))
    before, _, after = need.key.partition("*")
    fitting = (key for key in snapshot.stored if key.startswith(before) and key.endswith(after))
    return snapshot.stored.get(next(fitting, ""))


def _health(need: Need, held: Stored | None, row: Refresh | None, count: int, at: datetime) -> Health:
    error, remedy = (row.error, row.remedy) if row is not None else ("", "")
    if held is None:
        state, remedy = "missing", remedy or _MISSING
    elif held.subject.next_update < at:
        state, remedy = "expired", remedy or _EXPIRED
    elif error and held.subject.next_update < at + _SOON:
        state = "expiring"
    else:
        state = "ok"
    return Health(
        need,
        state,
        need.slot == STANDARD and need.kind != TCB_EVALUATION_NUMBERS,
        count,
        held.subject.issued if held else None,
        held.subject.next_update if held else None,
        held.stored_at if held else None,
        held.source if held else "",
        held.subject.evaluation_number if held else 0,
        row.due if row is not None else None,
        row.failures if row is not None else 0,
        error,
        remedy,
    )


def _time(when: datetime | None) -> str | None:
    return when.strftime("%Y-%m-%dT%H:%M:%SZ") if when is not None else None
