# SPDX-License-Identifier: Apache-2.0
"""``eaa measure``: what software will measure to, from its artefacts."""

from __future__ import annotations

import click

from eaa.cli._measure.acpi import acpi
from eaa.cli._measure.documents import image, init_data
from eaa.cli._measure.sev import snp
from eaa.cli._measure.sgx import sgx
from eaa.cli._measure.tdx import tdx
from eaa.cli._measure.tpm import tpm

__all__ = ["measure"]


@click.group()
def measure() -> None:
    """Compute what software will measure to, from its artefacts.

    Nothing is asked of a guest. What does not follow from the artefacts is left out, and said so. With --json the answer is
    what eaa reference-value import takes.

    \b
    Examples:
      eaa measure tdx --firmware OVMF.fd --json
      eaa measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0'
      eaa measure acpi --out ./acpi -- -machine q35 -m 2G -smp 4 -bios OVMF.fd
      eaa measure snp --firmware OVMF.fd --vcpus 4 --vcpu-type EPYC-v4
      eaa measure tpm --kernel vmlinuz --initrd initrd.img --cmdline quiet --memory 2G
      eaa measure sgx --sigstruct enclave.sig
      eaa measure init-data init-data.toml --tee tdx
      eaa measure image ./layout
    """  # noqa: D301 - click keeps the lines after \b


for _command in (tdx, acpi, snp, tpm, sgx, init_data, image):
    measure.add_command(_command)
