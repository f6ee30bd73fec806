# SPDX-License-Identifier: Apache-2.0
"""The little of DER that pyca does not hand out: where the signed part and the names of a certificate or list lie.

pyca re-encodes a list to return its signed part, which costs more than the signature; here the bytes are cut out as they came.
"""

from __future__ import annotations

from typing import Final

__all__ = ["children", "common_name", "content", "dotted", "sequence"]

_SEQUENCE: Final = 0x30
_SET: Final = 0x31
_IDENTIFIER: Final = 0x06
_COMMON_NAME: Final = b"\x06\x03\x55\x04\x03"
_LONG: Final = 0x80
_MAX_LENGTH_BYTES: Final = 4


def children(der: bytes, limit: int = 16, *, tag: int = _SEQUENCE) -> list[bytes]:
    """Return the first ``limit`` elements of the SEQUENCE that ``der`` is, each with its header, as they stand.

    :raises ValueError: when ``der`` is not one SEQUENCE that ends where the bytes end, or an element is cut off.
    """
    size = len(der)
    at, end = _content(der, 0, size)
    if der[0] != tag or end != size:
        raise ValueError("not the one DER element that was expected")
    elements: list[bytes] = []
    while at < end and len(elements) < limit:
        # Short elements, which most are, need no call.
        after = end + 1 if at + 2 > end or der[at + 1] >= _LONG else at + 2 + der[at + 1]
        if after > end:
            _, after = _content(der, at, end)
        elements.append(der[at:after])
        at = after
    return elements


def content(element: bytes, tag: int) -> bytes:
    """Return what is inside ``element``, which is one DER element of this tag.

    :raises ValueError: when it is not.
    """
    at, end = _content(element, 0, len(element))
    if element[0] != tag or end != len(element):
        raise ValueError("not the one DER element that was expected")
    return element[at:]


def dotted(identifier: bytes) -> str:
    """Return an OBJECT IDENTIFIER, given as its DER element, with numbers and dots.

    :raises ValueError: when it is none.
    """
    numbers, number = [], 0
    for byte in content(identifier, _IDENTIFIER):
        number = number << 7 | byte & ~_LONG
        if byte < _LONG:
            numbers.append(number)
            number = 0
    first = min(numbers[0] // 40, 2) if numbers else 0
    return ".".join(str(each) for each in (first, *(numbers[:1] and [numbers[0] - 40 * first]), *numbers[1:]))


def common_name(name: bytes) -> str:
    """Return the first common name in a DER ``Name`` (RFC 5280, 4.1.2.4), or an empty string.

    :raises ValueError: when it is no such name, or not text.
    """
    for relative in children(name):
        if _COMMON_NAME not in relative:
            continue
        for attribute in children(relative, tag=_SET):
            kind, value = children(attribute)
            if kind == _COMMON_NAME:
                start, end = _content(value, 0, len(value))
                return value[start:end].decode("utf-8")
    return ""


def _content(der: bytes, at: int, end: int) -> tuple[int, int]:
    """Return where the content of the element at ``at`` begins and ends."""
    start = at + 2
    if start > end:
        raise ValueError("an element is cut off")
    length = der[at + 1]
    if length >= _LONG:
        first, start = start, start + length - _LONG
        if not first < start <= first + _MAX_LENGTH_BYTES or start > end:
            raise ValueError("a length is malformed")
        length = int.from_bytes(der[first:start], "big")
    if start + length > end:
        raise ValueError("an element is cut off")
    return start, start + length


def sequence(content: bytes) -> bytes:
    """Put the header of a SEQUENCE before ``content``."""
    size = len(content)
    if size < _LONG:
        return bytes((_SEQUENCE, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((_SEQUENCE, _LONG | len(length))) + length + content
