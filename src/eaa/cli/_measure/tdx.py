# SPDX-License-Identifier: Apache-2.0
"""``eaa measure tdx``."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._measure.options import (
    ACPI,
    FIRMWARE,
    INITRD,
    KERNEL,
    AcpiFolder,
    Memory,
    events_option,
    listed,
    show,
)
from eaa.cli._measure.uki import uki_boot, uki_options
from eaa.cli._options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.tee.efi_boot import UkiBoot
    from eaa.tee.measured import LaunchMeasurement
    from eaa.tee.tdx.acpi import AcpiBlobs

__all__ = ["measured_tdx", "tdx"]

_SECONDS: Final = 60


@click.command()
@click.option("--firmware", type=FIRMWARE, required=True, help="TDVF image, such as OVMF.fd.")
@click.option("--kernel", type=KERNEL, help="Kernel that QEMU boots directly (-kernel).")
@click.option("--initrd", type=INITRD, help="Initial RAM disk (-initrd).")
@click.option("--cmdline", help="Kernel command line (-append).")
@uki_options
@click.option("--memory", type=Memory(), help="Memory of the TD (-m), for RTMR 0.")
@click.option(
    "--vcpus",
    type=click.IntRange(1, 4096),
    help="Number of vCPUs; nothing but the ACPI tables tells of it, so it changes no value here.",
)
@click.option("--acpi", type=AcpiFolder(), help="Folder that eaa measure acpi wrote, for RTMR 0.")
@click.option(
    "--machine-args",
    metavar="ARGUMENTS",
    help="The machine as QEMU gets it, in one word: its ACPI tables are learnt as eaa measure acpi does.",
)
@click.option(
    "--qemu",
    default="qemu-system-x86_64",
    show_default=True,
    help="The QEMU that is asked with --machine-args.",
)
@click.option("--acpi-loader", type=ACPI, help="etc/table-loader of fw_cfg, for RTMR 0.")
@click.option("--acpi-rsdp", type=ACPI, help="etc/acpi/rsdp of fw_cfg, for RTMR 0.")
@click.option("--acpi-tables", type=ACPI, help="etc/acpi/tables of fw_cfg, for RTMR 0.")
@click.option(
    "--page-order",
    type=click.Choice(["page-by-page", "section-by-section"]),
    default="page-by-page",
    show_default=True,
    help="How KVM measures: Linux 6.16 and later go page by page, vendors' kernels before went section by section.",
)
@click.option(
    "--setup-header",
    type=click.Choice(["file", "qemu"]),
    default="file",
    show_default=True,
    help="The kernel's setup header is the file's (QEMU 10.2 and later) or filled in by QEMU (before).",
)
@events_option
@json_option
def tdx(*, events: bool, as_json: bool, **options: Any) -> None:
    """Compute MRTD of a TD, and RTMR 0 to 2 of a direct boot under QEMU, or RTMR 1 and 2 of a unified kernel image.

    RTMR 0 holds the ACPI tables that QEMU generates: it is left out unless the owner gives them, or the machine's arguments for the owner's own
    QEMU to be asked.
    """
    measured = measured_tdx(options)
    values = {name: value.hex() for name, value in measured.registers.items()}
    show(values, measured.unknown, listed(measured.events) if events else None, as_json=as_json)


def measured_tdx(options: Mapping[str, Any]) -> LaunchMeasurement:
    """Return what the TD that the options of ``eaa measure tdx`` describe measures to."""
    from eaa.tee.tdx.direct_boot import DirectBoot, SetupHeader  # noqa: PLC0415 - --help does not need it
    from eaa.tee.tdx.measure import PageOrder, measure_tdx  # noqa: PLC0415

    kernel, initrd, cmdline = options["kernel"], options["initrd"], options["cmdline"]
    header = SetupHeader(options["setup_header"])
    if kernel is None and (initrd is not None or cmdline is not None or header is not SetupHeader.FILE):
        raise click.UsageError("--initrd, --cmdline and --setup-header go with --kernel")
    boot: DirectBoot | UkiBoot | None = uki_boot(options)
    if boot is not None and kernel is not None:
        raise click.UsageError("give --kernel or --uki, not both")
    if kernel is not None:
        boot = DirectBoot(kernel, initrd or b"", cmdline or "", header)
    return measure_tdx(
        options["firmware"],
        order=PageOrder(options["page_order"]),
        boot=boot,
        memory=options["memory"],
        acpi=_acpi(options),
    )


def _acpi(options: Mapping[str, Any]) -> AcpiBlobs | None:
    """Return the machine's ACPI tables: as they are given, or as the owner's own QEMU makes them."""
    from eaa.tee.tdx.acpi import AcpiBlobs  # noqa: PLC0415 - --help does not need it

    acpi: AcpiBlobs | None = options["acpi"]
    machine: str | None = options["machine_args"]
    blobs = [
        options[name] for name in ("acpi_loader", "acpi_rsdp", "acpi_tables") if options[name] is not None
    ]
    if len(blobs) not in {0, 3}:
        raise click.UsageError("--acpi-loader, --acpi-rsdp and --acpi-tables go together")
    if sum((bool(blobs), acpi is not None, machine is not None)) > 1:
        raise click.UsageError("give the ACPI tables once: --acpi, --machine-args or the three files")
    if machine is not None:
        return _learnt(options["qemu"], machine)
    return AcpiBlobs(*blobs) if blobs else acpi


def _learnt(qemu: str, machine: str) -> AcpiBlobs:
    from eaa.cli._measure.qemu import ask_for_acpi  # noqa: PLC0415 - --help does not need it

    try:
        words = shlex.split(machine)
    except ValueError as error:
        raise click.UsageError(f"--machine-args cannot be read: {error}") from error
    return ask_for_acpi(qemu, words, _SECONDS)
