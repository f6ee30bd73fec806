# SPDX-License-Identifier: Apache-2.0
"""Options of a boot through shim and GRUB for ``eaa measure tpm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eaa.cli._measure.options import KERNEL
from eaa.cli._measure.uki import partitions
from eaa.cli._options import InputFile

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.tee.grub_boot import GrubBoot

__all__ = ["grub_boot", "grub_options"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_CONFIG: Final = InputFile(1 << 20)
_TOGETHER: Final = ("shim", "grub", "grub_config")


def grub_options(command: _Command) -> _Command:
    """Add the options."""
    options = (
        click.option("--shim", type=KERNEL, help="shim, which the firmware boots from a disk."),
        click.option("--grub", type=KERNEL, help="Debian's signed GRUB, which shim starts."),
        click.option(
            "--grub-config",
            type=_CONFIG,
            help="GRUB's configuration: set, linux, initrd and boot of plain words, and nothing else.",
        ),
        click.option(
            "--grub-device",
            default="hd0,gpt1",
            show_default=True,
            help="The partition that GRUB lies on, as GRUB names it.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def grub_boot(options: Mapping[str, Any], variables: bytes | None) -> GrubBoot | None:
    """Return the boot that the options describe, or nothing without shim and GRUB."""
    from eaa.tee.grub_boot import GrubBoot  # noqa: PLC0415 - --help does not need it
    from eaa.tee.variables import has_shim_variables  # noqa: PLC0415

    given = [name for name in _TOGETHER if options[name] is not None]
    if not given:
        return None
    if len(given) != len(_TOGETHER) or options["kernel"] is None or variables is None:
        raise click.UsageError("--shim, --grub, --grub-config, --kernel and --variables go together")
    if options["uki"] is not None or options["cmdline"] is not None or options["memory"] is not None:
        raise click.UsageError(
            "--uki, --cmdline and --memory do not go with --grub: its configuration has the command line"
        )
    return GrubBoot(
        options["shim"],
        options["grub"],
        options["grub_config"],
        options["kernel"],
        options["initrd"] or b"",
        options["grub_device"],
        not has_shim_variables(variables),
        options["failed_options"],
        partitions(options),
    )
