# SPDX-License-Identifier: Apache-2.0
"""Base64url without padding (RFC 7515 §2), exactly one spelling per value."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from binascii import Error

from eaa.rats import ProtocolError

__all__ = ["b64url", "from_b64url"]


def b64url(data: bytes) -> str:
    """Return ``data`` in base64url without padding."""
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def from_b64url(text: object, what: str) -> bytes:
    """Return the bytes that ``text`` spells.

    :raises ProtocolError: unless ``text`` is the one spelling that :func:`b64url` would give; ``what`` names it for the reader.
    """
    if not isinstance(text, str):
        raise ProtocolError(f"{what} is not a string")
    try:
        data = urlsafe_b64decode(text.encode("ascii") + b"=" * (-len(text) % 4))
    except (Error, ValueError):
        raise ProtocolError(f"{what} is not base64url") from None
    if b64url(data) != text:
        raise ProtocolError(f"{what} is not base64url without padding")
    return data
