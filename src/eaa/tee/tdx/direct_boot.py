# SPDX-License-Identifier: Apache-2.0
"""What a TD's OVMF and Linux extend into RTMR 0 to 2 when QEMU boots a kernel directly. Pure.

The order is that of the event logs of real TDs; RTMR 0 is as edk2 up to stable release 202502 measures it, without Secure Boot keys.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha384
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.eventlog.types import EventType
from eaa.eventlog.write import image_data, tagged_data, variable_data
from eaa.rats import ConfigurationError
from eaa.tee.measured import Input, MeasuredEvent
from eaa.tee.pe import authenticode_digest
from eaa.tee.tdx.linux_boot import qemu_setup_header
from eaa.tee.tdx.td_hob import td_hob_list
from eaa.tee.tdx.tdvf import SectionType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.tdx.tdvf import Tdvf

__all__ = ["AcpiBlobs", "DirectBoot", "SetupHeader", "direct_boot_events", "load_options"]

_SEPARATOR: Final = bytes(4)
_GLOBAL: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
_IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
_SECURE_BOOT: Final = (
    ("SecureBoot", _GLOBAL),
    ("PK", _GLOBAL),
    ("KEK", _GLOBAL),
    ("db", _IMAGE_SECURITY),
    ("dbx", _IMAGE_SECURITY),
)
_BOOT_ORDER: Final = struct.pack("<H", 0)
_UI_APP: Final = UUID("462caa21-7614-4503-836e-8ab6f4662331")
_DXE_VOLUME: Final = UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
_ACTIVE_HIDDEN_APP: Final = 0x109
_TD_TABLE: Final = UUID("93bb96af-b9f2-4eb8-9462-e0ba74564236")
_KERNEL_FILES: Final = UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")
_END_OF_PATH: Final = struct.pack("<BBH", 0x7F, 0xFF, 4)
_LOAD_OPTIONS_TAG: Final = 0x8F3B22ED
_INITRD_TAG: Final = 0x8F3B22EC


class SetupHeader(Enum):
    """Whose setup header the measured kernel has."""

    FILE = "file"
    """The file's: QEMU 10.2 and later."""

    QEMU = "qemu"
    """The one that QEMU before 10.2 fills in."""


@dataclass(frozen=True, slots=True)
class AcpiBlobs:
    """The tables that QEMU hands to firmware through fw_cfg: ``etc/table-loader``, ``etc/acpi/rsdp``, ``etc/acpi/tables``.

    They come from the owner's own run of the same QEMU with the same machine, never from the guest that is to be judged.
    """

    loader: bytes = field(repr=False)
    rsdp: bytes = field(repr=False)
    tables: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """What QEMU gets with ``-kernel``, ``-initrd`` and ``-append``."""

    kernel: bytes = field(repr=False)
    initrd: bytes = field(default=b"", repr=False)
    cmdline: str = ""
    setup_header: SetupHeader = SetupHeader.FILE


def load_options(boot: DirectBoot) -> bytes:
    """Return the load options that OVMF gives to the kernel: the command line in UTF-16 with its NUL, ``initrd=initrd`` added.

    Source: edk2, ``OvmfPkg/Library/GenericQemuLoadImageLib``.

    :raises ConfigurationError: when the command line has a NUL or is no ASCII, for which OVMF defines nothing.
    """
    if not boot.cmdline.isascii() or "\0" in boot.cmdline:
        raise ConfigurationError(
            "the command line must be ASCII without NUL", hint="Give it as QEMU's -append has it."
        )
    text = boot.cmdline + (" initrd=initrd" if boot.initrd else "")
    return f"{text}\0".encode("utf-16-le") if text else b""


def direct_boot_events(
    tdvf: Tdvf, boot: DirectBoot, memory: int | None, acpi: AcpiBlobs | None
) -> Iterator[MeasuredEvent]:
    """Yield the events of RTMR 0 to 2 in the order in which they happen; those that cannot be known have no digest.

    :raises InputError: when the firmware or the kernel cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    yield from _memory_and_store(tdvf, memory)
    yield from _secure_boot()
    yield from _acpi(acpi)
    yield _kernel(boot, memory)
    yield from _boot_options()
    yield _action("Calling EFI Application from Boot Option")
    yield _separator("rtmr_1", "end of the firmware")
    yield from _stub(boot)
    yield _action("Exit Boot Services Invocation")
    yield _action("Exit Boot Services Returned with Success")


def _digest(content: bytes | memoryview | None) -> bytes | None:
    return None if content is None else sha384(content).digest()


def _action(text: str) -> MeasuredEvent:
    """Return an action of RTMR 1 (edk2, ``OvmfPkg/Tcg/TdTcg2Dxe``: OnReadyToBoot, OnExitBootServices)."""
    data = text.encode()
    return MeasuredEvent("rtmr_1", EventType.EV_EFI_ACTION, text, _digest(data), Input.CONSTANT, data)


def _separator(register: str, what: str) -> MeasuredEvent:
    kind = EventType.EV_SEPARATOR
    return MeasuredEvent(register, kind, what, _digest(_SEPARATOR), Input.CONSTANT, _SEPARATOR)


def _memory_and_store(tdvf: Tdvf, memory: int | None) -> Iterator[MeasuredEvent]:
    hob = None if memory is None else td_hob_list(tdvf, memory)
    data = b"\x09TdxTable\0" + struct.pack("<Q", 1) + _TD_TABLE.bytes_le + bytes(8)
    kind, what = EventType.EV_EFI_HANDOFF_TABLES2, "the TD HOB list, from the size of the memory"
    yield MeasuredEvent("rtmr_0", kind, what, _digest(hob), Input.MEMORY, data)
    section = tdvf.only(SectionType.CFV)
    data = b"\x29Fv(XXXXXXXX-XXXX-XXXX-XXXX-XXXXXXXXXXXX)\0" + struct.pack(
        "<QQ", section.address, section.size
    )
    kind, what = EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2, "the firmware's variable store (CFV)"
    yield MeasuredEvent("rtmr_0", kind, what, _digest(tdvf.content(section)), Input.FIRMWARE, data)


def _secure_boot() -> Iterator[MeasuredEvent]:
    kind = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
    for name, guid in _SECURE_BOOT:
        data = variable_data(guid.bytes_le, name, b"")
        yield MeasuredEvent("rtmr_0", kind, f"{name}, empty", _digest(data), Input.SECURE_BOOT, data)
    yield _separator("rtmr_0", "end of the Secure Boot policy")


def _acpi(acpi: AcpiBlobs | None) -> Iterator[MeasuredEvent]:
    blobs = (None, None, None) if acpi is None else (acpi.loader, acpi.rsdp, acpi.tables)
    names = ("the ACPI table loader", "the ACPI root pointer", "the ACPI tables")
    kind = EventType.EV_PLATFORM_CONFIG_FLAGS
    for what, content in zip(names, blobs, strict=True):
        yield MeasuredEvent("rtmr_0", kind, what, _digest(content), Input.ACPI, b"ACPI DATA")


def _boot_options() -> Iterator[MeasuredEvent]:
    options = (
        ("BootOrder", "BootOrder: Boot0000", _BOOT_ORDER),
        ("Boot0000", "Boot0000: the firmware's own menu", _boot_menu()),
    )
    for name, what, content in options:
        data = variable_data(_GLOBAL.bytes_le, name, content)
        kind = EventType.EV_EFI_VARIABLE_BOOT
        yield MeasuredEvent("rtmr_0", kind, what, _digest(content), Input.BOOT_OPTIONS, data)


def _kernel(boot: DirectBoot, memory: int | None) -> MeasuredEvent:
    digest, what = None, "the kernel"
    if boot.setup_header is SetupHeader.FILE:
        digest = authenticode_digest(boot.kernel)
    elif memory is None:
        what = "the kernel, from the size of the memory"
    else:
        rewritten = qemu_setup_header(boot.kernel, len(boot.initrd), memory, boot.cmdline)
        digest, what = authenticode_digest(rewritten), "the kernel, its setup header filled in by QEMU"
    volume = struct.pack("<BBH", 4, 3, 20) + _KERNEL_FILES.bytes_le
    file = "kernel\0".encode("utf-16-le")
    path = volume + struct.pack("<BBH", 4, 4, 4 + len(file)) + file + _END_OF_PATH
    kind = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    return MeasuredEvent("rtmr_1", kind, what, digest, Input.KERNEL, image_data(path, len(boot.kernel)))


def _stub(boot: DirectBoot) -> Iterator[MeasuredEvent]:
    """Yield RTMR 2 (Linux, ``drivers/firmware/efi/libstub/efi-stub-helper.c``: nothing empty is measured)."""
    options, kind = load_options(boot), EventType.EV_EVENT_TAG
    if options:
        data = tagged_data(_LOAD_OPTIONS_TAG, b"LOADED_IMAGE::LoadOptions\0")
        what = "the command line (LOADED_IMAGE::LoadOptions)"
        yield MeasuredEvent("rtmr_2", kind, what, _digest(options), Input.CMDLINE, data)
    if boot.initrd:
        data = tagged_data(_INITRD_TAG, b"Linux initrd\0")
        what = "the initial RAM disk (Linux initrd)"
        yield MeasuredEvent("rtmr_2", kind, what, _digest(boot.initrd), Input.INITRD, data)


def _boot_menu() -> bytes:
    """Return EFI_LOAD_OPTION of UiApp, the one boot option that OVMF has before it tries QEMU's kernel (UEFI 3.1.3)."""
    volume = struct.pack("<BBH", 4, 7, 20) + _DXE_VOLUME.bytes_le
    file = struct.pack("<BBH", 4, 6, 20) + _UI_APP.bytes_le
    path = volume + file + _END_OF_PATH
    return struct.pack("<IH", _ACTIVE_HIDDEN_APP, len(path)) + "UiApp\0".encode("utf-16-le") + path
