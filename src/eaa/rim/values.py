# SPDX-License-Identifier: Apache-2.0
"""Reference values by name, as owners and manifests give them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checked_reference_values"]

_HEX: Final = re.compile(r"([0-9A-Fa-f]{2}){16,}", re.ASCII)
"""Hex of 16 bytes or more: nothing else that anyone expects looks so, and evidence is compared in lower case."""


def checked_reference_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values with their hex in lower case.

    :raises InputError: on an empty name, or a value that could never match: null, or an empty list.
    """
    checked = {}
    for name, value in values.items():
        if not name:
            raise InputError("a reference value without a name")
        if value is None or value in ([], ""):
            raise InputError(
                f"the reference value {name[:200]!r} is empty",
                hint="Delete it instead: what has no reference value is never affirmed.",
            )
        checked[name] = [_lower(each) for each in value] if isinstance(value, list) else _lower(value)
    return checked


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) and _HEX.fullmatch(value) else value
