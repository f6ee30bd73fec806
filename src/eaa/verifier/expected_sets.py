# SPDX-License-Identifier: Apache-2.0
"""Sets of reference values: the registers of one version of one product, which evidence matches whole or not at all.

Values by name alone would let one product's kernel pass with another's firmware. A set does not: evidence is held against the values
of the one active set that it matches, over the owner's own values, or against the owner's own values alone. Finding that set takes
constant time; what is shown when none is found is bounded. Pure.
"""

from __future__ import annotations

from collections import ChainMap, Counter
from dataclasses import dataclass, field
from itertools import product as combinations
from typing import TYPE_CHECKING, Any, Final, NamedTuple, cast

from eaa.rats import Rule, Stage
from eaa.tee.registry import kind_of
from eaa.verifier.reference import Expected, check_registers, satisfies
from eaa.verifier.set_differences import differences

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from eaa.rats import Check, ReferenceValues

__all__ = ["NO_SETS", "REFERENCE_SET", "ExpectedSet", "ExpectedSets", "MeasuredInput", "ReferenceResult"]

REFERENCE_SET: Final = Rule(
    "reference.set",
    Stage.REFERENCE,
    "All registers are those of one active set of reference values, or of the owner's own values",
    "RFC 9334 section 8.3",
    "Run what one signed set describes, whole. If this is software you mean to run, publish its set: eaa verdict publish; "
    "`eaa verdict list` shows the active ones.",
)

_EXPECTED: Final = "one active set, whole, or the owner's own values"
_MAX_COMBINED: Final = 64
"""Combinations of allowed values under which one set is found directly; a set with more is found by its first register's."""
_MAX_SHOWN: Final = 64
"""Sets with the same value of one register that are looked at for an explanation."""


class MeasuredInput(NamedTuple):
    """Something that a register was made of: its name (``kernel``) and the hex of the digest that was extended, or of the input."""

    name: str
    digest: str


@dataclass(frozen=True, slots=True)
class ExpectedSet:
    """One active set. ``values`` are the allowed values by register, lower-case hex or a minimum as decimal number.

    ``inputs`` say in order what each register was made of; they explain and decide nothing. ``expected`` and ``plain`` are the values as
    checks and as policies read them.
    """

    product: str
    version: int
    tee: str
    values: Mapping[str, Sequence[str]]
    inputs: Mapping[str, tuple[MeasuredInput, ...]] = field(default_factory=dict)
    expires_at: datetime | None = None
    expected: Mapping[str, Expected] = field(init=False, repr=False, compare=False)
    plain: Mapping[str, list[str]] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        plain = {name: list(each) for name, each in self.values.items()}
        object.__setattr__(self, "plain", plain)
        object.__setattr__(self, "expected", {name: Expected.of(each) for name, each in plain.items()})

    def __str__(self) -> str:
        return f"{self.product} version {self.version}"

    def counts_at(self, at: datetime) -> bool:
        """Return whether the set has not expired at ``at``."""
        return self.expires_at is None or at < self.expires_at

    def differing(self, measurements: Mapping[str, str]) -> tuple[str, ...]:
        """Return the names of the registers that are not as this set has them."""
        minimums = kind_of(self.tee).minimums
        return tuple(
            name
            for name, allowed in self.expected.items()
            if (found := measurements.get(name)) is None
            or not satisfies(found, allowed, minimum=name in minimums)
        )


class ReferenceResult(NamedTuple):
    """The values that count for one piece of evidence, as policies read them, and the checks against them."""

    values: ReferenceValues
    checks: tuple[Check, ...]


class ExpectedSets:
    """The active sets of all kinds of TEE, indexed once. Never changes."""

    def __init__(self, sets: Iterable[ExpectedSet] = ()) -> None:
        by_tee: dict[str, list[ExpectedSet]] = {}
        for each in sets:
            by_tee.setdefault(each.tee, []).append(each)
        self.sets: Final = tuple(each for listed in by_tee.values() for each in listed)
        self._indexes = {tee: _Index(tee, listed) for tee, listed in by_tee.items()}

    def find(self, tee: str, measurements: Mapping[str, str], at: datetime) -> ExpectedSet | None:
        """Return the set that these registers match whole, if it counts at ``at``."""
        found = self._matching(tee, measurements, at) if tee in self._indexes else []
        return found[0] if found else None

    def _matching(self, tee: str, measurements: Mapping[str, str], at: datetime) -> list[ExpectedSet]:
        """Return the sets that these registers match whole and that count at ``at``, higher versions first."""
        found = (each for each in self._indexes[tee].matching(measurements) if each.counts_at(at))
        return sorted(found, key=lambda each: -each.version)

    def values_named(self, name: str, at: datetime) -> list[str]:
        """Return every value that a set which counts at ``at`` allows a register of this name: for showing, not for deciding."""
        found = (
            each.expected[name].values for each in self.sets if name in each.expected and each.counts_at(at)
        )
        return list(dict.fromkeys(value for values in found for value in values))

    def check(
        self,
        tee: str,
        measurements: Mapping[str, str],
        own: ReferenceValues,
        *,
        at: datetime,
        logged: Mapping[str, Sequence[str]],
    ) -> ReferenceResult:
        """Hold registers against the set that they match, over the owner's own values, or else against the owner's own alone.

        ``logged`` has the digests of an event log that has been proven, by register: with it a refusal names the very input that
        differs.

        :raises EvidenceError: when the kind of TEE is not known.
        """
        index = self._indexes.get(tee)
        if index is None:
            return ReferenceResult(own, check_registers(tee, measurements, own))
        of_set = None
        for each in self._matching(tee, measurements, at):
            # One that says too little to decide alone stands in no other's way.
            against = _against(each, measurements, own)
            if not _blocks(against):
                return against
            of_set = of_set or against
        checks = check_registers(tee, measurements, own)
        if not any(each.blocks for each in checks):
            return ReferenceResult(own, (*checks, REFERENCE_SET.passed(_EXPECTED, "the owner's own values")))
        if of_set is not None:
            return of_set
        return index.refusal(measurements, own, logged)


NO_SETS: Final = ExpectedSets()
"""What holds where no set is active."""


def _against(chosen: ExpectedSet, measurements: Mapping[str, str], own: ReferenceValues) -> ReferenceResult:
    """Hold registers against one set that they match whole, and against the owner's own values where the set says nothing."""
    checks = check_registers(chosen.tee, measurements, _over(chosen.expected, own))
    return ReferenceResult(_over(chosen.plain, own), (*checks, REFERENCE_SET.passed(_EXPECTED, str(chosen))))


def _blocks(result: ReferenceResult) -> bool:
    return any(each.blocks for each in result.checks)


def _over(values: Mapping[str, Any], own: ReferenceValues) -> ReferenceValues:
    """Return the values of a set over the owner's own, without copying either."""
    return ChainMap(cast("dict[str, Any]", values), cast("dict[str, Any]", own))


class _Index:
    """The sets of one kind of TEE, found by the values of their registers.

    Sets that name the same registers are of one shape; within a shape the key is the tuple of those registers' values. As software
    comes in few shapes, a lookup is a few look-ups of tuples.
    """

    def __init__(self, tee: str, sets: Sequence[ExpectedSet]) -> None:
        self._tee = tee
        self._shapes: dict[tuple[str, ...], dict[tuple[str, ...], list[ExpectedSet]]] = {}
        self._by_value: dict[str, dict[str, list[ExpectedSet]]] = {}
        exact = [name for name in kind_of(tee).registers if name not in kind_of(tee).minimums]
        for each in sets:
            names = _shape(each, exact)
            keys = self._shapes.setdefault(names, {})
            for key in combinations(*(each.expected[name].values for name in names)):
                keys.setdefault(key, []).append(each)
            for name in exact:
                for value in each.expected[name].values if name in each.expected else ():
                    sharing = self._by_value.setdefault(name, {}).setdefault(value, [])
                    if len(sharing) < _MAX_SHOWN:
                        sharing.append(each)

    def matching(self, measurements: Mapping[str, str]) -> Iterator[ExpectedSet]:
        """Yield the sets that the registers match whole, expired ones too."""
        for names, keys in self._shapes.items():
            for each in keys.get(tuple(measurements.get(name, "") for name in names), ()):
                if not each.differing(measurements):
                    yield each

    def nearest(self, measurements: Mapping[str, str]) -> ExpectedSet | None:
        """Return a set that shares the most registers with the evidence, the newest of those."""
        shared: Counter[int] = Counter()
        known: dict[int, ExpectedSet] = {}
        for name, by_value in self._by_value.items():
            for each in by_value.get(measurements.get(name, ""), ()):
                shared[id(each)] += 1
                known[id(each)] = each
        best = max(shared, key=lambda key: (shared[key], known[key].version), default=None)
        return None if best is None else known[best]

    def refusal(
        self,
        measurements: Mapping[str, str],
        own: ReferenceValues,
        logged: Mapping[str, Sequence[str]],
    ) -> ReferenceResult:
        """Return failing checks that say what the evidence is nearest to, and which of its inputs differ."""
        nearest = self.nearest(measurements)
        if nearest is None:
            checks = check_registers(self._tee, measurements, own)
            return ReferenceResult(
                own, (*checks, REFERENCE_SET.failed(_EXPECTED, "no register is that of an active set"))
            )
        differing = nearest.differing(measurements)
        if not differing:
            assert nearest.expires_at is not None
            checks = check_registers(self._tee, measurements, own)
            ended = f"{nearest}, which expired at {nearest.expires_at.isoformat().replace('+00:00', 'Z')}"
            return ReferenceResult(own, (*checks, REFERENCE_SET.failed(_EXPECTED, ended)))
        said = {name: differences(nearest.inputs.get(name, ()), logged.get(name)) for name in differing}
        checks = tuple(
            _naming(each, nearest, said)
            for each in check_registers(self._tee, measurements, _over(nearest.expected, own))
        )
        parts = [
            f"nearest is {nearest}",
            *(self._about(name, measurements, nearest, said[name]) for name in differing),
        ]
        return ReferenceResult(
            _over(nearest.plain, own), (*checks, REFERENCE_SET.failed(_EXPECTED, "; ".join(parts)))
        )

    def _about(self, name: str, measurements: Mapping[str, str], nearest: ExpectedSet, said: str) -> str:
        others = self._by_value.get(name, {}).get(measurements.get(name, ""), ())
        other = next((each for each in others if each is not nearest), None)
        whose = "" if other is None else f" is that of {other}"
        return f"{name}{whose}: {said}" if said else f"{name}{whose or ' differs'}"


def _shape(each: ExpectedSet, exact: Sequence[str]) -> tuple[str, ...]:
    """Return the registers by which a set is found: as many as there are, while the combinations of their values stay few."""
    names: tuple[str, ...] = ()
    combined = 1
    for name in sorted(
        (name for name in exact if name in each.expected), key=lambda name: len(each.expected[name].values)
    ):
        combined *= len(each.expected[name].values)
        if names and combined > _MAX_COMBINED:
            break
        names = (*names, name)
    return names


def _naming(check: Check, nearest: ExpectedSet, said: Mapping[str, str]) -> Check:
    """Return a failed check of a register with the input that explains it."""
    name = check.id.rpartition(".")[2]
    if not check.blocks or not said.get(name):
        return check
    return check._replace(found=f"{check.found}; compared with {nearest}: {said[name]}")
