# SPDX-License-Identifier: Apache-2.0
"""What QEMU makes of a kernel that it boots directly, before the guest's firmware measures it.

QEMU before 10.2 fills in the setup header of the kernel as a boot loader does, for a TD too (``x86_load_linux`` in
``hw/i386/x86-common.c``); from 10.2 on it leaves the kernel of a confidential guest as it is. Fields of the header:
``Documentation/arch/x86/boot.rst`` of Linux.
"""

from __future__ import annotations

import struct
from typing import Final

from eaa.rats import ConfigurationError, InputError
from eaa.tee.ovmf import PAGE
from eaa.tee.q35 import low_memory

__all__ = ["qemu_setup_header"]

_MIN_KERNEL: Final = 0x1000
_MAGIC: Final = b"HdrS"
_VERSION_OFFSET: Final = 0x206
_MIN_VERSION: Final = 0x20C
_LOADED_HIGH: Final = 0x01
_CAN_USE_HEAP: Final = 0x80
_ABOVE_4G: Final = 1 << 1
_LOADER_QEMU: Final = 0xB0
_REAL_MODE: Final = 0x10000
_CMDLINE: Final = 0x20000
_HEAP_END: Final = _CMDLINE - _REAL_MODE - 0x200
# QEMU keeps this much of low memory for the ACPI tables of a PC (hw/i386/pc.c, acpi_data_size).
_ACPI_DATA: Final = 0x20000 + 0x8000
_HINT: Final = "Give the bzImage (vmlinuz) that QEMU gets with -kernel."


def qemu_setup_header(kernel: bytes, initrd_size: int, memory: int, cmdline: str) -> bytes:
    """Return ``kernel`` with its setup header filled in as QEMU before 10.2 does.

    :param initrd_size: bytes of the initial RAM disk, 0 if there is none.
    :param memory: bytes of the TD's memory; below 4 GiB they decide on where the initial RAM disk goes.
    :raises InputError: when the kernel is no bzImage of boot protocol 2.12 or later (Linux 3.8), loaded high.
    :raises ConfigurationError: when the initial RAM disk does not fit, or the command line has ``vga=``, which QEMU takes for itself.
    """
    if len(kernel) < _MIN_KERNEL or kernel[0x202:0x206] != _MAGIC:
        raise InputError("this is no Linux bzImage: it has no setup header", hint=_HINT)
    (version,) = struct.unpack_from("<H", kernel, _VERSION_OFFSET)
    if version < _MIN_VERSION or not kernel[0x211] & _LOADED_HIGH:
        raise InputError(f"the kernel's boot protocol {version:#x} is too old", hint=_HINT)
    if "vga=" in cmdline:
        raise ConfigurationError(
            "with vga= on the command line QEMU changes the kernel's header further",
            hint="Leave vga= out, or use QEMU 10.2 or later.",
        )
    header = bytearray(kernel)
    header[0x210] = _LOADER_QEMU
    header[0x211] |= _CAN_USE_HEAP
    struct.pack_into("<H", header, 0x224, _HEAP_END)
    struct.pack_into("<I", header, 0x228, _CMDLINE)
    if initrd_size:
        struct.pack_into("<II", header, 0x218, _initrd_address(kernel, initrd_size, memory), initrd_size)
    return bytes(header)


def _initrd_address(kernel: bytes, size: int, memory: int) -> int:
    flags = int.from_bytes(kernel[0x236:0x238], "little")
    highest = 0xFFFF_FFFF if flags & _ABOVE_4G else int.from_bytes(kernel[0x22C:0x230], "little")
    highest = min(highest, low_memory(memory) - _ACPI_DATA - 1)
    if size >= highest:
        raise ConfigurationError(
            f"an initial RAM disk of {size} bytes does not fit into {memory} bytes of memory",
            hint="Give the TD more memory.",
        )
    return (highest - size) & ~(PAGE - 1)
