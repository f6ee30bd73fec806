# SPDX-License-Identifier: Apache-2.0
"""Reference values as owners send them, checked before anything is stored."""

from __future__ import annotations

import re
from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from eaa.kbs import parse_json
from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["checked_reference_values", "values_of_message"]

MAX_PAYLOAD: Final = 1 << 20
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


def values_of_message(message: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in a Trustee RVPS message of type ``sample``: base64 of a JSON object, name to value.

    :raises InputError: when it is of another version or type, or malformed.
    """
    if message.get("version", "0.1.0") != "0.1.0":
        raise InputError("a reference value message of another version", hint="Send version 0.1.0.")
    if message.get("type") != "sample":
        raise InputError(
            "only reference value messages of type sample are read",
            hint='Send {"type": "sample", "payload": "<base64 of a JSON object>"}.',
        )
    payload = message.get("payload")
    try:
        data = b64decode(payload, validate=True) if isinstance(payload, str) else b""
    except ValueError:
        data = b""
    values = parse_json(data, MAX_PAYLOAD, error=InputError) if data else None
    if not isinstance(values, dict) or not values:
        raise InputError("the payload is not standard base64 of a JSON object of names and values")
    return checked_reference_values(values)


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) and _HEX.fullmatch(value) else value
