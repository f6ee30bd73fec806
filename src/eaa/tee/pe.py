# SPDX-License-Identifier: Apache-2.0
"""The Authenticode digest of a PE image: what firmware measures of each program that it loads.

Microsoft's "Windows Authenticode Portable Executable Signature Format", "Calculating the PE image hash"; in the one point
where implementations differ, trailing bytes that no section covers, as edk2 does (``MeasureBootPeCoff.c``): they are hashed up to the
certificates and never padded.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from eaa.rats import InputError

__all__ = ["authenticode_digest"]

_PE32: Final = 0x10B
_PE32_PLUS: Final = 0x20B
_CHECKSUM: Final = 64
_SIZE_OF_HEADERS: Final = 60
_DIRECTORIES: Final = {_PE32: 96, _PE32_PLUS: 112}
_SECURITY: Final = 4
_MAX_SECTIONS: Final = 256
_HINT: Final = "Give the kernel as it is booted: an EFI-stub bzImage (vmlinuz), not vmlinux and not a compressed copy of it."


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
    if image[:2] != b"MZ":
        raise InputError("this is no PE image: it does not start with 'MZ'", hint=_HINT)
    (pe,) = struct.unpack_from("<I", image, 0x3C)
    signature, sections, optional_size = struct.unpack_from("<4s2xH12xH", image, pe)
    optional = pe + 24
    (magic,) = struct.unpack_from("<H", image, optional)
    if signature != b"PE\0\0" or magic not in _DIRECTORIES:
        raise InputError("this is no PE image: its headers are not those of one", hint=_HINT)
    if sections > _MAX_SECTIONS:
        raise InputError(f"the PE image claims {sections} sections", hint=_HINT)

    (headers,) = struct.unpack_from("<I", image, optional + _SIZE_OF_HEADERS)
    directories = optional + _DIRECTORIES[magic]
    (count,) = struct.unpack_from("<I", image, directories - 4)
    checksum = optional + _CHECKSUM
    skipped, certificates = checksum + 4, 0
    view, digest = memoryview(image), hashlib.new(algorithm)
    digest.update(view[:checksum])
    if count > _SECURITY:
        entry = directories + 8 * _SECURITY
        (certificates,) = struct.unpack_from("<I", image, entry + 4)
        digest.update(view[skipped:entry])
        skipped = entry + 8
    if not skipped <= headers <= len(image):
        raise InputError(f"the PE image claims {headers} bytes of headers, which cannot be", hint=_HINT)
    digest.update(view[skipped:headers])

    covered = headers
    table = optional + optional_size
    parts = [struct.unpack_from("<II", image, table + 40 * index + 16) for index in range(sections)]
    for size, offset in sorted((part for part in parts if part[0]), key=lambda part: part[1]):
        if offset + size > len(image):
            raise InputError("a section of the PE image runs over its end; is the file cut off?", hint=_HINT)
        digest.update(view[offset : offset + size])
        covered += size
        if covered > len(image):
            raise InputError("the sections of the PE image overlap", hint=_HINT)
    end = len(image) - certificates
    if end < covered:
        raise InputError("the certificates of the PE image run into its sections", hint=_HINT)
    digest.update(view[covered:end])
    return digest.digest()
