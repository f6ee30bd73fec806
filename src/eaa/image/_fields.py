# SPDX-License-Identifier: Apache-2.0
"""Members of the JSON objects of this package, read strictly."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error
from typing import TYPE_CHECKING, Any

from eaa.image.errors import ImageError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["bytes_of", "object_of", "text_of"]


def object_of(value: object, what: str) -> Mapping[str, Any]:
    """Return ``value`` when it is a JSON object.

    :raises ImageError: otherwise.
    """
    if not isinstance(value, dict):
        raise ImageError(f"{what} is not a JSON object")
    return value


def text_of(members: Mapping[str, Any], name: str, limit: int) -> str:
    """Return the member ``name`` when it is a string of at most ``limit`` characters.

    :raises ImageError: otherwise.
    """
    value = members.get(name)
    if not isinstance(value, str) or len(value) > limit:
        raise ImageError(f"{name} is not a string of at most {limit} characters")
    return value


def bytes_of(members: Mapping[str, Any], name: str, limit: int) -> bytes:
    """Return the bytes of the member ``name``: standard base64 as Go writes them, or an array of numbers as Rust does.

    :raises ImageError: when it is neither, or more than ``limit`` bytes.
    """
    value = members.get(name)
    try:
        data = b64decode(value, validate=True) if isinstance(value, str) else _octets(value)
    except (Error, ValueError):
        raise ImageError(f"{name} is neither base64 nor an array of bytes") from None
    if len(data) > limit:
        raise ImageError(f"{name} has {len(data)} bytes, at most {limit} are read")
    return data


def _octets(value: object) -> bytes:
    if not isinstance(value, list) or not all(type(each) is int for each in value):
        raise ValueError
    return bytes(value)
