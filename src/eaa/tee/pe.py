# SPDX-License-Identifier: Apache-2.0
"""The Authenticode digest of a PE image, which is what firmware measures of each program that it loads; its sections and signatures.

Microsoft's "Windows Authenticode Portable Executable Signature Format", "Calculating the PE image hash"; in the one point
where implementations differ, trailing bytes that no section covers, as edk2 does (``MeasureBootPeCoff.c``): they are hashed up to the
certificates and never padded.
"""

from __future__ import annotations

import hashlib
import re
import struct
from typing import Final, NamedTuple

from eaa.rats import InputError

__all__ = ["Section", "authenticode_digest", "certificates", "sections"]

_PE32: Final = 0x10B
_PE32_PLUS: Final = 0x20B
_CHECKSUM: Final = 64
_SIZE_OF_HEADERS: Final = 60
_DIRECTORIES: Final = {_PE32: 96, _PE32_PLUS: 112}
_SECURITY: Final = 4
_MAX_SECTIONS: Final = 256
_MAX_ZEROS: Final = 1 << 20
_PKCS7: Final = 2
_SYMBOL: Final = 18
_MAX_NAME: Final = 64
_HINT: Final = "Give the kernel as it is booted: an EFI-stub bzImage (vmlinuz), not vmlinux and not a compressed copy of it."


class Section(NamedTuple):
    """A section as it lies in memory: its name without NULs, and its content, with zeros where the file has less."""

    name: str
    content: bytes


def sections(image: bytes) -> tuple[Section, ...]:
    """Return the sections of a PE image in the order of its table.

    :raises InputError: when the image is no PE image, or is cut off.
    """
    try:
        _, table, count = _headers(image)
        found = [struct.unpack_from("<8sI4xII", image, table + 40 * index) for index in range(count)]
    except struct.error:
        raise InputError("the PE image is cut off within its headers", hint=_HINT) from None
    if sum(min(size, virtual) for _, virtual, size, _ in found) > len(image):
        raise InputError("the sections of the PE image overlap", hint=_HINT)
    for _, virtual, size, offset in found:
        if offset + min(size, virtual) > len(image):
            raise InputError("a section of the PE image runs over its end; is the file cut off?", hint=_HINT)
        if virtual > size + _MAX_ZEROS:
            raise InputError(
                "a section of the PE image claims far more memory than it has content", hint=_HINT
            )
    return tuple(
        Section(
            _name(image, name.rstrip(b"\0")),
            image[offset : offset + min(size, virtual)].ljust(virtual, b"\0"),
        )
        for name, virtual, size, offset in found
    )


def _name(image: bytes, name: bytes) -> str:
    """Return the name of a section, which may be a place in the table of strings that follows the symbols ("Section Table" of the PE format)."""
    if re.fullmatch(rb"/[0-9]{1,7}", name):
        (pe,) = struct.unpack_from("<I", image, 0x3C)
        symbols, count = struct.unpack_from("<II", image, pe + 12)
        at = symbols + count * _SYMBOL + int(name[1:])
        long, end, _ = image[at : at + _MAX_NAME].partition(b"\0")
        name = long if symbols and end else name
    return name.decode("ascii", "replace")


def certificates(image: bytes) -> tuple[bytes, ...]:
    """Return the PKCS #7 signatures of a PE image in their order (Microsoft's format, "WIN_CERTIFICATE").

    :raises InputError: when the image is no PE image, is cut off, or has a table of certificates that does not hold together.
    """
    try:
        optional, _, _ = _headers(image)
        directories = optional + _DIRECTORIES[struct.unpack_from("<H", image, optional)[0]]
        (count,) = struct.unpack_from("<I", image, directories - 4)
        at, size = (
            struct.unpack_from("<II", image, directories + 8 * _SECURITY) if count > _SECURITY else (0, 0)
        )
        end, found = at + size, []
        while at < end:
            length, _, kind = struct.unpack_from("<IHH", image, at)
            if length < 8 or at + length > min(end, len(image)):
                raise InputError("the certificates of the PE image do not hold together", hint=_HINT)
            if kind == _PKCS7:
                found.append(image[at + 8 : at + length])
            at += length + 7 & ~7
    except struct.error:
        raise InputError("the PE image is cut off within its headers", hint=_HINT) from None
    return tuple(found)


def _headers(image: bytes) -> tuple[int, int, int]:
    """Return where the optional header and the table of sections are, and how many sections there are."""
    if image[:2] != b"MZ":
        raise InputError("this is no PE image: it does not start with 'MZ'", hint=_HINT)
    (pe,) = struct.unpack_from("<I", image, 0x3C)
    signature, count, optional_size = struct.unpack_from("<4s2xH12xH", image, pe)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", image, optional)
    if signature != b"PE\0\0" or magic not in _DIRECTORIES:
        raise InputError("this is no PE image: its headers are not those of one", hint=_HINT)
    if count > _MAX_SECTIONS:
        raise InputError(f"the PE image claims {count} sections", hint=_HINT)
    return optional, optional + optional_size, count


def authenticode_digest(image: bytes, algorithm: str = "sha384") -> bytes:
    """Return the Authenticode digest of a PE image.

    :param algorithm: as hashlib calls it; RTMRs take ``sha384``.
    :raises InputError: when the image is no PE image, or is cut off.
    """
    try:
        return _digest(image, algorithm)
    except struct.error:
        raise InputError("the PE image is cut off within its headers", hint=_HINT) from None


def _digest(image: bytes, algorithm: str) -> bytes:
    optional, table, count = _headers(image)
    (magic,) = struct.unpack_from("<H", image, optional)
    (headers,) = struct.unpack_from("<I", image, optional + _SIZE_OF_HEADERS)
    directories = optional + _DIRECTORIES[magic]
    (listed,) = struct.unpack_from("<I", image, directories - 4)
    checksum = optional + _CHECKSUM
    skipped, signed = checksum + 4, 0
    view, digest = memoryview(image), hashlib.new(algorithm)
    digest.update(view[:checksum])
    if listed > _SECURITY:
        entry = directories + 8 * _SECURITY
        (signed,) = struct.unpack_from("<I", image, entry + 4)
        digest.update(view[skipped:entry])
        skipped = entry + 8
    if not skipped <= headers <= len(image):
        raise InputError(f"the PE image claims {headers} bytes of headers, which cannot be", hint=_HINT)
    digest.update(view[skipped:headers])

    covered = headers
    parts = [struct.unpack_from("<II", image, table + 40 * index + 16) for index in range(count)]
    for size, offset in sorted((part for part in parts if part[0]), key=lambda part: part[1]):
        if offset + size > len(image):
            raise InputError("a section of the PE image runs over its end; is the file cut off?", hint=_HINT)
        digest.update(view[offset : offset + size])
        covered += size
        if covered > len(image):
            raise InputError("the sections of the PE image overlap", hint=_HINT)
    end = len(image) - signed
    if end < covered:
        raise InputError("the certificates of the PE image run into its sections", hint=_HINT)
    digest.update(view[covered:end])
    return digest.digest()
