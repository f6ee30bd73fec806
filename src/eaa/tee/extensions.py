# SPDX-License-Identifier: Apache-2.0
"""The extensions of certificates and revocation lists, taken out of their DER as they stand.

pyca makes an object of every extension and of every part of its value, and nearly all of that is never looked at. What is looked at is
whether a critical one is not understood, and the two that make a CA (RFC 5280, sections 4.2.1.3 and 4.2.1.9).
"""

from __future__ import annotations

from typing import Final, NamedTuple

from eaa.tee.der import children, content

__all__ = [
    "BASIC_CONSTRAINTS",
    "KEY_USAGE",
    "KNOWN_CRITICAL",
    "OF_CERTIFICATE",
    "OF_LIST",
    "Extension",
    "read_basic_constraints",
    "read_extensions",
    "signs_certificates",
]

BASIC_CONSTRAINTS: Final = bytes.fromhex("0603551d13")
KEY_USAGE: Final = bytes.fromhex("0603551d0f")
KNOWN_CRITICAL: Final = frozenset({BASIC_CONSTRAINTS, KEY_USAGE})
"""The extensions that are understood here, by their identifiers in DER."""
OF_CERTIFICATE: Final = 0xA3
OF_LIST: Final = 0xA0
"""How the place of the extensions is marked in a certificate and in a list."""

_INTEGER, _BIT_STRING, _OCTET_STRING = 0x02, 0x03, 0x04
_TRUE: Final = bytes.fromhex("0101ff")
_LONG: Final = 0x80
_MAX_EXTENSIONS: Final = 32
_KEY_CERT_SIGN: Final = 0x04
"""Bit 5 of the first byte of a key usage, counted from the left."""


class Extension(NamedTuple):
    """An extension of a certificate or list; ``octets`` is the OCTET STRING around its value."""

    critical: bool
    octets: bytes

    @property
    def value(self) -> bytes:
        """The extension's value in DER."""
        return content(self.octets, _OCTET_STRING)


def read_extensions(element: bytes, tag: int) -> dict[bytes, Extension]:
    """Return the extensions of a certificate or list that pyca has read, and so found well-formed, by their identifiers in DER.

    ``element`` is where they may stand, marked as such by ``tag``.

    :raises ValueError: when there are too many, or one is there twice.
    :raises IndexError: when one was not well-formed.
    """
    if element[0] != tag:
        return {}
    entries = children(children(element, tag=tag)[0], _MAX_EXTENSIONS + 1)
    found = {}
    for entry in entries:
        start = 2 if entry[1] < _LONG else 2 + entry[1] - _LONG
        end = start + 2 + entry[start + 1]
        critical = entry.startswith(_TRUE, end)
        found[entry[start:end]] = Extension(critical, entry[end + 3 :] if critical else entry[end:])
    if len(found) != len(entries) or len(found) > _MAX_EXTENSIONS:
        raise ValueError("an extension is there twice, or there are too many")
    return found


def read_basic_constraints(extension: Extension) -> tuple[bool, int | None]:
    """Return whether they mark a CA, and its path length (RFC 5280, 4.2.1.9).

    :raises ValueError: when they are malformed.
    """
    ca, length = ([*children(extension.value), b"", b""])[:2]
    if (ca and ca != _TRUE) or length.startswith(_TRUE):
        raise ValueError("basic constraints are malformed")
    return bool(ca), int.from_bytes(content(length, _INTEGER), "big") if length else None


def signs_certificates(usage: Extension) -> bool:
    """Whether a key usage lets the key sign certificates.

    :raises ValueError: when it is malformed.
    """
    bits = content(usage.value, _BIT_STRING)
    if len(bits) < 2:
        raise ValueError("a key usage is malformed")
    return bool(bits[1] & _KEY_CERT_SIGN)
