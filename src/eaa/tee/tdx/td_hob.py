# SPDX-License-Identifier: Apache-2.0
"""The TD HOB list: how QEMU tells a TD's firmware which memory it has.

QEMU, ``hw/i386/tdvf-hob.c``: a hand-off table, then one resource descriptor per range of memory in the order of addresses (system memory
where TDVF sections were added, unaccepted memory elsewhere), then the end (UEFI PI, volume 3). OVMF measures all but the end.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.tee.ovmf import PAGE
from eaa.tee.q35 import low_memory
from eaa.tee.tdx.tdvf import SectionType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.tdx.tdvf import Tdvf

__all__ = ["MAX_MEMORY", "td_hob_list"]

MAX_MEMORY: Final = 1 << 46
"""Bytes."""

_HANDOFF: Final = struct.Struct("<HHIIIQQQQQ")
_RESOURCE: Final = struct.Struct("<HHI16sIIQQ")
_END_SIZE: Final = 8
_HANDOFF_TYPE: Final = 1
_HANDOFF_VERSION: Final = 9
_RESOURCE_TYPE: Final = 3
_SYSTEM_MEMORY: Final = 0
_UNACCEPTED: Final = 7
_PRESENT_INITIALIZED_TESTED: Final = 7
_FOUR_GIB: Final = 1 << 32
_ADDED: Final = (SectionType.TD_HOB, SectionType.TEMP_MEM)


def td_hob_list(tdvf: Tdvf, memory: int) -> bytes:
    """Return the bytes that OVMF measures of the TD HOB list, for a q35 machine of QEMU with ``memory`` bytes.

    :raises ConfigurationError: when the memory is not whole pages, too large, or too small for the firmware's sections.
    :raises InputError: when the firmware has not one TD_HOB section.
    """
    if memory % PAGE or not 0 < memory <= MAX_MEMORY:
        raise ConfigurationError(
            f"{memory} bytes of memory: whole pages of {PAGE} bytes up to {MAX_MEMORY} are expected",
            hint="Give the memory of the TD as QEMU's -m has it, such as 2G.",
        )
    ranges = [*_low_ranges(tdvf, low_memory(memory))]
    if memory > low_memory(memory):
        ranges.append((_UNACCEPTED, _FOUR_GIB, memory - low_memory(memory)))
    base = tdvf.only(SectionType.TD_HOB).address
    end = base + _HANDOFF.size + len(ranges) * _RESOURCE.size + _END_SIZE
    handoff = _HANDOFF.pack(_HANDOFF_TYPE, _HANDOFF.size, 0, _HANDOFF_VERSION, 0, 0, 0, 0, 0, end)
    return handoff + b"".join(
        _RESOURCE.pack(
            _RESOURCE_TYPE, _RESOURCE.size, 0, b"", kind, _PRESENT_INITIALIZED_TESTED, start, length
        )
        for kind, start, length in ranges
    )


def _low_ranges(tdvf: Tdvf, low: int) -> Iterator[tuple[int, int, int]]:
    position = 0
    for section in sorted(tdvf.sections, key=lambda each: each.address):
        if section.type not in _ADDED or not section.size:
            continue
        if section.address < position or section.address + section.size > low:
            raise ConfigurationError(
                f"the firmware's {section.type.name} section at {section.address:#x} overlaps another or lies beyond {low} bytes of memory",
                hint="Give the TD more memory, or check the firmware.",
            )
        if section.address > position:
            yield _UNACCEPTED, position, section.address - position
        yield _SYSTEM_MEMORY, section.address, section.size
        position = section.address + section.size
    if low > position:
        yield _UNACCEPTED, position, low - position
