# SPDX-License-Identifier: Apache-2.0
"""``eaa sim tdx``: a TD that was booted from real files; ``eaa sim acpi``: the tables of the simulated machine."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eaa.cli._options import echo_json, json_option

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.simulator.booted import BootedGuest

__all__ = ["acpi", "boot_options", "booted"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_FILE = click.Path(exists=True, dir_okay=False)


def boot_options(command: _Command) -> _Command:
    """Add the options that say what a simulated TD is booted from."""
    options = (
        click.option("--firmware", type=_FILE, help="TDVF image that the TD is booted from, with --kernel."),
        click.option("--kernel", type=_FILE, help="Kernel that it is booted from."),
        click.option("--initrd", type=_FILE, help="Initial RAM disk."),
        click.option("--cmdline", help="Kernel command line."),
        click.option("--memory", metavar="SIZE", help="Memory of the TD, such as 2G, which is the default."),
        click.option(
            "--acpi",
            type=click.Path(exists=True, file_okay=False),
            help="Folder that eaa measure acpi wrote, instead of the simulated machine's own tables.",
        ),
    )
    for option in reversed(options):
        command = option(command)
    return command


def booted(options: Mapping[str, Any]) -> BootedGuest | None:
    """Return the guest that the options describe, or nothing where none is given."""
    from eaa.simulator.booted import boot_guest  # noqa: PLC0415 - --help does not need it

    given = {name: value for name, value in options.items() if value is not None}
    return boot_guest(given) if given else None


@click.command(
    epilog="\b\nExamples:\n  eaa sim acpi ./acpi\n"
    "  eaa measure tdx --firmware OVMF.fd --kernel vmlinuz --memory 2G --acpi ./acpi --json"
)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@json_option
def acpi(folder: Path, *, as_json: bool) -> None:
    """Write the simulated machine's ACPI tables into DIR, for eaa measure tdx --acpi.

    They are what the machine has unless it is given others: three short texts, as no code runs in it that could read tables.
    """
    from eaa.simulator.booted import SIMULATED_ACPI  # noqa: PLC0415 - --help does not need it
    from eaa.tee.tdx.acpi import save_acpi  # noqa: PLC0415

    files = [str(file) for file in save_acpi(SIMULATED_ACPI, folder)]
    if as_json:
        echo_json({"files": files})
    else:
        click.echo("\n".join(files))
