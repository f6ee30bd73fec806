# SPDX-License-Identifier: Apache-2.0
"""CBOR (RFC 8949) from peers that are not trusted: one reading of each document, in time linear in its length."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import cbor2

if TYPE_CHECKING:
    from eaa.rats import InputError

__all__ = ["MAX_DEPTH", "parse_cbor", "write_cbor"]

MAX_DEPTH: Final = 32
"""Arrays, maps and tags inside each other; CoRIM goes beyond a dozen nowhere."""
_LENGTHS: Final = {24: 1, 25: 2, 26: 4, 27: 8}
_UINT, _NINT, _BYTES, _TEXT, _ARRAY, _MAP, _TAG, _SIMPLE = range(8)
_FALSE, _UNDEFINED = 20, 23
_REFUSED_TAGS: Final = frozenset(
    {0, 2, 3, 4, 5, 25, 28, 29, 30, 35, 36, 100, 256, 258, 260, 261, 1004, 43000, 55799}
)
"""Tags that the decoder would turn into something else than a tag: numbers without bound, references, patterns, sets. No format of ours
has them; 1 (time) and 37 (UUID) are left, and so are the addresses."""


def parse_cbor(data: bytes, limit: int, *, error: type[InputError]) -> Any:
    """Return the value that ``data``, at most ``limit`` bytes, holds; arrays within tags are tuples, maps frozen.

    Refused besides malformed CBOR: what follows the value, indefinite lengths, a key twice in one map or one that is neither number, text
    nor bytes, nesting deeper than :data:`MAX_DEPTH`, and the tags of which no format of ours knows.

    :raises InputError: of the class ``error``; the message never repeats the input.
    """
    if len(data) > limit:
        raise error(f"CBOR of {len(data)} bytes, at most {limit} are read", hint="Send a smaller document.")
    reason = _scan(data)
    if reason:
        raise error(f"not CBOR that is read here: {reason}")
    try:
        return cbor2.loads(data, max_depth=2 * MAX_DEPTH, allow_indefinite=False, allow_duplicate_keys=False)
    except cbor2.CBORDecodeError as malformed:
        raise error(f"not CBOR: {str(malformed.__cause__ or malformed).splitlines()[0][:200]}") from None


def write_cbor(value: Any) -> bytes:
    """Return a value in deterministic CBOR (RFC 8949, section 4.2): the same value gives the same bytes."""
    return cbor2.dumps(value, canonical=True)


def _scan(data: bytes) -> str:
    """Return why the bytes are refused, or nothing; hash tables are made of keys only afterwards."""
    position = 0
    levels = [(_TAG, 1)]  # what encloses the next value, and how many values it still holds
    while levels:
        kind, left = levels.pop()
        if not left:
            continue
        levels.append((kind, left - 1))
        if position >= len(data):
            return "it ends early"
        major, info = data[position] >> 5, data[position] & 0x1F
        size = _LENGTHS.get(info, 0)
        number = int.from_bytes(data[position + 1 : position + 1 + size]) if size else info
        position += 1 + size
        if info > max(_LENGTHS) or position > len(data):
            return "an indefinite length, or it ends early"
        if kind == _MAP and left % 2 == 0 and major > _TEXT:
            return "a key is neither a number, text nor bytes"
        if major in {_BYTES, _TEXT}:
            position += number
        elif major in {_ARRAY, _MAP, _TAG}:
            if major == _TAG and number in _REFUSED_TAGS:
                return f"the tag {number}"
            held = 1 if major == _TAG else number * (2 if major == _MAP else 1)
            if held > len(data) - position or len(levels) > MAX_DEPTH:
                return f"it ends early, or is nested deeper than {MAX_DEPTH}"
            levels.append((major, held))
        elif major == _SIMPLE and not (_FALSE <= number <= _UNDEFINED or info > min(_LENGTHS)):
            return "a simple value without a meaning"
    return "" if position == len(data) else "it ends early, or something follows it"
