# SPDX-License-Identifier: Apache-2.0
"""Is it the software that the owner expects? Evidence against reference values, one named check per register.

A register that identifies the software must have a reference value, or the evidence is refused; every other register is held
against its reference value if there is one. Pure.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Check, Rule, Stage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Appraisal, ReferenceValues

__all__ = ["REGISTERS", "Expected", "check_reference_values", "index_reference_values"]

_TDX_REQUIRED: Final = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")
"""Firmware, virtual hardware, boot loader and kernel, command line. The guest itself extends rtmr_3, which therefore pins nothing
without the others (attack A27)."""
_TDX_OPTIONAL: Final = (
    "rtmr_3", "mr_seam", "mrsigner_seam", "seam_attributes", "mr_config_id", "mr_owner", "mr_owner_config",
    "td_attributes", "xfam", "mr_service_td",
)  # fmt: skip
_SGX: Final = ("mr_enclave", "mr_signer", "isv_prod_id", "isv_svn")

REGISTERS: Final[Mapping[str, tuple[str, ...]]] = {"tdx": _TDX_REQUIRED + _TDX_OPTIONAL, "sgx": _SGX}
"""The registers of each TEE that a reference value can speak of."""

_SOURCES: Final = {
    "tdx": "Intel TDX Module Base Architecture Specification, measurement and attestation; RFC 9334 section 8.3",
    "sgx": "Intel SDM volume 3D, enclave identity; RFC 9334 section 8.3",
}
_TITLES: Final = {
    "mr_td": "The TD's firmware is one the owner expects",
    "rtmr_0": "The TD's virtual hardware and firmware settings are as the owner expects",
    "rtmr_1": "The TD's boot loader and kernel are as the owner expects",
    "rtmr_2": "The TD's command line and initial disk are as the owner expects",
    "mr_enclave": "The enclave is one the owner expects",
    "mr_signer": "The enclave's signer is one the owner expects",
    "isv_prod_id": "The enclave is the product the owner expects",
    "isv_svn": "The enclave is no older than the owner allows",
}


def _rule(tee: str, name: str) -> Rule:
    placeholder = "MINIMUM" if name == "isv_svn" else "VALUE"
    return Rule(
        f"reference.{tee}.{name}",
        Stage.REFERENCE,
        _TITLES.get(name, f"{name} is as the owner expects"),
        _SOURCES[tee],
        f"If this is the software you mean to run, register what it measures to: eaa reference-value set {name}={placeholder}",
    )


_RULES: Final = {(tee, name): _rule(tee, name) for tee, names in REGISTERS.items() for name in names}
_UNKNOWN_TEE: Final = Rule(
    "reference.tee",
    Stage.REFERENCE,
    "It is known which registers identify the software",
    "RFC 9334 section 8.3",
    "Use a TEE whose reference values are supported: " + ", ".join(sorted(REGISTERS)) + ".",
)


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

    TDX needs ``mr_td`` and ``rtmr_0`` to ``rtmr_2``. SGX needs ``mr_enclave``, or ``mr_signer`` with ``isv_prod_id`` and the minimum ``isv_svn``.
    Whatever else has a reference value must match it.
    """
    evidence = appraisal.evidence
    expected = _Lookup(values)
    if evidence.tee == "tdx":
        required = frozenset(_TDX_REQUIRED)
    elif evidence.tee == "sgx":
        by_signer = "mr_enclave" not in expected and "mr_signer" in expected
        required = frozenset({"mr_signer", "isv_prod_id", "isv_svn"} if by_signer else {"mr_enclave"})
    else:
        return (_UNKNOWN_TEE.failed(", ".join(sorted(REGISTERS)), evidence.tee),)
    measurements = evidence.measurements
    return tuple(
        _check(
            _RULES[evidence.tee, name],
            name,
            measurements.get(name),
            expected.get(name),
            required=name in required,
        )
        for name in REGISTERS[evidence.tee]
    )


class _Lookup:
    """Reads a reference value only when it is asked for, so that a long list for another TEE costs nothing."""

    def __init__(self, values: ReferenceValues) -> None:
        self._values = values

    def __contains__(self, name: str) -> bool:
        return self.get(name) is not None

    def get(self, name: str) -> Expected | None:
        value = self._values.get(name)
        return None if value is None else Expected.of(value)


def _check(rule: Rule, name: str, found: str | None, expected: Expected | None, *, required: bool) -> Check:
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
    if name == "isv_svn":
        return _check_minimum(rule, found, expected)
    return rule.holds(found in expected, str(expected), found)


def _check_minimum(rule: Rule, found: str, expected: Expected) -> Check:
    minimum = next(iter(expected.values))
    if len(expected.values) != 1 or not (minimum.isascii() and minimum.isdecimal() and len(minimum) < 6):
        return rule.failed("exactly one number, the minimum", found)
    return rule.holds(int(found) >= int(minimum), f"at least {minimum}", found)
