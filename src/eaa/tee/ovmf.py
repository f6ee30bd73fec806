# SPDX-License-Identifier: Apache-2.0
"""The table of GUIDs that OVMF keeps below its reset vector.

The table ends 32 bytes before the end of the image and is read backwards: each entry is its content, then the entry's whole length
(u16, little-endian), then its GUID. The last entry, the footer, holds the length of the whole table.
(edk2, ``OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm``.)
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_FIRMWARE", "PAGE", "guided_table", "u32_of"]

PAGE: Final = 4096
"""Bytes of the pages that firmware is loaded and measured in."""

MAX_FIRMWARE: Final = 64 << 20
"""Bytes; OVMF has 2 or 4 MiB, and the flash window of a PC ends well below this."""

_FOOTER: Final = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
_AFTER_TABLE: Final = 32
_ENTRY: Final = struct.Struct("<H16s")
_HINT: Final = (
    "Give the firmware image as the VMM loads it, such as OVMF.fd: neither the variable store nor an archive."
)


def guided_table(firmware: bytes) -> Mapping[UUID, bytes]:
    """Return the content of each entry of the table, by its GUID.

    :raises InputError: when the image is too small or too large, has no table, or one that does not hold together.
    """
    if not PAGE <= len(firmware) <= MAX_FIRMWARE:
        raise InputError(
            f"a firmware image has {PAGE} to {MAX_FIRMWARE} bytes, not {len(firmware)}", hint=_HINT
        )
    end = len(firmware) - _AFTER_TABLE - _ENTRY.size
    length, guid = _ENTRY.unpack_from(firmware, end)
    if guid != _FOOTER.bytes_le:
        raise InputError("the firmware image has no OVMF table of GUIDs at its end", hint=_HINT)
    start = end + _ENTRY.size - length
    if length < _ENTRY.size or start < 0:
        raise InputError(f"the OVMF table claims {length} bytes, which cannot be", hint=_HINT)

    table: dict[UUID, bytes] = {}
    while end > start:
        header = end - _ENTRY.size
        if header < start:
            raise InputError("the OVMF table ends within an entry", hint=_HINT)
        length, guid = _ENTRY.unpack_from(firmware, header)
        if not _ENTRY.size <= length <= end - start:
            raise InputError(f"an entry of the OVMF table claims {length} bytes, which cannot be", hint=_HINT)
        if UUID(bytes_le=guid) in table:
            raise InputError("an entry of the OVMF table is there twice", hint=_HINT)
        table[UUID(bytes_le=guid)] = firmware[end - length : header]
        end -= length
    return table


def u32_of(table: Mapping[UUID, bytes], guid: UUID) -> int | None:
    """Return the little-endian u32 that an entry of the table starts with, or nothing where there is no such entry.

    :raises InputError: when the entry is too short for one.
    """
    content = table.get(guid)
    if content is None:
        return None
    if len(content) < 4:
        raise InputError(
            f"the entry {guid} of the OVMF table has {len(content)} bytes, at least 4 are expected",
            hint=_HINT,
        )
    return int.from_bytes(content[:4], "little")
