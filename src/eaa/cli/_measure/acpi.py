# SPDX-License-Identifier: Apache-2.0
"""``eaa measure acpi``."""

from __future__ import annotations

from pathlib import Path

import click

from eaa.cli._options import echo_json, json_option

__all__ = ["acpi"]


@click.command(context_settings={"ignore_unknown_options": True})
@click.option(
    "--qemu", default="qemu-system-x86_64", show_default=True, help="The QEMU that the guest will run in."
)
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to write into: table-loader, rsdp and tables.",
)
@click.option(
    "--timeout",
    type=click.IntRange(1, 600),
    default=60,
    show_default=True,
    metavar="SECONDS",
    help="How long it may take.",
)
@json_option
@click.argument("machine", nargs=-1, required=True, type=click.UNPROCESSED)
def acpi(qemu: str, out: Path, timeout: int, machine: tuple[str, ...], *, as_json: bool) -> None:
    """Learn the ACPI tables of a machine from the owner's own QEMU.

    MACHINE is what QEMU gets, after --: the machine, its memory, processors, devices and firmware. QEMU is started here, the firmware runs until
    it asks for the tables, and QEMU is ended. No guest is asked. eaa measure tdx --acpi takes the folder.

    \b
    Examples:
      eaa measure acpi --out ./acpi -- -machine q35,smm=off,hpet=off -m 2G -smp 4 -nodefaults -bios OVMF.fd
      eaa measure tdx --firmware OVMF.fd --kernel vmlinuz --memory 2G --acpi ./acpi
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.cli._measure.qemu import ask_for_acpi  # noqa: PLC0415 - --help does not need it
    from eaa.tee.tdx.acpi import save_acpi  # noqa: PLC0415

    files = [str(file) for file in save_acpi(ask_for_acpi(qemu, machine, timeout), out)]
    if as_json:
        echo_json({"files": files})
    else:
        click.echo("\n".join(files))
