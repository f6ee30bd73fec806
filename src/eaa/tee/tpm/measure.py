# SPDX-License-Identifier: Apache-2.0
"""What a guest's TPM will measure when OVMF boots a kernel that QEMU hands over, or from a disk a unified kernel image, or a kernel through shim and GRUB. Pure.

The order of the events is that of guests' event logs (edk2's OVMF 2022.11, QEMU 7.2, Linux 6.1; ``make interop-vm``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.eventlog.types import EventType
from eaa.rats import ConfigurationError
from eaa.tee.direct_boot import kernel_event
from eaa.tee.efi_boot import UkiBoot, uki_events
from eaa.tee.grub_boot import GrubBoot, grub_events
from eaa.tee.measured import Input, LaunchMeasurement, MeasuredEvent, measurement_of
from eaa.tee.uefi import (
    CALLING_BOOT_OPTION,
    SecureBoot,
    boot_menu_events,
    exit_events,
    firmware_ends,
    load_options,
    pcrs,
    secure_boot_events,
    stub_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from eaa.tee.direct_boot import DirectBoot
    from eaa.tee.uefi import Platform

__all__ = ["BANKS", "NO_KEYS", "measure_tpm"]

BANKS: Final = ("sha256", "sha384")
"""The banks whose PCRs can be computed; claims name the second one's ``sha384_pcr04``."""

NO_KEYS: Final = SecureBoot(state=b"\0")
"""A firmware with Secure Boot that has no keys, as of a variable store that nobody has written to."""

_DIRECT: Final = (1, 2, 3, 4, 5, 6, 7, 9)
_UKI: Final = (2, 3, 4, 5, 6, 7, 9, 11)
_GRUB: Final = (2, 3, 4, 5, 6, 7, 8, 9, 14)
_WHY_NOT_0: Final = "the firmware's volume of PEI drivers as it lies in memory: OVMF writes what it finds of the machine into it, then measures it"


_WHY_NOT_1: Final = "the boot options that firmware has in its variable store, or makes of the disks and network cards it finds"


def measure_tpm(
    boot: DirectBoot | UkiBoot | GrubBoot,
    *,
    memory: int | None = None,
    secure_boot: SecureBoot = NO_KEYS,
    own_menu: bool = True,
    bank: str = BANKS[0],
) -> LaunchMeasurement:
    """Return what a TPM has once the kernel's EFI stub has run, of a machine without option ROMs and network boot.

    PCR 0 is not known in advance. PCR 8 and those from 10 on are left to what runs in the guest, but 11 of a UKI, 8 and 14 of shim and GRUB.

    :param memory: bytes; needed for PCR 4 of a direct boot where QEMU fills in the kernel's setup header.
    :param secure_boot: of a direct boot, one that is not enabled: firmware measures which key allows the kernel, and QEMU's change breaks its signature.
    :param own_menu: whether the firmware's menu is its only boot option; PCR 1 of a direct boot is not known otherwise.
    :raises InputError: when the kernel or the image cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    platform = pcrs(bank)
    numbers: tuple[int, ...]
    if isinstance(boot, UkiBoot):
        numbers, events = _UKI, _of_uki(platform, boot, secure_boot)
    elif isinstance(boot, GrubBoot):
        numbers, events = _GRUB, _of_grub(platform, boot, secure_boot)
    elif secure_boot.enabled:
        raise ConfigurationError(
            "a kernel that QEMU hands over is not computed for a firmware with Secure Boot enabled",
            hint="Give a variable store without a platform key, or boot a unified kernel image.",
        )
    else:
        numbers, events = _DIRECT, _of_direct_boot(platform, boot, memory, secure_boot, own_menu=own_menu)
    names = tuple(platform.registers[number] for number in numbers)
    return measurement_of({}, names, (_firmware(platform), *events), bank)


def _firmware(platform: Platform) -> MeasuredEvent:
    kind = EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB
    return platform.event(0, kind, _WHY_NOT_0, None, Input.FIRMWARE, b"")


def _boot_options(platform: Platform) -> MeasuredEvent:
    kind = EventType.EV_EFI_VARIABLE_BOOT
    return platform.event(1, kind, _WHY_NOT_1, None, Input.BOOT_OPTIONS, b"")


def _of_direct_boot(
    platform: Platform, boot: DirectBoot, memory: int | None, policy: SecureBoot, *, own_menu: bool
) -> Iterator[MeasuredEvent]:
    yield from secure_boot_events(platform, policy)
    yield kernel_event(platform, boot, memory)
    if own_menu:
        yield from boot_menu_events(platform)
    else:
        yield _boot_options(platform)
    yield platform.action(4, CALLING_BOOT_OPTION)
    yield from firmware_ends(platform)
    yield from stub_events(platform, load_options(boot.cmdline, boot.initrd), boot.initrd)
    yield from exit_events(platform)


def _of_uki(platform: Platform, boot: UkiBoot, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    yield from secure_boot_events(platform, policy)
    yield _boot_options(platform)
    yield from uki_events(platform, boot, policy)


def _of_grub(platform: Platform, boot: GrubBoot, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    yield from secure_boot_events(platform, policy)
    yield _boot_options(platform)
    yield from grub_events(platform, boot, policy)
