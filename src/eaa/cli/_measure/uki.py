# SPDX-License-Identifier: Apache-2.0
"""Options of a boot of a unified kernel image, which ``eaa measure tpm`` and ``eaa measure tdx`` share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eaa.cli._options import InputFile
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.tee.efi_boot import UkiBoot

__all__ = ["partitions", "uki_boot", "uki_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_UKI: Final = InputFile(2 << 30)
_TABLE_BYTES: Final = 256 << 10


def uki_options(command: _Command) -> _Command:
    """Add the options."""
    options = (
        click.option("--uki", type=_UKI, help="Unified kernel image, which the firmware boots from a disk."),
        click.option(
            "--disk",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="The disk that it is booted from, for its partition table.",
        ),
        click.option(
            "--failed-options",
            type=click.IntRange(0, 64),
            default=0,
            show_default=True,
            help="Boot options that the firmware tries in vain before, such as an empty DVD drive.",
        ),
        click.option(
            "--kernel-measures/--kernel-does-not-measure",
            default=True,
            show_default=True,
            help="Whether the kernel's own EFI stub measures command line and initial RAM disk.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def uki_boot(options: Mapping[str, Any]) -> UkiBoot | None:
    """Return the boot that the options describe, or nothing without an image."""
    from eaa.tee.efi_boot import UkiBoot  # noqa: PLC0415 - --help does not need it

    if options["uki"] is None:
        if options["disk"] is not None or options["failed_options"]:
            raise click.UsageError("--disk and --failed-options go with a boot from a disk")
        return None
    return UkiBoot(options["uki"], options["failed_options"], partitions(options), options["kernel_measures"])


def partitions(options: Mapping[str, Any]) -> bytes | None:
    """Return the partition table of ``--disk`` as it is measured, or nothing where there is no disk."""
    from eaa.tee.efi_boot import partition_table  # noqa: PLC0415 - --help does not need it

    return None if options["disk"] is None else partition_table(_beginning(options["disk"]))


def _beginning(disk: Path) -> bytes:
    try:
        with disk.open("rb") as opened:
            return opened.read(_TABLE_BYTES)
    except OSError as error:
        raise ConfigurationError(f"cannot read {disk}: {error.strerror}") from error
