# SPDX-License-Identifier: Apache-2.0
"""JSON that is signed as text: the exact bytes of one member are kept beside its value, which is read into a typed shape."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import Annotated, Any, Final, TypeVar

import msgspec
from msgspec import Meta

from eaa.rats import EndorsementError
from eaa.tee.x509 import Window

__all__ = [
    "MAX_JSON",
    "Dated",
    "Number",
    "SignedObject",
    "Time",
    "glance",
    "interpret",
    "members_of",
    "read_signed_object",
    "read_time",
]

MAX_JSON: Final = 4 * 1024 * 1024
"""Larger than any statement of a chip maker by two orders of magnitude."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_SIGNATURE: Final = re.compile(rb'"([0-9A-Fa-f]{128})"')
_RAW: Final = msgspec.json.Decoder(dict[str, msgspec.Raw])
_MAX_ERROR: Final = 200

Time = Annotated[str, Meta(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ\Z")]
"""A time in UTC, without fractions; :func:`read_time` reads it."""
Number = Annotated[int, Meta(ge=0, le=0x7FFFFFFF)]

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SignedObject:
    """One signed statement: ``text`` is exactly what was signed, ``signature`` is ``r ‖ s``, 64 bytes."""

    text: bytes
    signature: bytes

    @property
    def value(self) -> dict[str, Any]:
        """What the text says, for a reader: :func:`interpret` is how to rely on it.

        :raises EndorsementError: when it is not JSON.
        """
        return glance(self, dict[str, Any])


def read_signed_object(content: bytes, *names: str) -> SignedObject:
    """Read ``{"<name>": {…}, "signature": "<hex>"}`` where the object goes by the first of ``names`` that is there.

    :raises EndorsementError: on anything else.
    """
    members = _plain_members(content) or {name: text for name, (_, text) in members_of(content).items()}
    name = next((each for each in names if each in members), None)
    if name is None or "signature" not in members:
        raise EndorsementError(
            f"expected an object with {names[0]!r} and 'signature', found {sorted(members)[:8]}"
        )
    signature = _SIGNATURE.fullmatch(members["signature"])
    if signature is None:
        raise EndorsementError("the signature is not 64 bytes of hex")
    if not members[name].startswith(b"{"):
        raise EndorsementError(f"{name} is not an object")
    return SignedObject(members[name], bytes.fromhex(signature[1].decode()))


def _plain_members(content: bytes) -> dict[str, bytes] | None:
    """Take the members of a document that is written without a spare byte, as chip makers write theirs; None is for any other.

    A document is that when its members make it up again; then it has no name twice, either. What is inside of them is not looked at.
    """
    try:
        members = _RAW.decode(content) if len(content) <= MAX_JSON else {}
    except (ValueError, RecursionError):
        return None  # :func:`members_of` says why
    texts = {name: bytes(raw) for name, raw in members.items()}
    written = b",".join([b'"%b":%b' % (name.encode(), text) for name, text in texts.items()])
    return texts if b"{%b}" % written == content else None


def members_of(content: bytes) -> dict[str, tuple[Any, bytes]]:
    """Read a JSON object into name → (value, the value's own bytes).

    :raises EndorsementError: when it is too large, too deep, not UTF-8, not an object, or has a name twice.
    """
    if len(content) > MAX_JSON:
        raise EndorsementError(f"{len(content)} bytes of JSON, at most {MAX_JSON} are read")
    try:
        return _members(content.decode("utf-8"))
    except RecursionError as error:
        raise EndorsementError("the JSON is nested too deeply") from error
    except ValueError as error:
        raise EndorsementError(f"not the JSON that was expected: {error}") from error


def _members(text: str) -> dict[str, tuple[Any, bytes]]:
    at = _skip(text, 0)
    if text[at : at + 1] != "{":
        raise ValueError("it does not begin with an object")
    members: dict[str, tuple[Any, bytes]] = {}
    at = _skip(text, at + 1)
    while text[at : at + 1] != "}":
        if members:
            at = _expect(text, at, ",")
        name, at = _DECODER.raw_decode(text, at)
        if not isinstance(name, str) or name in members:
            raise ValueError(f"the name {name!r} is there twice or is not a string")
        start = _expect(text, _skip(text, at), ":")
        value, end = _DECODER.raw_decode(text, start)
        members[name] = value, text[start:end].encode("utf-8")
        at = _skip(text, end)
    if _skip(text, at + 1) != len(text):
        raise ValueError("something follows the object")
    return members


def _skip(text: str, at: int) -> int:
    found = _SPACE.match(text, at)
    return found.end() if found else at


def _expect(text: str, at: int, token: str) -> int:
    if text[at : at + 1] != token:
        raise ValueError(f"{token!r} is missing at character {at}")
    return _skip(text, at + 1)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("an object has a name twice")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


class Dated(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What every statement begins with: of what it is, its version, and the time from its issue to the next one.

    This and every shape below it names its members in the order in which they are written, see :func:`interpret`.
    """

    id: str
    version: Number
    issue_date: Time
    next_update: Time

    def window(self, what: str) -> Window:
        """Return that time.

        :raises EndorsementError: when it ends before it begins, or a day is not in the calendar.
        """
        window = Window(what, read_time(self.issue_date), read_time(self.next_update))
        if window.end < window.start:
            raise EndorsementError("nextUpdate is before issueDate")
        return window


def interpret(signed: SignedObject, shape: type[_T]) -> _T:
    """Return the statement in this shape; members that the shape does not name are passed over.

    A statement that the shape, written again, makes up to the byte has no name twice. Any other is read once more, to see that.

    :raises EndorsementError: when a member is missing, of another type, or out of range, or a name is there twice.
    """
    value = glance(signed, shape)
    if msgspec.json.encode(value) != signed.text:
        members_of(signed.text)
    return value


def glance(signed: SignedObject, shape: type[_T]) -> _T:
    """Return the statement in this shape without a look for names that are there twice, to choose the shape to interpret it in.

    :raises EndorsementError: when a member is missing, of another type, or out of range.
    """
    try:
        value = msgspec.json.decode(signed.text, type=shape)
    except msgspec.ValidationError as error:
        raise EndorsementError(f"the statement is not well-formed: {str(error)[:_MAX_ERROR]}") from error
    except (ValueError, RecursionError) as error:
        raise EndorsementError(f"the statement is not JSON: {str(error)[:_MAX_ERROR]}") from error
    return value


def read_time(text: str) -> datetime:
    """Return the time that a :data:`Time` spells.

    :raises EndorsementError: when its day is not in the calendar.
    """
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise EndorsementError("a time is not one of the calendar") from error
