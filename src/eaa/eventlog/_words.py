# SPDX-License-Identifier: Apache-2.0
"""Text out of bytes that nobody vouches for: readable, on one line, of bounded length."""

from __future__ import annotations

from typing import Final

__all__ = ["hex_of", "printable", "quoted", "text_of"]

_MAX_TEXT: Final = 2000
_MAX_HEX: Final = 32
_BLANKS: Final = str.maketrans("\t\n\v\f\r", "     ")


def text_of(data: bytes) -> str:
    """Return the text that ``data`` is up to its NUL, in UTF-8 or little-endian UTF-16, or an empty string when it is none."""
    if len(data) >= 4 and data[1] == 0 and data[3] == 0 and data[0]:
        text = data[: 2 * _MAX_TEXT].decode("utf-16-le", "replace").partition("\0")[0]
        return text if _is_text(text) else ""
    raw = data[: 4 * _MAX_TEXT].partition(b"\0")[0]
    try:
        text = raw.decode()
    except UnicodeDecodeError:
        if len(data) <= 4 * _MAX_TEXT:
            return ""
        text = raw.decode(errors="ignore")  # a character may be cut in two
    return text if _is_text(text) else ""


def hex_of(data: bytes) -> str:
    """Return the first bytes in hex, and how many there are."""
    if len(data) <= _MAX_HEX:
        return data.hex()
    return f"{data[:_MAX_HEX].hex()}… ({len(data)} bytes)"


def quoted(text: str) -> str:
    """Put text between quotation marks."""
    return f'"{text}"'


def printable(text: str) -> str:
    """Return text on one line, without control characters: a log may try to write to the reader's terminal."""
    if len(text) > _MAX_TEXT:
        text = f"{text[:_MAX_TEXT]}…"
    if text.isprintable():
        return text
    text = text.translate(_BLANKS)
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else "\ufffd" for each in text)


def _is_text(text: str) -> bool:
    return text.isprintable() or text.translate(_BLANKS).isprintable()
