# SPDX-License-Identifier: Apache-2.0
"""``eaa measure tpm``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._measure.grub import grub_boot, grub_options
from eaa.cli._measure.options import FIRMWARE, INITRD, KERNEL, Memory, events_option, listed, show
from eaa.cli._measure.uki import uki_boot, uki_options
from eaa.cli._options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.tee.direct_boot import DirectBoot

__all__ = ["tpm"]

_OF_DIRECT_BOOT: Final = ("initrd", "cmdline", "memory")


@click.command()
@click.option("--kernel", type=KERNEL, help="Kernel that QEMU boots directly (-kernel), or that GRUB does.")
@click.option("--initrd", type=INITRD, help="Initial RAM disk (-initrd), or that of GRUB's configuration.")
@click.option("--cmdline", help="Kernel command line (-append).")
@click.option("--memory", type=Memory(), help="Memory of the machine (-m), for PCR 4 of a direct boot.")
@click.option(
    "--setup-header",
    type=click.Choice(["file", "qemu"]),
    default="qemu",
    show_default=True,
    help="The kernel's setup header is the file's, or filled in by QEMU.",
)
@uki_options
@grub_options
@click.option(
    "--variables",
    type=FIRMWARE,
    help="Variable store that the guest is started with (OVMF_VARS.fd), for Secure Boot's keys; without it there are none.",
)
@click.option(
    "--bank",
    type=click.Choice(["sha256", "sha384"]),
    default="sha256",
    show_default=True,
    help="Bank of PCRs.",
)
@events_option
@json_option
def tpm(*, variables: bytes | None, bank: str, events: bool, as_json: bool, **options: Any) -> None:
    """Compute the PCRs of a guest whose OVMF boots a kernel that QEMU hands over, or that boots from a disk.

    From a disk it is a unified kernel image, or a kernel through shim and GRUB:

    \b
    eaa measure tpm --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0' --memory 2G
    eaa measure tpm --uki linux.efi --disk disk.img --variables OVMF_VARS.fd
    eaa measure tpm --shim shimx64.efi.signed --grub grubx64.efi.signed --grub-config grub.cfg --kernel vmlinuz --variables OVMF_VARS_4M.ms.fd

    Of a machine without option ROMs and network boot. PCR 0 is left out: OVMF measures a part of itself only after it has
    written into it what it finds of the machine. Of a boot from a disk PCR 1 is left out, too.
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.tee.tpm.measure import NO_KEYS, measure_tpm  # noqa: PLC0415 - --help does not need it
    from eaa.tee.variables import has_boot_options, secure_boot_of  # noqa: PLC0415

    through_grub = grub_boot(options, variables)
    boot = through_grub or uki_boot(options)
    if through_grub is None and (boot is None) == (options["kernel"] is None):
        raise click.UsageError("give --kernel or --uki")
    if (
        through_grub is None
        and boot is not None
        and any(options[name] is not None for name in _OF_DIRECT_BOOT)
    ):
        raise click.UsageError("--initrd, --cmdline and --memory go with --kernel: an image holds its own")
    measured = measure_tpm(
        _direct(options) if boot is None else boot,
        memory=options["memory"],
        secure_boot=NO_KEYS if variables is None else secure_boot_of(variables),
        own_menu=variables is None or not has_boot_options(variables),
        bank=bank,
    )
    values = {name: value.hex() for name, value in measured.registers.items()}
    show(values, measured.unknown, listed(measured.events) if events else None, as_json=as_json)


def _direct(options: Mapping[str, Any]) -> DirectBoot:
    from eaa.tee.direct_boot import DirectBoot, SetupHeader  # noqa: PLC0415 - --help does not need it

    header = SetupHeader(options["setup_header"])
    return DirectBoot(options["kernel"], options["initrd"] or b"", options["cmdline"] or "", header)
