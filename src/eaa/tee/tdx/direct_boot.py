# SPDX-License-Identifier: Apache-2.0
"""What a TD's OVMF and Linux extend into RTMR 0 to 2 when QEMU boots a kernel directly, or firmware a UKI from a disk. Pure.

The order is that of the event logs of real TDs; RTMR 0 is as edk2 up to stable release 202502 measures it, without Secure Boot keys.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.eventlog.types import EventType
from eaa.rats import InputError
from eaa.tee.direct_boot import DirectBoot, SetupHeader, kernel_event
from eaa.tee.efi_boot import UkiBoot, uki_events
from eaa.tee.measured import Input
from eaa.tee.tdx.td_hob import td_hob_list
from eaa.tee.tdx.tdvf import SectionType
from eaa.tee.uefi import (
    CALLING_BOOT_OPTION,
    RTMRS,
    SecureBoot,
    boot_menu_events,
    exit_events,
    firmware_ends,
    load_options,
    secure_boot_events,
    stub_events,
)
from eaa.tee.variables import has_boot_options, secure_boot_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.measured import MeasuredEvent
    from eaa.tee.tdx.acpi import AcpiBlobs
    from eaa.tee.tdx.tdvf import Tdvf

__all__ = ["DirectBoot", "SetupHeader", "direct_boot_events", "uki_boot_events"]

_TD_TABLE: Final = UUID("93bb96af-b9f2-4eb8-9462-e0ba74564236")


def direct_boot_events(
    tdvf: Tdvf, boot: DirectBoot, memory: int | None, acpi: AcpiBlobs | None
) -> Iterator[MeasuredEvent]:
    """Yield the events of RTMR 0 to 2 in the order in which they happen; those that cannot be known have no digest.

    :raises InputError: when the firmware or the kernel cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    yield from _memory_and_store(tdvf, memory)
    yield from _policy(tdvf)
    yield from _acpi(acpi)
    yield kernel_event(RTMRS, boot, memory)
    yield from boot_menu_events(RTMRS)
    yield RTMRS.action(4, CALLING_BOOT_OPTION)
    yield from firmware_ends(RTMRS)
    yield from stub_events(RTMRS, load_options(boot.cmdline, boot.initrd), boot.initrd)
    yield from exit_events(RTMRS)


def uki_boot_events(
    tdvf: Tdvf, boot: UkiBoot, memory: int | None, acpi: AcpiBlobs | None
) -> Iterator[MeasuredEvent]:
    """Yield the events of a TD that boots a unified kernel image from a disk; what boot options there are is not known, and RTMR 0 with it.

    :raises InputError: when the firmware or the image cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    yield from _memory_and_store(tdvf, memory)
    yield from _policy(tdvf)
    yield from _acpi(acpi)
    what = "the boot options that firmware makes of the disks and network cards it finds"
    yield RTMRS.event(1, EventType.EV_EFI_VARIABLE_BOOT, what, None, Input.BOOT_OPTIONS, b"")
    yield from uki_events(RTMRS, boot, _kept(tdvf)[0])


def _memory_and_store(tdvf: Tdvf, memory: int | None) -> Iterator[MeasuredEvent]:
    hob = None if memory is None else td_hob_list(tdvf, memory)
    data = b"\x09TdxTable\0" + struct.pack("<Q", 1) + _TD_TABLE.bytes_le + bytes(8)
    kind, what = EventType.EV_EFI_HANDOFF_TABLES2, "the TD HOB list, from the size of the memory"
    yield RTMRS.event(1, kind, what, hob, Input.MEMORY, data)
    section = tdvf.only(SectionType.CFV)
    data = b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0" + struct.pack(
        "<QQ", section.address, section.size
    )
    kind, what = EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, "the firmware's variable store (CFV)"
    yield RTMRS.event(1, kind, what, tdvf.content(section), Input.FIRMWARE, data)


def _policy(tdvf: Tdvf) -> Iterator[MeasuredEvent]:
    """Yield the Secure Boot variables of a firmware without keys; whether one with keys was built with Secure Boot at all is not known."""
    policy, options = _kept(tdvf)
    yield from secure_boot_events(RTMRS, SecureBoot())
    if policy != SecureBoot() or options:
        what = "what firmware makes of the keys and boot options in its variable store"
        yield RTMRS.event(7, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, what, None, Input.SECURE_BOOT, b"")


def _kept(tdvf: Tdvf) -> tuple[SecureBoot, bool]:
    """Return the Secure Boot policy and whether there are boot options in the firmware's own variable store, where there is one."""
    store = bytes(tdvf.content(tdvf.only(SectionType.CFV)))
    try:
        policy, options = secure_boot_of(store), has_boot_options(store)
    except InputError:
        return SecureBoot(), False
    return (policy if policy.pk or policy.kek or policy.db or policy.dbx else SecureBoot()), options


def _acpi(acpi: AcpiBlobs | None) -> Iterator[MeasuredEvent]:
    blobs = (None, None, None) if acpi is None else (acpi.loader, acpi.rsdp, acpi.tables)
    names = ("the ACPI table loader", "the ACPI root pointer", "the ACPI tables")
    kind = EventType.EV_PLATFORM_CONFIG_FLAGS
    for what, content in zip(names, blobs, strict=True):
        yield RTMRS.event(1, kind, what, content, Input.ACPI, b"ACPI DATA")
