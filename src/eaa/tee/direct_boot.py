# SPDX-License-Identifier: Apache-2.0
"""A kernel that QEMU boots directly, and the event with which OVMF measures it. Pure."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING

from eaa.tee.linux_boot import qemu_setup_header
from eaa.tee.measured import Input
from eaa.tee.pe import authenticode_digest
from eaa.tee.uefi import QEMU_KERNEL, image_event

if TYPE_CHECKING:
    from eaa.tee.measured import MeasuredEvent
    from eaa.tee.uefi import Platform

__all__ = ["DirectBoot", "SetupHeader", "kernel_event"]


class SetupHeader(Enum):
    """Whose setup header the measured kernel has."""

    FILE = "file"
    """The file's: QEMU 10.2 and later."""

    QEMU = "qemu"
    """The one that QEMU before 10.2 fills in."""


@dataclass(frozen=True, slots=True)
class DirectBoot:
    """What QEMU gets with ``-kernel``, ``-initrd`` and ``-append``."""

    kernel: bytes = field(repr=False)
    initrd: bytes = field(default=b"", repr=False)
    cmdline: str = ""
    setup_header: SetupHeader = SetupHeader.FILE


def kernel_event(platform: Platform, boot: DirectBoot, memory: int | None) -> MeasuredEvent:
    """Return PCR 4's event of the kernel; it has no digest where QEMU fills in the setup header and the ``memory`` is not known.

    :raises InputError: when the kernel cannot be read.
    :raises ConfigurationError: when it and the initial RAM disk do not fit into the memory.
    """
    digest, what = None, "the kernel"
    if boot.setup_header is SetupHeader.FILE:
        digest = authenticode_digest(boot.kernel, platform.algorithm)
    elif memory is None:
        what = "the kernel, from the size of the memory"
    else:
        rewritten = qemu_setup_header(boot.kernel, len(boot.initrd), memory, boot.cmdline)
        digest = authenticode_digest(rewritten, platform.algorithm)
        what = "the kernel, its setup header filled in by QEMU"
    return image_event(platform, what, digest, len(boot.kernel), QEMU_KERNEL, Input.KERNEL)
