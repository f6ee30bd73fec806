# SPDX-License-Identifier: Apache-2.0
"""A simulated TD that was booted from real files: its registers are those that :mod:`eaa.tee.tdx.measure` computes of them.

The simulated machine has the behaviour of today's Linux and QEMU, and, unless others are given, ACPI tables of its own: three short texts. They are
as fixed as a real machine's tables are for one QEMU and one set of options.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.tee.measured import event_log
from eaa.tee.q35 import memory_size
from eaa.tee.tdx.acpi import AcpiBlobs, load_acpi
from eaa.tee.tdx.direct_boot import DirectBoot
from eaa.tee.tdx.measure import measure_tdx

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BOOT_SETTINGS", "DEFAULT_MEMORY", "SIMULATED_ACPI", "BootedGuest", "boot_guest"]

BOOT_SETTINGS: Final = ("firmware", "kernel", "initrd", "cmdline", "memory", "acpi")
"""What a guest is booted from: files, a text, an amount such as ``2G``, and a folder with ACPI tables."""
DEFAULT_MEMORY: Final = "2G"
SIMULATED_ACPI: Final = AcpiBlobs(
    b"EAA simulated machine: table loader", b"EAA simulated machine: RSDP", b"EAA simulated machine: tables"
)


@dataclass(frozen=True, slots=True)
class BootedGuest:
    """A guest's registers after its boot, and the event log (CCEL) that says how they came about."""

    registers: Mapping[str, bytes]
    event_log: bytes


def boot_guest(settings: Mapping[str, str]) -> BootedGuest:
    """Boot a guest with the settings named in :data:`BOOT_SETTINGS`; firmware and kernel are needed.

    :raises ConfigurationError: when they do not go together, or a file cannot be read.
    :raises InputError: when firmware or kernel are none.
    """
    if not {"firmware", "kernel"} <= set(settings):
        raise ConfigurationError(
            "a simulated guest is booted from firmware and kernel",
            hint="Give both, or neither and an image in words.",
        )
    acpi = load_acpi(Path(settings["acpi"])) if "acpi" in settings else SIMULATED_ACPI
    initrd = _read(settings["initrd"]) if "initrd" in settings else b""
    measured = measure_tdx(
        _read(settings["firmware"]),
        boot=DirectBoot(_read(settings["kernel"]), initrd, settings.get("cmdline", "")),
        memory=memory_size(settings.get("memory", DEFAULT_MEMORY)),
        acpi=acpi,
    )
    return BootedGuest(measured.registers, event_log(measured))


def _read(file: str) -> bytes:
    try:
        return Path(file).read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}", hint="Name the files that the guest is booted from."
        ) from error
