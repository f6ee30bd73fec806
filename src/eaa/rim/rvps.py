# SPDX-License-Identifier: Apache-2.0
"""Messages of Trustee's reference value provider service (RVPS): a payload of the type ``sample``, ``corim`` or ``swid``."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import InputError
from eaa.rim.corim import unwrap_corim
from eaa.rim.errors import ManifestError
from eaa.rim.names import named_values
from eaa.rim.values import checked_reference_values

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KINDS",
    "MAX_MESSAGE",
    "MAX_PAYLOAD",
    "Message",
    "parse_message",
    "read_message",
    "values_in",
    "values_of_message",
    "write_message",
]

KINDS: Final = ("sample", "corim", "swid")
MAX_PAYLOAD: Final = 1 << 20
MAX_MESSAGE: Final = 2 * MAX_PAYLOAD
_VERSION: Final = "0.1.0"


@dataclass(frozen=True, slots=True)
class Message:
    """A message: of what type, and the document that it carries."""

    kind: str
    payload: bytes = field(repr=False)


def parse_message(data: bytes) -> Message:
    """Read a message in JSON.

    :raises ManifestError: when it is none, or of another version or type.
    """
    value = parse_json(data, MAX_MESSAGE, error=ManifestError)
    if not isinstance(value, dict):
        raise ManifestError("a reference value message is a JSON object")
    return read_message(value)


def read_message(value: Mapping[str, Any]) -> Message:
    """Read a message whose JSON has been read already.

    :raises ManifestError: when it is none, or of another version or type.
    """
    if value.get("version", _VERSION) != _VERSION:
        raise ManifestError("a reference value message of another version", hint=f"Send version {_VERSION}.")
    kind, payload = value.get("type"), value.get("payload")
    if kind not in KINDS:
        raise ManifestError(
            "only reference value messages of the types sample, corim and swid are read",
            hint='Send {"type": "sample", "payload": "<base64 of a JSON object>"}.',
        )
    try:
        data = b64decode(payload, validate=True) if isinstance(payload, str) else b""
    except ValueError:
        data = b""
    if not 0 < len(data) <= MAX_PAYLOAD:
        raise ManifestError(f"the payload is not standard base64 of 1 to {MAX_PAYLOAD} bytes")
    return Message(str(kind), data)


def write_message(message: Message) -> bytes:
    """Return the message in JSON."""
    payload = b64encode(message.payload).decode()
    return json.dumps({"version": _VERSION, "type": message.kind, "payload": payload}).encode()


def values_of_message(value: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values in a message whose JSON has been read already, as :func:`values_in` does.

    :raises InputError: likewise, or when it is no message.
    """
    return values_in(read_message(value))


def values_in(message: Message) -> dict[str, Any]:
    """Return the reference values in a message by name, for whoever is entitled to state them: no signature in it is verified.

    A ``sample`` is a JSON object, name to value. Of a ``corim`` the reference values are taken, as Trustee does. A ``swid`` is read by
    :mod:`eaa.rim.swid` only, which asks about its signature.

    :raises InputError: when the payload is malformed, or has no value.
    """
    if message.kind == "swid":
        raise InputError(
            "a RIM in SWID is not taken without verifying its signature",
            hint="Import it: eaa verdict import FILE",
        )
    if message.kind == "corim":
        values, _ = named_values(unwrap_corim(message.payload)[0])
        if not values:
            raise InputError(
                "the manifest has no reference value that can be read", hint="See eaa verdict import."
            )
        return checked_reference_values(values)
    sample = parse_json(message.payload, MAX_PAYLOAD, error=InputError)
    if not isinstance(sample, dict) or not sample:
        raise InputError("the payload is not standard base64 of a JSON object of names and values")
    return checked_reference_values(sample)
