# SPDX-License-Identifier: Apache-2.0
"""What a TD will measure to: MRTD from its firmware, RTMR 0 to 2 from what QEMU boots directly. Pure.

Nothing here is taken from a guest. What follows from the artefacts and the declared machine is computed; an event that does not has no
digest, the register that it goes into is left out, and :attr:`.LaunchMeasurement.unknown` says why.
"""

from __future__ import annotations

import struct
from enum import Enum
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.tee.efi_boot import UkiBoot
from eaa.tee.measured import Input, LaunchMeasurement, MeasuredEvent, measurement_of
from eaa.tee.ovmf import PAGE
from eaa.tee.tdx.direct_boot import direct_boot_events, uki_boot_events
from eaa.tee.tdx.tdvf import parse_tdvf

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.tdx.acpi import AcpiBlobs
    from eaa.tee.tdx.direct_boot import DirectBoot
    from eaa.tee.tdx.tdvf import Tdvf

__all__ = ["PageOrder", "measure_tdx", "mr_td"]

_LOGGED: Final = ("rtmr_0", "rtmr_1", "rtmr_2")
_CHUNK: Final = 256
_RECORD: Final = struct.Struct("<16sQ104x")
_PAGE_ADD: Final = b"MEM.PAGE.ADD"
_EXTEND: Final = b"MR.EXTEND"


class PageOrder(Enum):
    """In which order a VMM adds and measures a section's pages; the TDX module hashes what comes, as it comes."""

    PAGE_BY_PAGE = "page-by-page"
    """Each page is added, then measured: KVM of Linux 6.16 and later."""

    SECTION_BY_SECTION = "section-by-section"
    """All pages of a section are added, then all are measured: the KVM that vendors shipped before."""


def mr_td(tdvf: Tdvf, order: PageOrder = PageOrder.PAGE_BY_PAGE) -> bytes:
    """Return MRTD of a TD made of this firmware.

    TDX Module ABI: TDH.MEM.PAGE.ADD hashes a 128-byte record with the page's guest physical address; TDH.MR.EXTEND one for each 256
    bytes, and those bytes. Which pages, in the order of the metadata: QEMU's ``tdx_finalize_vm``.
    """
    digest = sha384()
    for section in tdvf.sections:
        if not section.added:
            continue
        content = tdvf.content(section)
        pages = range(0, section.size, PAGE)
        if not section.extended:
            digest.update(b"".join(_RECORD.pack(_PAGE_ADD, section.address + page) for page in pages))
        elif order is PageOrder.PAGE_BY_PAGE:
            for page in pages:
                digest.update(_RECORD.pack(_PAGE_ADD, section.address + page))
                digest.update(b"".join(_extensions(section.address, content, page)))
        else:
            digest.update(b"".join(_RECORD.pack(_PAGE_ADD, section.address + page) for page in pages))
            for page in pages:
                digest.update(b"".join(_extensions(section.address, content, page)))
    return digest.digest()


def _extensions(address: int, content: memoryview, page: int) -> Iterator[bytes | memoryview]:
    for offset in range(page, page + PAGE, _CHUNK):
        yield _RECORD.pack(_EXTEND, address + offset)
        yield content[offset : offset + _CHUNK]


def measure_tdx(
    firmware: bytes,
    *,
    order: PageOrder = PageOrder.PAGE_BY_PAGE,
    boot: DirectBoot | UkiBoot | None = None,
    memory: int | None = None,
    acpi: AcpiBlobs | None = None,
) -> LaunchMeasurement:
    """Return what a TD of QEMU's q35 with this firmware measures to.

    :param boot: what is booted, directly or from a disk; without it only MRTD is known.
    :param memory: bytes; needed for RTMR 0, and for RTMR 1 with QEMU before 10.2.
    :param acpi: the ACPI tables; needed for RTMR 0.
    :raises InputError: when the firmware or the kernel cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    tdvf = parse_tdvf(firmware)
    measured = mr_td(tdvf, order)
    of_firmware = MeasuredEvent("mr_td", None, "the firmware's measured sections", measured, Input.FIRMWARE)
    if boot is not None:
        if isinstance(boot, UkiBoot):
            events = uki_boot_events(tdvf, boot, memory, acpi)
        else:
            events = direct_boot_events(tdvf, boot, memory, acpi)
        return measurement_of({"mr_td": measured}, _LOGGED, (of_firmware, *events))
    if memory is not None or acpi is not None:
        raise ConfigurationError(
            "memory and ACPI tables say nothing without a kernel",
            hint="RTMR 0 is defined here for direct boot: give the kernel too.",
        )
    unknown = "rtmr_0, rtmr_1 and rtmr_2: they depend on what is booted; give the kernel"
    return LaunchMeasurement({"mr_td": measured}, (of_firmware,), (unknown,))
