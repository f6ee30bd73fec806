# SPDX-License-Identifier: Apache-2.0
"""``eaa measure tpm``."""

from __future__ import annotations

import click

from eaa.cli._measure.options import INITRD, KERNEL, Memory, events_option, listed, show
from eaa.cli._options import json_option

__all__ = ["tpm"]


@click.command()
@click.option("--kernel", type=KERNEL, required=True, help="Kernel that QEMU boots directly (-kernel).")
@click.option("--initrd", type=INITRD, help="Initial RAM disk (-initrd).")
@click.option("--cmdline", help="Kernel command line (-append).")
@click.option("--memory", type=Memory(), help="Memory of the machine (-m), for PCR 4.")
@click.option(
    "--setup-header",
    type=click.Choice(["file", "qemu"]),
    default="qemu",
    show_default=True,
    help="The kernel's setup header is the file's, or filled in by QEMU.",
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
def tpm(
    kernel: bytes,
    initrd: bytes | None,
    cmdline: str | None,
    memory: int | None,
    setup_header: str,
    bank: str,
    *,
    events: bool,
    as_json: bool,
) -> None:
    """Compute the PCRs of a guest whose OVMF boots a kernel that QEMU hands over.

    Of a machine without option ROMs and network boot, and without Secure Boot keys. PCR 0 is left out: OVMF measures a
    part of itself only after it has written into it what it finds of the machine.
    """
    from eaa.tee.direct_boot import DirectBoot, SetupHeader  # noqa: PLC0415 - --help does not need it
    from eaa.tee.tpm.measure import measure_tpm  # noqa: PLC0415

    boot = DirectBoot(kernel, initrd or b"", cmdline or "", SetupHeader(setup_header))
    measured = measure_tpm(boot, memory=memory, bank=bank)
    values = {name: value.hex() for name, value in measured.registers.items()}
    show(values, measured.unknown, listed(measured.events) if events else None, as_json=as_json)
