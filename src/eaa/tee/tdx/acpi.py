# SPDX-License-Identifier: Apache-2.0
"""The ACPI tables that QEMU makes for a machine, which OVMF measures into RTMR 0, and the folder that they are kept in."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["MAX_BLOB", "AcpiBlobs", "load_acpi", "save_acpi"]

MAX_BLOB: Final = 16 << 20
"""Bytes of each of the three; QEMU's are a few hundred KiB."""

_FILES: Final = ("table-loader", "rsdp", "tables")


@dataclass(frozen=True, slots=True)
class AcpiBlobs:
    """The tables that QEMU hands to firmware through fw_cfg: ``etc/table-loader``, ``etc/acpi/rsdp``, ``etc/acpi/tables``.

    They come from the owner's own run of the same QEMU with the same machine, never from the guest that is to be judged.
    """

    loader: bytes = field(repr=False)
    rsdp: bytes = field(repr=False)
    tables: bytes = field(repr=False)


def load_acpi(folder: Path) -> AcpiBlobs:
    """Read the files ``table-loader``, ``rsdp`` and ``tables`` of a folder.

    :raises ConfigurationError: when one of them cannot be read, or is empty or too large.
    """
    return AcpiBlobs(*(_read(folder / name) for name in _FILES))


def save_acpi(blobs: AcpiBlobs, folder: Path) -> tuple[Path, ...]:
    """Write what :func:`load_acpi` reads, and return the files.

    :raises ConfigurationError: when they cannot be written.
    """
    files = tuple(folder / name for name in _FILES)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for file, content in zip(files, (blobs.loader, blobs.rsdp, blobs.tables), strict=True):
            file.write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write into {folder}: {error.strerror}") from error
    return files


def _read(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            content = opened.read(MAX_BLOB + 1)
    except OSError as error:
        raise ConfigurationError(
            f"cannot read {file}: {error.strerror}", hint="eaa measure acpi writes such a folder."
        ) from error
    if not 0 < len(content) <= MAX_BLOB:
        raise ConfigurationError(
            f"{file} has no content, or more than {MAX_BLOB} bytes",
            hint="eaa measure acpi writes such a folder.",
        )
    return content
