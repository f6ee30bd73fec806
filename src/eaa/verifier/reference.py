# SPDX-License-Identifier: Apache-2.0
"""Is it the software that the owner expects? Evidence against reference values, one named check per register.

A register that identifies the software must have a reference value, or the evidence is refused; every other register is held
against its reference value if there is one. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from eaa.rats import Check, Rule, Stage
from eaa.tee.registry import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Appraisal, ReferenceValues

__all__ = [
    "Expected",
    "check_reference_values",
    "check_registers",
    "index_reference_values",
    "rules_of",
    "satisfies",
]


@cache
def rules_of(tee: str) -> Mapping[str, Rule]:
    """Return the rule of each register that a reference value can speak of."""
    kind = kind_of(tee)
    return {
        name: Rule(
            f"reference.{tee}.{name}",
            Stage.REFERENCE,
            title,
            kind.register_source,
            "If this is the software you mean to run, register what it measures to: "
            f"eaa reference-value set {name}={'MINIMUM' if name in kind.minimums else 'VALUE'}",
        )
        for name, title in kind.registers.items()
    }


@dataclass(frozen=True, slots=True)
class Expected:
    """The values allowed for one register, as text in lower case; membership takes constant time."""

    values: Mapping[str, None]

    @classmethod
    def of(cls, value: Any) -> Expected:
        """Read a reference value: a list of strings or numbers, or one of them. Anything else allows nothing."""
        if isinstance(value, Expected):
            return value
        given = value if isinstance(value, list | tuple | set | frozenset) else (value,)
        return cls(
            {
                str(each).lower(): None
                for each in given
                if isinstance(each, str | int) and not isinstance(each, bool)
            }
        )

    def __contains__(self, found: str) -> bool:
        return found in self.values

    def __bool__(self) -> bool:
        return bool(self.values)

    def __str__(self) -> str:
        shown = ", ".join(_short(value) for value in islice(self.values, 3))
        more = len(self.values) - 3
        return f"{shown} or one of {more} more" if more > 0 else shown


def _short(value: str) -> str:
    """Return enough of a long digest to recognise it."""
    return value if len(value) <= 40 else f"{value[:16]}…{value[-8:]}"


def index_reference_values(values: ReferenceValues) -> Mapping[str, Expected]:
    """Return the values ready for lookup in constant time; :func:`check_reference_values` takes either form."""
    return {name: Expected.of(value) for name, value in values.items() if value is not None}


def check_reference_values(appraisal: Appraisal, values: ReferenceValues) -> tuple[Check, ...]:
    """Hold the evidence's registers against the owner's reference values, ``{"mr_td": ["9a…"], …}``.

    Which registers need one depends on the kind of TEE: TDX needs ``mr_td`` and ``rtmr_0`` to ``rtmr_2``; SGX needs ``mr_enclave``, or
    ``mr_signer`` with ``isv_prod_id`` and the minimum ``isv_svn``. Whatever else has a reference value must match it.

    :raises EvidenceError: when the kind of TEE is not known.
    """
    return check_registers(appraisal.evidence.tee, appraisal.evidence.measurements, values)


def check_registers(tee: str, measurements: Mapping[str, str], values: ReferenceValues) -> tuple[Check, ...]:
    """Hold registers, as a kind of TEE reports or a stored verdict repeats them, against the owner's reference values.

    :raises EvidenceError: when the kind of TEE is not known.
    """
    kind, expected = kind_of(tee), _Lookup(values)
    required = kind.required(expected)
    return tuple(
        _check(
            rule,
            name,
            measurements.get(name),
            expected.get(name),
            required=name in required,
            minimum=name in kind.minimums,
        )
        for name, rule in rules_of(tee).items()
    )


class _Lookup:
    """Reads a reference value only when it is asked for, so that a long list for another TEE costs nothing."""

    def __init__(self, values: ReferenceValues) -> None:
        self._values = values

    def __contains__(self, name: object) -> bool:
        return isinstance(name, str) and self.get(name) is not None

    def get(self, name: str) -> Expected | None:
        value = self._values.get(name)
        return None if value is None else Expected.of(value)


def _check(
    rule: Rule, name: str, found: str | None, expected: Expected | None, *, required: bool, minimum: bool
) -> Check:
    if expected is None:
        if required:
            return rule.failed(f"no reference value named {name}", found or "not in this evidence")
        return rule.not_applicable(f"no reference value named {name}")
    if not expected:
        return rule.failed(
            f"the reference value {name} holds no usable value", found or "not in this evidence"
        )
    if found is None:
        return rule.failed(str(expected), "not in this evidence")
    if not minimum:
        return rule.holds(found in expected, str(expected), found)
    least = _minimum(expected)
    if least is None:
        return rule.failed("exactly one number, the minimum", found)
    return rule.holds(satisfies(found, expected, minimum=True), f"at least {least}", found)


def satisfies(found: str, expected: Expected, *, minimum: bool) -> bool:
    """Return whether a register is one of the values, or reaches the one number that is its minimum."""
    if not minimum:
        return found in expected
    least = _minimum(expected)
    return least is not None and int(found) >= least


def _minimum(expected: Expected) -> int | None:
    text = next(iter(expected.values), "")
    usable = len(expected.values) == 1 and text.isascii() and text.isdecimal() and len(text) < 6
    return int(text) if usable else None
