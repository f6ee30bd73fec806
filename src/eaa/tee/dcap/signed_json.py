# SPDX-License-Identifier: Apache-2.0
"""JSON that is signed as text: the exact bytes of one member are kept beside its value, and fields are read with types."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final, TypeVar

from eaa.rats import EndorsementError
from eaa.tee.x509 import Window

if TYPE_CHECKING:
    from collections.abc import Collection

__all__ = ["MAX_JSON", "JsonObject", "SignedObject", "members_of", "read_signed_object"]

MAX_JSON: Final = 4 * 1024 * 1024
"""Larger than any statement of a chip maker by two orders of magnitude."""
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class SignedObject:
    """One signed statement: ``text`` is exactly what was signed, ``value`` its JSON, ``signature`` is ``r ‖ s``, 64 bytes."""

    text: bytes
    value: dict[str, Any]
    signature: bytes


def read_signed_object(content: bytes, *names: str) -> SignedObject:
    """Read ``{"<name>": {…}, "signature": "<hex>"}`` where the object goes by the first of ``names`` that is there.

    :raises EndorsementError: on anything else.
    """
    members = members_of(content)
    name = next((each for each in names if each in members), None)
    if name is None or "signature" not in members:
        raise EndorsementError(
            f"expected an object with {names[0]!r} and 'signature', found {sorted(members)[:8]}"
        )
    value, text = members[name]
    signature = JsonObject({"signature": members["signature"][0]}, name).hex("signature", 64)
    if not isinstance(value, dict):
        raise EndorsementError(f"{name} is not an object")
    return SignedObject(text, value, signature)


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


class JsonObject:
    """A JSON object read with types: any surprise is an :class:`EndorsementError` that names the field."""

    __slots__ = ("_path", "_value")

    def __init__(self, value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise EndorsementError(f"{path} is not an object")
        self._value: dict[str, Any] = value
        self._path = path

    def __contains__(self, name: str) -> bool:
        return name in self._value

    def _get(self, name: str, kind: type[_T]) -> _T:
        value = self._value.get(name)
        # bool is an int to Python, but not to JSON.
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            state = "missing" if name not in self._value else f"a {type(value).__name__}"
            raise EndorsementError(f"{self._path}.{name} is {state}, expected a {kind.__name__}")
        return value

    def integer(self, name: str, limit: int = 0x7FFFFFFF) -> int:
        """Return an integer from 0 to ``limit``."""
        value = self._get(name, int)
        if not 0 <= value <= limit:
            raise EndorsementError(f"{self._path}.{name} is out of range")
        return value

    def text(self, name: str) -> str:
        """Return a string."""
        return self._get(name, str)

    def one_of(self, name: str, allowed: Collection[str]) -> str:
        """Return a string out of ``allowed``."""
        value = self.text(name)
        if value not in allowed:
            raise EndorsementError(f"{self._path}.{name} is {value[:40]!r}, known are {sorted(allowed)}")
        return value

    def hex(self, name: str, size: int) -> bytes:
        """Return exactly ``size`` bytes written as hex."""
        value = self.text(name)
        try:
            octets = bytes.fromhex(value)
        except ValueError:
            octets = b""
        if len(value) != 2 * size or len(octets) != size:
            raise EndorsementError(f"{self._path}.{name} is not {size} bytes of hex")
        return octets

    def time(self, name: str) -> datetime:
        """Return a time written ``YYYY-MM-DDTHH:MM:SSZ``."""
        value = self.text(name)
        try:
            if _TIME.fullmatch(value):
                return datetime.fromisoformat(value)
        except ValueError:
            pass
        raise EndorsementError(f"{self._path}.{name} is not a time in UTC")

    def window(self, what: str) -> Window:
        """Return the time from ``issueDate`` to ``nextUpdate``."""
        window = Window(what, self.time("issueDate"), self.time("nextUpdate"))
        if window.end < window.start:
            raise EndorsementError(f"{self._path}.nextUpdate is before issueDate")
        return window

    def object(self, name: str) -> JsonObject:
        """Return a nested object."""
        return JsonObject(self._get(name, dict), f"{self._path}.{name}")

    def objects(self, name: str) -> list[JsonObject]:
        """Return a list of nested objects."""
        return [JsonObject(each, f"{self._path}.{name}[{n}]") for n, each in enumerate(self._get(name, list))]

    def svns(self, name: str) -> tuple[int, ...]:
        """Return the ``svn`` members of a list of objects, each from 0 to 255."""
        values = self._get(name, list)
        found: list[Any] = [each.get("svn") if type(each) is dict else None for each in values]
        # The type is compared and not the instance: a JSON true is no number.
        if not all(type(svn) is int and 0 <= svn <= 0xFF for svn in found):
            raise EndorsementError(f"{self._path}.{name} is not a list of SVNs from 0 to 255")
        return tuple(found)

    def labels(self, name: str, members: tuple[str, ...]) -> tuple[str, ...]:
        """Return what each object of a list says of itself in its ``members``, for a reader; nothing of it is decided upon."""
        return tuple(
            ", ".join(each[member] for member in members if isinstance(each.get(member), str))[:64]
            for each in self._get(name, list)
            if isinstance(each, dict)
        )

    def texts(self, name: str) -> tuple[str, ...]:
        """Return a list of strings; a missing one is empty."""
        if name not in self._value:
            return ()
        values = self._get(name, list)
        if not all(isinstance(each, str) and len(each) <= 64 for each in values):
            raise EndorsementError(f"{self._path}.{name} is not a list of short strings")
        return tuple(values)
