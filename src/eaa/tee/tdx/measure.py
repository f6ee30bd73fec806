# SPDX-License-Identifier: Apache-2.0
"""What a TD will measure to: MRTD from its firmware, RTMR 0 to 2 from what QEMU boots directly. Pure.

Nothing here is taken from a guest. What follows from the artefacts and the declared machine is computed; an event that does not has no
digest, the register that it goes into is left out, and :attr:`LaunchMeasurement.unknown` says why.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from enum import Enum
from hashlib import sha384
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.rats import ConfigurationError
from eaa.tee.ovmf import PAGE
from eaa.tee.pe import authenticode_digest
from eaa.tee.tdx.linux_boot import qemu_setup_header
from eaa.tee.tdx.td_hob import td_hob_list
from eaa.tee.tdx.tdvf import SectionType, Tdvf, parse_tdvf

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

__all__ = [
    "AcpiBlobs",
    "DirectBoot",
    "LaunchMeasurement",
    "MeasuredEvent",
    "PageOrder",
    "SetupHeader",
    "load_options",
    "measure_tdx",
    "mr_td",
    "replay",
]

_CHUNK: Final = 256
_RECORD: Final = struct.Struct("<16sQ104x")
_PAGE_ADD: Final = b"MEM.PAGE.ADD"
_EXTEND: Final = b"MR.EXTEND"
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


class PageOrder(Enum):
    """In which order a VMM adds and measures a section's pages; the TDX module hashes what comes, as it comes."""

    PAGE_BY_PAGE = "page-by-page"
    """Each page is added, then measured: KVM of Linux 6.16 and later."""

    SECTION_BY_SECTION = "section-by-section"
    """All pages of a section are added, then all are measured: the KVM that vendors shipped before."""


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


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """One extension of an RTMR, under the name that an event log would have for it; no ``digest`` where it cannot be known."""

    register: str
    type: str
    what: str
    digest: bytes | None


@dataclass(frozen=True, slots=True)
class LaunchMeasurement:
    """The registers that are known (48 bytes each, by claim name), the events behind them, and why others are not known."""

    registers: Mapping[str, bytes]
    events: tuple[MeasuredEvent, ...]
    unknown: tuple[str, ...]


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


def replay(digests: Iterable[bytes]) -> bytes:
    """Return the register that these 48-byte digests leave, extended in this order (TDX Module ABI, TDG.MR.RTMR.EXTEND)."""
    register = bytes(48)
    for digest in digests:
        register = sha384(register + digest).digest()
    return register


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


def measure_tdx(
    firmware: bytes,
    *,
    order: PageOrder = PageOrder.PAGE_BY_PAGE,
    boot: DirectBoot | None = None,
    memory: int | None = None,
    acpi: AcpiBlobs | None = None,
) -> LaunchMeasurement:
    """Return what a TD of QEMU's q35 with this firmware measures to.

    :param boot: what is booted directly; without it only MRTD is known.
    :param memory: bytes; needed for RTMR 0, and for RTMR 1 with QEMU before 10.2.
    :param acpi: the ACPI tables; needed for RTMR 0.
    :raises InputError: when the firmware or the kernel cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    tdvf = parse_tdvf(firmware)
    registers = {"mr_td": mr_td(tdvf, order)}
    if boot is None:
        if memory is not None or acpi is not None:
            raise ConfigurationError(
                "memory and ACPI tables say nothing without a kernel",
                hint="RTMR 0 is defined here for direct boot: give the kernel too.",
            )
        return LaunchMeasurement(
            registers, (), ("rtmr_0, rtmr_1 and rtmr_2: they depend on what is booted; give the kernel",)
        )
    events = (
        *_firmware_events(tdvf, memory, acpi),
        *_kernel_events(boot, memory),
        *_stub_events(boot),
    )
    unknown = []
    for name in ("rtmr_0", "rtmr_1", "rtmr_2"):
        digests = [event.digest for event in events if event.register == name]
        missing = [event.what for event in events if event.register == name and event.digest is None]
        if missing:
            unknown.append(f"{name}: not known without {', '.join(missing)}")
        else:
            registers[name] = replay(digest for digest in digests if digest is not None)
    return LaunchMeasurement(registers, events, tuple(unknown))


def _hashed(register: str, kind: str, what: str, content: bytes | memoryview | None) -> MeasuredEvent:
    return MeasuredEvent(register, kind, what, None if content is None else sha384(content).digest())


def _firmware_events(tdvf: Tdvf, memory: int | None, acpi: AcpiBlobs | None) -> Iterator[MeasuredEvent]:
    """Yield RTMR 0 of OVMF without Secure Boot keys, as edk2 up to stable release 202502 measures it."""
    hob = None if memory is None else td_hob_list(tdvf, memory)
    yield _hashed("rtmr_0", "EV_EFI_HANDOFF_TABLES2", "the TD HOB list, from the size of the memory", hob)
    variables = tdvf.content(tdvf.only(SectionType.CFV))
    yield _hashed(
        "rtmr_0", "EV_EFI_PLATFORM_FIRMWARE_BLOB2", "the firmware's variable store (CFV)", variables
    )
    for name, guid in _SECURE_BOOT:
        yield _hashed(
            "rtmr_0", "EV_EFI_VARIABLE_DRIVER_CONFIG", f"{name}, empty", _empty_variable(name, guid)
        )
    yield _hashed("rtmr_0", "EV_SEPARATOR", "end of the Secure Boot policy", _SEPARATOR)
    blobs = (None, None, None) if acpi is None else (acpi.loader, acpi.rsdp, acpi.tables)
    for what, content in zip(
        ("the ACPI table loader", "the ACPI root pointer", "the ACPI tables"), blobs, strict=True
    ):
        yield _hashed("rtmr_0", "EV_PLATFORM_CONFIG_FLAGS", what, content)
    yield _hashed("rtmr_0", "EV_EFI_VARIABLE_BOOT", "BootOrder: Boot0000", _BOOT_ORDER)
    yield _hashed("rtmr_0", "EV_EFI_VARIABLE_BOOT", "Boot0000: the firmware's own menu", _boot_menu())


def _kernel_events(boot: DirectBoot, memory: int | None) -> Iterator[MeasuredEvent]:
    """Yield RTMR 1 (edk2, ``OvmfPkg/Tcg/TdTcg2Dxe``: LoadImage, OnReadyToBoot, OnExitBootServices)."""
    digest, what = None, "the kernel"
    if boot.setup_header is SetupHeader.FILE:
        digest = authenticode_digest(boot.kernel)
    elif memory is None:
        what = "the kernel, from the size of the memory"
    else:
        rewritten = qemu_setup_header(boot.kernel, len(boot.initrd), memory, boot.cmdline)
        digest, what = authenticode_digest(rewritten), "the kernel, its setup header filled in by QEMU"
    yield MeasuredEvent("rtmr_1", "EV_EFI_BOOT_SERVICES_APPLICATION", what, digest)
    calling, leaving = b"Calling EFI Application from Boot Option", b"Exit Boot Services Invocation"
    yield _hashed("rtmr_1", "EV_EFI_ACTION", calling.decode(), calling)
    yield _hashed("rtmr_1", "EV_SEPARATOR", "end of the firmware", _SEPARATOR)
    yield _hashed("rtmr_1", "EV_EFI_ACTION", leaving.decode(), leaving)
    left = b"Exit Boot Services Returned with Success"
    yield _hashed("rtmr_1", "EV_EFI_ACTION", left.decode(), left)


def _stub_events(boot: DirectBoot) -> Iterator[MeasuredEvent]:
    """Yield RTMR 2 (Linux, ``drivers/firmware/efi/libstub/efi-stub-helper.c``: nothing empty is measured)."""
    options = load_options(boot)
    if options:
        yield _hashed("rtmr_2", "EV_EVENT_TAG", "the command line (LOADED_IMAGE::LoadOptions)", options)
    if boot.initrd:
        yield _hashed("rtmr_2", "EV_EVENT_TAG", "the initial RAM disk (Linux initrd)", boot.initrd)


def _empty_variable(name: str, guid: UUID) -> bytes:
    """Return UEFI_VARIABLE_DATA of a variable without content (TCG PC Client PFP, 10.2.6)."""
    return guid.bytes_le + struct.pack("<QQ", len(name), 0) + name.encode("utf-16-le")


def _boot_menu() -> bytes:
    """Return EFI_LOAD_OPTION of UiApp, the one boot option that OVMF has before it tries QEMU's kernel (UEFI 3.1.3)."""
    volume = struct.pack("<BBH", 4, 7, 20) + _DXE_VOLUME.bytes_le
    file = struct.pack("<BBH", 4, 6, 20) + _UI_APP.bytes_le
    path = volume + file + struct.pack("<BBH", 0x7F, 0xFF, 4)
    return struct.pack("<IH", _ACTIVE_HIDDEN_APP, len(path)) + "UiApp\0".encode("utf-16-le") + path
