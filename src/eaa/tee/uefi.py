# SPDX-License-Identifier: Apache-2.0
"""What UEFI firmware and the programs that it starts extend, whatever they extend it into: PCRs of a TPM or RTMRs of a TD. Pure.

TCG PC Client Platform Firmware Profile 1.06 (PFP), as edk2's OVMF and Linux' EFI stub follow it. UEFI 2.10, 38.4.1 says which RTMR stands for which PCR.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.eventlog.types import EventType
from eaa.eventlog.write import image_data, tagged_data, variable_data
from eaa.rats import ConfigurationError
from eaa.tee.measured import Input, MeasuredEvent

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "CALLING_BOOT_OPTION",
    "GLOBAL_VARIABLE",
    "IMAGE_SECURITY",
    "QEMU_KERNEL",
    "RTMRS",
    "Platform",
    "SecureBoot",
    "boot_menu_events",
    "exit_events",
    "file_path",
    "firmware_ends",
    "image_event",
    "load_options",
    "pcrs",
    "secure_boot_events",
    "stub_events",
]

GLOBAL_VARIABLE: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
CALLING_BOOT_OPTION: Final = "Calling EFI Application from Boot Option"

_SEPARATOR: Final = bytes(4)
_BOOT_ORDER: Final = struct.pack("<H", 0)
_UI_APP: Final = UUID("462caa21-7614-4503-836e-8ab6f4662331")
_DXE_VOLUME: Final = UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
_ACTIVE_HIDDEN_APP: Final = 0x109
_END_OF_PATH: Final = struct.pack("<BBH", 0x7F, 0xFF, 4)
_KERNEL_FILES: Final = UUID("1428f772-b64a-441e-b8c3-9ebdd7f893c7")
_LOAD_OPTIONS_TAG: Final = 0x8F3B22ED
_INITRD_TAG: Final = 0x8F3B22EC


@dataclass(frozen=True, slots=True)
class Platform:
    """What stands for the PCRs 0 to 15, by claim name, and the algorithm that is extended with."""

    registers: tuple[str, ...]
    algorithm: str

    def digest(self, content: bytes | memoryview | None) -> bytes | None:
        """Return what is extended for this content, if there is any."""
        return None if content is None else hashlib.new(self.algorithm, content).digest()

    def event(
        self,
        pcr: int,
        kind: EventType,
        what: str,
        content: bytes | memoryview | None,
        source: Input,
        data: bytes,
    ) -> MeasuredEvent:
        """Return the event that measures ``content``, and shows ``data``."""
        return MeasuredEvent(self.registers[pcr], kind, what, self.digest(content), source, data)

    def action(self, pcr: int, text: str) -> MeasuredEvent:
        """Return the event of an action, whose text is measured."""
        data = text.encode()
        return self.event(pcr, EventType.EV_EFI_ACTION, text, data, Input.CONSTANT, data)

    def separator(self, pcr: int, what: str = "end of the firmware") -> MeasuredEvent:
        """Return the event that ends the firmware's part of a register."""
        return self.event(pcr, EventType.EV_SEPARATOR, what, _SEPARATOR, Input.CONSTANT, _SEPARATOR)


RTMRS: Final = Platform(
    ("mr_td", "rtmr_0", *("rtmr_1",) * 5, "rtmr_0", *("rtmr_2",) * 8),
    "sha384",
)


def pcrs(bank: str) -> Platform:
    """Return the PCRs of a TPM's bank, named as claims and reference values name them."""
    prefix = "" if bank == "sha256" else f"{bank}_"
    return Platform(tuple(f"{prefix}pcr{index:02d}" for index in range(16)), bank)


@dataclass(frozen=True, slots=True)
class SecureBoot:
    """The variables that firmware measures as its Secure Boot policy; an empty one does not exist."""

    state: bytes = b""
    """SecureBoot: one byte 00 or 01; nothing where the firmware was built without Secure Boot."""
    pk: bytes = b""
    kek: bytes = b""
    db: bytes = b""
    dbx: bytes = b""

    @property
    def enabled(self) -> bool:
        """Whether images are verified."""
        return self.state == b"\1"


def secure_boot_events(platform: Platform, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    """Yield PCR 7 up to its separator (PFP 3.3.4.8)."""
    variables = (
        ("SecureBoot", GLOBAL_VARIABLE, policy.state),
        ("PK", GLOBAL_VARIABLE, policy.pk),
        ("KEK", GLOBAL_VARIABLE, policy.kek),
        ("db", IMAGE_SECURITY, policy.db),
        ("dbx", IMAGE_SECURITY, policy.dbx),
    )
    kind = EventType.EV_EFI_VARIABLE_DRIVER_CONFIG
    for name, guid, value in variables:
        data = variable_data(guid.bytes_le, name, value)
        what = name if value else f"{name}, empty"
        yield platform.event(7, kind, what, data, Input.SECURE_BOOT, data)
    yield platform.separator(7, "end of the Secure Boot policy")


def boot_menu_events(platform: Platform) -> Iterator[MeasuredEvent]:
    """Yield the boot options of an OVMF that has none but its own menu, which is so when it tries QEMU's kernel.

    edk2 measures the content of a boot variable, not its name.
    """
    options = (
        ("BootOrder", "BootOrder: Boot0000", _BOOT_ORDER),
        ("Boot0000", "Boot0000: the firmware's own menu", _boot_menu()),
    )
    kind = EventType.EV_EFI_VARIABLE_BOOT
    for name, what, content in options:
        data = variable_data(GLOBAL_VARIABLE.bytes_le, name, content)
        yield platform.event(1, kind, what, content, Input.BOOT_OPTIONS, data)


def _boot_menu() -> bytes:
    """Return EFI_LOAD_OPTION of UiApp (UEFI 3.1.3)."""
    volume = struct.pack("<BBH", 4, 7, 20) + _DXE_VOLUME.bytes_le
    file = struct.pack("<BBH", 4, 6, 20) + _UI_APP.bytes_le
    path = volume + file + _END_OF_PATH
    return struct.pack("<IH", _ACTIVE_HIDDEN_APP, len(path)) + "UiApp\0".encode("utf-16-le") + path


def firmware_ends(platform: Platform) -> Iterator[MeasuredEvent]:
    """Yield the separators of PCRs 0 to 6; of a TD's registers RTMR 1 has one (edk2, ``OvmfPkg/Tcg/TdTcg2Dxe``)."""
    if platform is RTMRS:
        yield platform.separator(4)
    else:
        yield from (platform.separator(index) for index in range(7))


def file_path(name: str) -> bytes:
    """Return the device path of a file, without its device (UEFI 10.3.5.4)."""
    encoded = f"{name}\0".encode("utf-16-le")
    return struct.pack("<BBH", 4, 4, 4 + len(encoded)) + encoded + _END_OF_PATH


QEMU_KERNEL: Final = struct.pack("<BBH", 4, 3, 20) + _KERNEL_FILES.bytes_le + file_path("kernel")
"""Where OVMF finds the kernel that QEMU boots directly."""


def image_event(
    platform: Platform, what: str, digest: bytes | None, size: int, path: bytes, source: Input
) -> MeasuredEvent:
    """Return PCR 4's event of a program that firmware loads; ``digest`` is its Authenticode digest (PFP 3.3.4.5)."""
    kind = EventType.EV_EFI_BOOT_SERVICES_APPLICATION
    return MeasuredEvent(platform.registers[4], kind, what, digest, source, image_data(path, size))


def load_options(cmdline: str, initrd: bytes) -> bytes:
    """Return the load options that OVMF gives to the kernel: the command line in UTF-16 with its NUL, ``initrd=initrd`` added.

    Source: edk2, ``OvmfPkg/Library/GenericQemuLoadImageLib``.

    :raises ConfigurationError: when the command line has a NUL or is no ASCII, for which OVMF defines nothing.
    """
    if not cmdline.isascii() or "\0" in cmdline:
        raise ConfigurationError(
            "the command line must be ASCII without NUL", hint="Give it as QEMU's -append has it."
        )
    text = cmdline + (" initrd=initrd" if initrd else "")
    return f"{text}\0".encode("utf-16-le") if text else b""


def stub_events(platform: Platform, options: bytes, initrd: bytes) -> Iterator[MeasuredEvent]:
    """Yield PCR 9 of Linux' EFI stub (``drivers/firmware/efi/libstub/efi-stub-helper.c``): nothing empty is measured."""
    kind = EventType.EV_EVENT_TAG
    if options:
        data = tagged_data(_LOAD_OPTIONS_TAG, b"LOADED_IMAGE::LoadOptions\0")
        what = "the command line (LOADED_IMAGE::LoadOptions)"
        yield platform.event(9, kind, what, options, Input.CMDLINE, data)
    if initrd:
        data = tagged_data(_INITRD_TAG, b"Linux initrd\0")
        yield platform.event(9, kind, "the initial RAM disk (Linux initrd)", initrd, Input.INITRD, data)


def exit_events(platform: Platform) -> Iterator[MeasuredEvent]:
    """Yield PCR 5's events of ExitBootServices (PFP 3.3.4.6)."""
    yield platform.action(5, "Exit Boot Services Invocation")
    yield platform.action(5, "Exit Boot Services Returned with Success")
