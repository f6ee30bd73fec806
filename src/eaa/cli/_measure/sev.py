# SPDX-License-Identifier: Apache-2.0
"""``eaa measure snp``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from eaa.cli._measure.options import FIRMWARE, INITRD, KERNEL, Number, events_option, listed, show
from eaa.cli._options import json_option

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.tee.measured import LaunchMeasurement
    from eaa.tee.snp.measure import SevGuest

__all__ = ["measured_sev", "snp"]


@click.command()
@click.option("--firmware", type=FIRMWARE, required=True, help="OVMF image.")
@click.option("--vcpus", type=click.IntRange(1, 4096), required=True, help="Number of vCPUs.")
@click.option("--vcpu-type", help="QEMU's name of the vCPU model, such as EPYC-v4.")
@click.option("--vcpu-signature", type=Number(32), help="CPUID leaf 1 EAX of the vCPU, instead of its type.")
@click.option("--kernel", type=KERNEL, help="Kernel of a measured direct boot.")
@click.option("--initrd", type=INITRD, help="Initial RAM disk.")
@click.option("--append", "--cmdline", "append", help="Kernel command line.")
@click.option(
    "--guest-features",
    type=Number(64),
    default="0x1",
    show_default=True,
    help="SEV_FEATURES of the guest; SEV-ES has none.",
)
@click.option(
    "--mode",
    type=click.Choice(["snp", "snp-svsm", "sev-es"]),
    default="snp",
    show_default=True,
    help="Launch.",
)
@click.option(
    "--vmm", type=click.Choice(["qemu", "ec2", "gce"]), default="qemu", show_default=True, help="Hypervisor."
)
@click.option("--svsm", type=FIRMWARE, help="SVSM image, for snp-svsm.")
@click.option("--vars-size", type=Number(32), help="Bytes of OVMF_VARS.fd, for snp-svsm.")
@events_option
@json_option
def snp(*, events: bool, as_json: bool, **options: Any) -> None:
    """Compute the launch digest of an SEV-SNP or SEV-ES guest.

    The kernel is measured only by firmware with a place for kernel hashes (edk2's AmdSev build); with any other a kernel is refused.
    """
    measured = measured_sev(options)
    values = {name: value.hex() for name, value in measured.registers.items()}
    show(values, (), listed(measured.events) if events else None, as_json=as_json)


def measured_sev(options: Mapping[str, Any]) -> LaunchMeasurement:
    """Return what the guest that the options of ``eaa measure snp`` describe measures to."""
    from eaa.tee.snp.measure import measure_sev  # noqa: PLC0415 - --help does not need it

    return measure_sev(_sev_guest(options))


def _sev_guest(options: Mapping[str, Any]) -> SevGuest:
    """Return the guest that the options of ``eaa measure snp`` describe."""
    from eaa.tee.snp.measure import Kernel, SevGuest, SevMode, SevVmm, Svsm, vcpu_types  # noqa: PLC0415

    kernel, initrd, append = options["kernel"], options["initrd"], options["append"]
    if kernel is None and (initrd is not None or append is not None):
        raise click.UsageError("--initrd and --append go with --kernel")
    if (options["svsm"] is None) != (options["vars_size"] is None):
        raise click.UsageError("--svsm and --vars-size go together")
    vmm = SevVmm(options["vmm"])
    signature, name = options["vcpu_signature"], options["vcpu_type"]
    if signature is not None and name is not None:
        raise click.UsageError("give --vcpu-type or --vcpu-signature, not both")
    if name is not None:
        known = vcpu_types()
        if name not in known:
            raise click.UsageError(f"{name[:40]!r} is no vCPU type; known are: {', '.join(known)}")
        signature = known[name]
    elif signature is None and vmm is SevVmm.QEMU:
        raise click.UsageError("give --vcpu-type or --vcpu-signature: QEMU's launch measures it")
    return SevGuest(
        options["firmware"],
        options["vcpus"],
        signature or 0,
        SevMode(options["mode"]),
        vmm,
        Kernel(kernel, initrd or b"", append or "") if kernel is not None else None,
        Svsm(options["svsm"], options["vars_size"]) if options["svsm"] is not None else None,
        options["guest_features"],
    )
