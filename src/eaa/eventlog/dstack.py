# SPDX-License-Identifier: Apache-2.0
"""dstack's event log: JSON, the boot events of RTMR 0 to 2 and what its guest extended into RTMR 3.

Studied from recorded logs. An entry is ``{imr, event_type, digest, event, event_payload}``, the last two in text and hex. A boot event carries
the data of the firmware's log in ``event_payload``, or nothing; ``event`` is then a name that no digest covers. A runtime event has type
08000001h, and its digest is SHA-384 over the type (four bytes, little-endian), ``:``, the name, ``:`` and the payload; the digest may be left out.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NoReturn

from eaa._json import parse_json
from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.model import Event, EventLog, Registers
from eaa.eventlog.tcg import MAX_EVENTS, MAX_SIZE
from eaa.eventlog.types import EventType
from eaa.rats import EvidenceError

__all__ = ["parse_dstack", "runtime_content"]

_SHA384: Final = BY_NAME["sha384"]
_IMRS: Final = 4
_RUNTIME: Final = struct.pack("<I", EventType.DSTACK_RUNTIME_EVENT)


def parse_dstack(data: bytes) -> EventLog:
    """Parse a list of events, or an answer of dstack's guest agent that holds one under ``event_log`` (as list or as text).

    :raises EvidenceError: when it is malformed or beyond the limits.
    """
    value = _json(data)
    if isinstance(value, dict):
        value = value.get("event_log")
        if isinstance(value, str):
            value = _json(value.encode())
    if not isinstance(value, list):
        _refuse("JSON without a list of events")
    if len(value) > MAX_EVENTS:
        _refuse(f"more than {MAX_EVENTS} events")
    events = tuple(_event(number, entry) for number, entry in enumerate(value, 1))
    return EventLog("dstack", Registers.CC, ("sha384",), events)


def runtime_content(name: str, payload: bytes) -> bytes:
    """Return the bytes whose digest a runtime event extends."""
    return _RUNTIME + b":" + name.encode() + b":" + payload


def _refuse(what: str) -> NoReturn:
    raise EvidenceError(
        what, check="eventlog.format", hint="Send the event log as dstack's guest agent returned it."
    )


def _json(data: bytes) -> Any:
    try:
        return parse_json(data, MAX_SIZE, error=EvidenceError)
    except EvidenceError as error:
        _refuse(str(error))


def _event(number: int, entry: Any) -> Event:
    if not isinstance(entry, dict):
        _refuse(f"event {number} is no object")
    imr, kind = entry.get("imr"), entry.get("event_type")
    if type(imr) is not int or not 0 <= imr < _IMRS or type(kind) is not int or not 0 <= kind < 1 << 32:
        _refuse(f"event {number} has no imr from 0 to {_IMRS - 1}, or no event_type of 32 bits")
    name, digest, payload = entry.get("event", ""), entry.get("digest", ""), entry.get("event_payload", "")
    if not isinstance(name, str) or not isinstance(digest, str) or not isinstance(payload, str):
        _refuse(f"event {number} has a field that is no text")
    content, given = _hex(payload, number), _hex(digest, number)
    if kind == EventType.DSTACK_RUNTIME_EVENT:
        content, name = runtime_content(name, content), ""
        given = given or _SHA384.digest(content)
    if len(given) != _SHA384.size:
        _refuse(f"event {number} has a digest of {len(given)} bytes")
    return Event(number, imr + 1, kind, {"sha384": given}, content, name)


def _hex(text: str, number: int) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        _refuse(f"event {number} has a field that is no hex")
