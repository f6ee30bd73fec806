# SPDX-License-Identifier: Apache-2.0
"""TDVF metadata: what a firmware image tells the VMM to load into a new TD, where, and whether to measure it.

"Intel TDX Virtual Firmware Design Guide", section 11; found through OVMF's table of GUIDs, as QEMU does (``hw/i386/tdvf.c``).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Final
from uuid import UUID

from eaa.rats import InputError
from eaa.tee.ovmf import PAGE, guided_table, u32_of

__all__ = ["ATTR_MR_EXTEND", "ATTR_PAGE_AUG", "Section", "SectionType", "Tdvf", "parse_tdvf"]

ATTR_MR_EXTEND: Final = 1 << 0
"""The section's content is measured with TDH.MR.EXTEND."""

ATTR_PAGE_AUG: Final = 1 << 1
"""The section's pages come later, with TDH.MEM.PAGE.AUG, and no record of them is measured."""

_GUID: Final = UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
_HEADER: Final = struct.Struct("<4sIII")
_SECTION: Final = struct.Struct("<IIQQII")
_VERSION: Final = 1
_MAX_SECTIONS: Final = 64
_MAX_ADDED: Final = 256 << 20
_ADDRESSES: Final = 1 << 52
_HINT: Final = "Use a firmware built for TDX: Debian's is OVMF.fd of the package ovmf, edk2's is the IntelTdx or OvmfPkgX64 platform."


class SectionType(IntEnum):
    """What a section is for."""

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6


_FROM_IMAGE: Final = (SectionType.BFV, SectionType.CFV)
_EMPTY: Final = (SectionType.TD_HOB, SectionType.TEMP_MEM)


@dataclass(frozen=True, slots=True)
class Section:
    """One section: ``data_size`` bytes at ``data_offset`` of the image, loaded to ``size`` bytes of guest memory at ``address``."""

    type: SectionType
    data_offset: int
    data_size: int
    address: int
    size: int
    attributes: int

    @property
    def added(self) -> bool:
        """Whether the VMM adds the pages before the TD runs, which is measured."""
        return not self.attributes & ATTR_PAGE_AUG

    @property
    def extended(self) -> bool:
        """Whether the content is measured too."""
        return bool(self.attributes & ATTR_MR_EXTEND)


@dataclass(frozen=True, slots=True)
class Tdvf:
    """A firmware image and its sections, in the order of the metadata, which is the order of measurement."""

    image: bytes = field(repr=False)
    sections: tuple[Section, ...]

    def content(self, section: Section) -> memoryview:
        """Return the bytes of the image that ``section`` is loaded from."""
        return memoryview(self.image)[section.data_offset : section.data_offset + section.data_size]

    def only(self, kind: SectionType) -> Section:
        """Return the one section of this type.

        :raises InputError: when there is none or more than one.
        """
        found = [section for section in self.sections if section.type is kind]
        if len(found) != 1:
            raise InputError(f"the firmware has {len(found)} {kind.name} sections, not one", hint=_HINT)
        return found[0]


def parse_tdvf(image: bytes) -> Tdvf:
    """Read the TDVF metadata of a firmware image.

    :raises InputError: when there is none, or it does not hold together or says what no VMM would load.
    """
    from_end = u32_of(guided_table(image), _GUID)
    if from_end is None:
        raise InputError(
            "the firmware has no TDVF metadata: it was not built for TDX, and its MRTD is not defined",
            hint=_HINT,
        )
    offset = len(image) - from_end
    if not 0 <= offset <= len(image) - _HEADER.size:
        raise InputError("the TDVF metadata lie outside of the firmware image", hint=_HINT)
    signature, length, version, count = _HEADER.unpack_from(image, offset)
    if signature != b"TDVF" or version != _VERSION:
        raise InputError(
            f"the TDVF metadata start with {signature.hex()} version {version}, not with 'TDVF' version {_VERSION}",
            hint=_HINT,
        )
    if not 1 <= count <= _MAX_SECTIONS or length != _HEADER.size + count * _SECTION.size:
        raise InputError(
            f"the TDVF metadata claim {count} sections in {length} bytes, which cannot be", hint=_HINT
        )
    if offset + length > len(image):
        raise InputError("the TDVF metadata run over the end of the firmware image", hint=_HINT)
    sections = tuple(
        _section(index, _SECTION.unpack_from(image, offset + _HEADER.size + index * _SECTION.size), image)
        for index in range(count)
    )
    if sum(section.size for section in sections if section.added) > _MAX_ADDED:
        raise InputError(f"the TDVF sections add more than {_MAX_ADDED} bytes of memory", hint=_HINT)
    return Tdvf(image, sections)


def _section(index: int, fields: tuple[int, ...], image: bytes) -> Section:
    data_offset, data_size, address, size, kind, attributes = fields
    try:
        section = Section(SectionType(kind), data_offset, data_size, address, size, attributes)
    except ValueError:
        raise InputError(f"TDVF section {index} has the unknown type {kind}", hint=_HINT) from None
    if reason := _fault(section, len(image)):
        raise InputError(f"TDVF section {index} ({section.type.name}): {reason}", hint=_HINT)
    return section


def _fault(section: Section, image_size: int) -> str:
    """Return what is wrong with a section, or nothing. The rules are QEMU's, and that measured content must be known."""
    if section.attributes & ~(ATTR_MR_EXTEND | ATTR_PAGE_AUG):
        return f"unknown attributes {section.attributes:#x}"
    if section.address % PAGE or section.size % PAGE:
        return "its memory is not whole pages"
    if section.address + section.size > _ADDRESSES:
        return "its memory lies beyond what a TD can address"
    if section.data_offset + section.data_size > image_size:
        return "its content runs over the end of the firmware image; is the file cut off?"
    if section.data_size > section.size:
        return "its content is larger than its memory"
    if section.type in _FROM_IMAGE and not section.data_size:
        return "it has no content"
    if section.type in _EMPTY and section.data_size:
        return "it has content, though it must be empty memory"
    if section.extended and not section.added:
        return "it is to be measured but not added"
    if section.extended and section.data_size != section.size:
        return "it is measured beyond its content, and VMMs differ in what stands there"
    return ""
