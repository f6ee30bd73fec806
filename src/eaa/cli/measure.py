# SPDX-License-Identifier: Apache-2.0
"""``eaa measure``: what software will measure to, from its artefacts."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, echo_json, json_option
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from eaa.tee.snp.measure import SevGuest

__all__ = ["measure"]

_FIRMWARE: Final = InputFile(64 << 20)
_KERNEL: Final = InputFile(256 << 20)
_INITRD: Final = InputFile(2 << 30)
_ACPI: Final = InputFile(16 << 20)
_SGXS: Final = InputFile(1 << 30)
_INIT_DATA_FIELDS: Final = {"tdx": ("mr_config_id", 48), "snp": ("host_data", 32), "sgx": ("config_id", 64)}


class _Memory(click.ParamType[int]):
    """An amount of memory as QEMU's ``-m`` takes it: a number of MiB, or with one of K, M, G, T; the value is in bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes, or fail as bad usage."""
        if isinstance(value, int):
            return value
        match = re.fullmatch(r"([1-9][0-9]{0,14})([KMGT]?)", str(value), re.ASCII | re.IGNORECASE)
        if match is None:
            self.fail(f"{str(value)[:40]!r} is no amount of memory such as 2G or 512M", param, ctx)
        return int(match[1]) << {"K": 10, "": 20, "M": 20, "G": 30, "T": 40}[match[2].upper()]


class _Number(click.ParamType[int]):
    """A number of so many ``bits``, in decimal or in hex with ``0x``."""

    name = "NUMBER"

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or fail as bad usage."""
        if isinstance(value, int):
            return value
        text = str(value)
        if not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}|[0-9]{1,19}", text, re.ASCII):
            self.fail(f"{text[:40]!r} is no number such as 8392466 or 0x800f12", param, ctx)
        number = int(text, 0) if text.startswith("0x") else int(text)
        if number >> self.bits:
            self.fail(f"{text} has more than {self.bits} bits", param, ctx)
        return number


@click.group()
def measure() -> None:
    """Compute what software will measure to, from its artefacts.

    Nothing is asked of a guest. What does not follow from the artefacts is left out, and said so. With --json the answer is
    what eaa reference-value import takes.

    \b
    Examples:
      eaa measure tdx --firmware OVMF.fd --json
      eaa measure tdx --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline 'console=ttyS0'
      eaa measure snp --firmware OVMF.fd --vcpus 4 --vcpu-type EPYC-v4
      eaa measure sgx --sigstruct enclave.sig
      eaa measure init-data init-data.toml --tee tdx
    """  # noqa: D301 - click keeps the lines after \b


@measure.command()
@click.option("--firmware", type=_FIRMWARE, required=True, help="TDVF image, such as OVMF.fd.")
@click.option("--kernel", type=_KERNEL, help="Kernel that QEMU boots directly (-kernel).")
@click.option("--initrd", type=_INITRD, help="Initial RAM disk (-initrd).")
@click.option("--cmdline", help="Kernel command line (-append).")
@click.option("--memory", type=_Memory(), help="Memory of the TD (-m), for RTMR 0.")
@click.option(
    "--vcpus",
    type=click.IntRange(1, 4096),
    help="Number of vCPUs; nothing but the ACPI tables tells of it, so it changes no value here.",
)
@click.option("--acpi-loader", type=_ACPI, help="etc/table-loader of fw_cfg, for RTMR 0.")
@click.option("--acpi-rsdp", type=_ACPI, help="etc/acpi/rsdp of fw_cfg, for RTMR 0.")
@click.option("--acpi-tables", type=_ACPI, help="etc/acpi/tables of fw_cfg, for RTMR 0.")
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
@click.option("--events", is_flag=True, help="Show each event behind the registers.")
@json_option
def tdx(
    firmware: bytes,
    kernel: bytes | None,
    initrd: bytes | None,
    cmdline: str | None,
    memory: int | None,
    acpi_loader: bytes | None,
    acpi_rsdp: bytes | None,
    acpi_tables: bytes | None,
    page_order: str,
    setup_header: str,
    *,
    vcpus: int | None,
    events: bool,
    as_json: bool,
) -> None:
    """Compute MRTD of a TD, and RTMR 0 to 2 of a direct boot under QEMU.

    RTMR 0 holds the ACPI tables that QEMU generates: it is left out unless the owner gives them, taken from a run of the same QEMU
    with the same machine.
    """
    from eaa.tee.tdx.measure import (  # noqa: PLC0415 - --help does not need it
        AcpiBlobs,
        DirectBoot,
        PageOrder,
        SetupHeader,
        measure_tdx,
    )

    del vcpus
    if kernel is None and (initrd is not None or cmdline is not None or setup_header != "file"):
        raise click.UsageError("--initrd, --cmdline and --setup-header go with --kernel")
    acpi = [each for each in (acpi_loader, acpi_rsdp, acpi_tables) if each is not None]
    if len(acpi) not in {0, 3}:
        raise click.UsageError("--acpi-loader, --acpi-rsdp and --acpi-tables go together")
    boot = None
    if kernel is not None:
        boot = DirectBoot(kernel, initrd or b"", cmdline or "", SetupHeader(setup_header))
    measured = measure_tdx(
        firmware,
        order=PageOrder(page_order),
        boot=boot,
        memory=memory,
        acpi=AcpiBlobs(*acpi) if acpi else None,
    )
    values = {name: value.hex() for name, value in measured.registers.items()}
    listed = [
        {
            "register": event.register,
            "type": event.type,
            "what": event.what,
            "digest": event.digest.hex() if event.digest is not None else None,
        }
        for event in measured.events
    ]
    _show(values, measured.unknown, listed if events else None, as_json=as_json)


@measure.command()
@click.option("--firmware", type=_FIRMWARE, required=True, help="OVMF image.")
@click.option("--vcpus", type=click.IntRange(1, 4096), required=True, help="Number of vCPUs.")
@click.option("--vcpu-type", help="QEMU's name of the vCPU model, such as EPYC-v4.")
@click.option("--vcpu-signature", type=_Number(32), help="CPUID leaf 1 EAX of the vCPU, instead of its type.")
@click.option("--kernel", type=_KERNEL, help="Kernel of a measured direct boot.")
@click.option("--initrd", type=_INITRD, help="Initial RAM disk.")
@click.option("--append", "--cmdline", "append", help="Kernel command line.")
@click.option(
    "--guest-features",
    type=_Number(64),
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
@click.option("--svsm", type=_FIRMWARE, help="SVSM image, for snp-svsm.")
@click.option("--vars-size", type=_Number(32), help="Bytes of OVMF_VARS.fd, for snp-svsm.")
@json_option
def snp(as_json: bool, **options: Any) -> None:  # noqa: FBT001 - click calls it by name
    """Compute the launch digest of an SEV-SNP or SEV-ES guest.

    The kernel is measured only by firmware with a place for kernel hashes (edk2's AmdSev build); with any other a kernel is refused.
    """
    from eaa.tee.snp.measure import launch_digest  # noqa: PLC0415

    digest = launch_digest(_sev_guest(options))
    _show({"measurement": digest.hex()}, (), None, as_json=as_json)


@measure.command()
@click.option(
    "--sigstruct", type=InputFile(4096), help="SIGSTRUCT of 1808 bytes, such as Gramine's .sig file."
)
@click.option("--sgxs", type=_SGXS, help="Enclave as an SGXS stream.")
@json_option
def sgx(sigstruct: bytes | None, sgxs: bytes | None, *, as_json: bool) -> None:
    """Compute MRENCLAVE and MRSIGNER of an enclave.

    A SIGSTRUCT is verified as the processor does, and says both. An SGXS stream says MRENCLAVE; given both, they must agree.
    """
    from eaa.tee.sgx.measure import measure_sgxs  # noqa: PLC0415
    from eaa.tee.sgx.sigstruct import parse_sigstruct  # noqa: PLC0415

    if sigstruct is None and sgxs is None:
        raise click.UsageError("give --sigstruct, --sgxs or both")
    values: dict[str, str] = {}
    notes: list[str] = []
    if sgxs is not None:
        values["mr_enclave"] = measure_sgxs(sgxs).hex()
        if sigstruct is None:
            notes.append("mr_signer: not known without the SIGSTRUCT")
    if sigstruct is not None:
        signed = parse_sigstruct(sigstruct)
        if values.get("mr_enclave", signed.mr_enclave.hex()) != signed.mr_enclave.hex():
            raise ConfigurationError(
                f"the SIGSTRUCT is for the enclave {signed.mr_enclave.hex()}, the stream measures to {values['mr_enclave']}",
                hint="Sign this very enclave.",
            )
        values |= {"mr_enclave": signed.mr_enclave.hex(), "mr_signer": signed.mr_signer.hex()}
        notes.append(f"the signer gave it isv_prod_id {signed.isv_prod_id} and isv_svn {signed.isv_svn}")
    _show(values, notes, None, as_json=as_json)


@measure.command("init-data")
@click.argument("document", metavar="FILE", type=InputFile(1 << 20))
@click.option("--tee", type=click.Choice(sorted(_INIT_DATA_FIELDS)), help="Kind of TEE; without it, of all.")
@json_option
def init_data(document: bytes, tee: str | None, *, as_json: bool) -> None:
    """Compute what MRCONFIGID, HOST_DATA and CONFIGID hold for init-data in TOML."""
    from eaa.kbs import parse_init_data  # noqa: PLC0415

    try:
        text = document.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("init-data is not UTF-8 text", hint="Give the TOML text itself.") from None
    parsed = parse_init_data("toml", text)
    fields = [field for kind, field in _INIT_DATA_FIELDS.items() if tee in {None, kind}]
    values = {name: parsed.digest_in(size).hex() for name, size in fields}
    _show(values, (), None, as_json=as_json)


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


def _show(
    values: Mapping[str, str],
    notes: Sequence[str],
    events: Sequence[Mapping[str, str | None]] | None,
    *,
    as_json: bool,
) -> None:
    """Print values, and in words what else is to be said; JSON is the values alone, unless events were asked for."""
    if as_json:
        echo_json(
            values if events is None else {"values": values, "events": list(events), "notes": list(notes)}
        )
        return
    for name, value in values.items():
        click.echo(f"{name:<12}  {value}")
    for note in notes:
        click.echo(note)
    for event in events or ():
        click.echo(
            f"{event['register']:<12}  {event['digest'] or '?' * 96}  {event['type']}: {event['what']}"
        )
