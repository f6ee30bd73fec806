# SPDX-License-Identifier: Apache-2.0
"""What a guest's TPM will measure when OVMF boots a kernel that QEMU hands over: PCRs 1 to 7 and 9. Pure.

The order of the events is that of a guest's event log (edk2's OVMF 2022.11, QEMU 7.2, Linux 6.1; ``make interop-vm``).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.eventlog.types import EventType
from eaa.tee.direct_boot import kernel_event
from eaa.tee.measured import Input, LaunchMeasurement, MeasuredEvent, measurement_of
from eaa.tee.uefi import (
    CALLING_BOOT_OPTION,
    SecureBoot,
    boot_menu_events,
    exit_events,
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

_PREDICTED: Final = (1, 2, 3, 4, 5, 6, 7, 9)
_WHY_NOT_0: Final = "the firmware's volume of PEI drivers as it lies in memory: OVMF writes what it finds of the machine into it, then measures it"


def measure_tpm(
    boot: DirectBoot,
    *,
    memory: int | None = None,
    secure_boot: SecureBoot = NO_KEYS,
    bank: str = BANKS[0],
) -> LaunchMeasurement:
    """Return what a TPM has after OVMF and Linux' EFI stub have run, of a machine without option ROMs and network boot.

    PCR 0 is not known in advance. PCR 8 and those from 10 on are left to what runs in the guest.

    :param memory: bytes; needed for PCR 4 where QEMU fills in the kernel's setup header.
    :raises InputError: when the kernel cannot be read.
    :raises ConfigurationError: when the parts do not go together.
    """
    platform = pcrs(bank)
    names = tuple(platform.registers[index] for index in _PREDICTED)
    return measurement_of({}, names, _events(platform, boot, memory, secure_boot), bank)


def _events(
    platform: Platform, boot: DirectBoot, memory: int | None, secure_boot: SecureBoot
) -> Iterator[MeasuredEvent]:
    kind = EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB
    yield platform.event(0, kind, _WHY_NOT_0, None, Input.FIRMWARE, b"")
    yield from secure_boot_events(platform, secure_boot)
    yield kernel_event(platform, boot, memory)
    yield from boot_menu_events(platform)
    yield platform.action(4, CALLING_BOOT_OPTION)
    for index in range(7):
        yield platform.separator(index)
    yield from stub_events(platform, load_options(boot.cmdline, boot.initrd), boot.initrd)
    yield from exit_events(platform)
