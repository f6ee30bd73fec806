# SPDX-License-Identifier: Apache-2.0
"""``eaa sim``: evidence, collateral and faults of a chip maker in software."""

from __future__ import annotations

import json
import shlex
from base64 import b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eaa.cli._options import HexBytes, at_option, echo_json, json_option, report_data_option
from eaa.cli._sim_boot import acpi, boot_options, booted
from eaa.cli._sim_vendor import vendor as vendor_group
from eaa.cli._tables import print_table
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["sim"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_REGISTER: Final = HexBytes(48, 48)
_MEASUREMENT: Final = HexBytes(32, 32)


class _Rtmr(click.ParamType[tuple[int, bytes]]):
    """``N=HEX``: the number of an RTMR and its 48 bytes."""

    name = "N=HEX"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, bytes]:
        """Return number and value, or fail as bad usage."""
        if isinstance(value, tuple):
            return value
        number, separator, register = str(value).partition("=")
        if not separator or number not in {"0", "1", "2", "3"}:
            self.fail(f"{str(value)[:40]!r} is not N=HEX with N from 0 to 3", param, ctx)
        return int(number), _REGISTER.convert(register, param, ctx)


def _examples(*lines: str) -> str:
    """Return an epilog; the backspace keeps click from joining its lines."""
    return "\n".join(("\b", "Examples:", *(f"  {line}" for line in lines)))


_SIM_EXAMPLES = _examples(
    "eaa sim tdx --report-data 00ff --out ./case",
    "eaa sim tdx --report-data 00ff --out ./case --fault stale-tcb --vendor ./data",
    "eaa sim faults",
    'eaa sim measure --image "web server 1.4" > expected.json',
    "eaa sim vendor serve --vendor ./data --listen 127.0.0.1:8082",
)
_TDX_EXAMPLES = _examples(
    "eaa sim tdx --report-data 00ff --out ./case",
    "eaa sim tdx --report-data 00ff --out ./case --quote-version 5 --fault relaunch --json",
    'eaa sim tdx --report-data 00ff --out ./case --image "web server 1.4" --at 2026-03-16T12:00:00Z',
    "eaa sim tdx --report-data 00ff --out ./case --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img --cmdline quiet",
)
_SGX_EXAMPLES = _examples(
    "eaa sim sgx --report-data 00ff --out ./case",
    "eaa sim sgx --report-data 00ff --out ./case --ca processor --fault revoked-pck",
)
_SNP_EXAMPLES = _examples(
    "eaa sim snp --report-data 00ff --out ./case",
    "eaa sim snp --report-data 00ff --out ./case --product turin --fault below-minimum",
    "eaa sim snp --report-data 00ff --out ./case --product milan --vlek --report-version 3 --json",
)
_FAULTS_EXAMPLES = _examples(
    "eaa sim faults",
    "eaa sim faults --tee snp",
    "eaa sim faults --json",
)
_MEASURE_EXAMPLES = _examples(
    'eaa sim measure --image "web server 1.4" > expected.json',
    "eaa reference-value import expected.json --data ./data",
)
_INIT_EXAMPLES = _examples(
    "eaa sim init ./vendor",
)


@click.group(epilog=_SIM_EXAMPLES)
def sim() -> None:
    """Mint true quotes with a chip maker in software, and faults on demand.

    It has its own root CA: no verifier trusts it unless told so, and every verdict on its evidence says that it is simulated.
    """


sim.add_command(vendor_group)
sim.add_command(acpi)


def _mint_options(command: _Command) -> _Command:
    options = (
        report_data_option,
        click.option(
            "--out",
            required=True,
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder to write into.",
        ),
        click.option(
            "--vendor",
            type=click.Path(path_type=Path, file_okay=False),
            help="Folder of the chip maker, or Verdictd's data folder; by default a new one in OUT/vendor.",
        ),
        click.option(
            "--fault", "faults", multiple=True, metavar="NAME", help="What shall be wrong; repeatable."
        ),
        click.option("--image", metavar="WORDS", help="What the guest is made of; decides its measurements."),
        click.option("--machine", metavar="NAME", help="Which machine: the same name is the same machine."),
        at_option,
        json_option,
    )
    for option in reversed(options):
        command = option(command)
    return command


@sim.command(epilog=_TDX_EXAMPLES)
@_mint_options
@click.option(
    "--quote-version", type=click.Choice(["4", "5"]), help="By default 4, or 5 if a fault needs it."
)
@boot_options
@click.option("--mr-td", type=_REGISTER, help="MRTD, 48 bytes, instead of the image's.")
@click.option("--rtmr", "rtmrs", multiple=True, type=_Rtmr(), help="RTMR 0 to 3, 48 bytes; repeatable.")
def tdx(
    quote_version: str | None,
    mr_td: bytes | None,
    rtmrs: tuple[tuple[int, bytes], ...],
    *,
    as_json: bool,
    **options: Any,
) -> None:
    """Mint a TDX quote with the collateral that verifies it.

    Writes quote.bin, collateral.json, root_ca.der and expected.json, which tells what a verifier must find. A TD that is booted from files
    (--firmware, --kernel) has the registers that eaa measure tdx computes of them, and its event log and evidence are written too.
    """
    boot = {name: options.pop(name) for name in ("firmware", "kernel", "initrd", "cmdline", "memory", "acpi")}
    guest = booted(boot)
    registers = dict(guest.registers) if guest is not None else {}
    registers |= {f"rtmr_{number}": value for number, value in rtmrs}
    if mr_td is not None:
        registers["mr_td"] = mr_td
    version = int(quote_version) if quote_version else None
    log = guest.event_log if guest is not None else b""
    _mint("tdx", registers, version=version, event_log=log, as_json=as_json, **options)


@sim.command(epilog=_SGX_EXAMPLES)
@_mint_options
@click.option("--mr-enclave", type=_MEASUREMENT, help="MRENCLAVE, 32 bytes, instead of the image's.")
@click.option("--mr-signer", type=_MEASUREMENT, help="MRSIGNER, 32 bytes, instead of the simulator's signer.")
@click.option(
    "--ca",
    type=click.Choice(["platform", "processor"]),
    default="platform",
    help="Which CA certifies the machine.",
)
def sgx(mr_enclave: bytes | None, mr_signer: bytes | None, ca: str, *, as_json: bool, **options: Any) -> None:
    """Mint an SGX quote with the collateral that verifies it.

    Writes quote.bin, collateral.json, root_ca.der and expected.json, which tells what a verifier must find.
    """
    given = {"mr_enclave": mr_enclave, "mr_signer": mr_signer}
    registers = {name: value for name, value in given.items() if value is not None}
    _mint("sgx", registers, ca=ca, as_json=as_json, **options)


@sim.command(epilog=_SNP_EXAMPLES)
@_mint_options
@click.option(
    "--product",
    type=click.Choice(["milan", "genoa", "turin"]),
    default="genoa",
    show_default=True,
    help="Product line of the chip.",
)
@click.option("--vlek", is_flag=True, help="Sign with a cloud's VLEK instead of the chip's VCEK.")
@click.option(
    "--report-version", type=click.IntRange(2, 5), default=5, show_default=True, help="Version of the report."
)
@click.option("--measurement", type=_REGISTER, help="Launch measurement, 48 bytes, instead of the image's.")
@click.option("--host-data", type=_MEASUREMENT, help="HOST_DATA, 32 bytes; by default zero.")
def snp(
    measurement: bytes | None,
    host_data: bytes | None,
    *,
    product: str,
    vlek: bool,
    report_version: int,
    out: Path,
    vendor: Path | None,
    at: datetime,
    as_json: bool,
    **options: Any,
) -> None:
    """Mint an SEV-SNP attestation report with the collateral that verifies it.

    Writes report.bin, evidence.json (as CoCo's attester sends it), endorsements.json, root_ca.der and expected.json. The first time
    with a chip maker takes some seconds, for keys of 4096 bits.
    """
    from eaa.simulator.amd import AmdChipMaker  # noqa: PLC0415 - --help does not need it
    from eaa.simulator.snp_mint import mint_snp  # noqa: PLC0415
    from eaa.tee.snp.collateral_files import endorsements_to_snp_json  # noqa: PLC0415
    from eaa.tee.snp.product import Product  # noqa: PLC0415

    at = at.replace(microsecond=0)
    maker = AmdChipMaker.load(vendor) if vendor else AmdChipMaker.load_or_create(out / "vendor", at)
    registers = {"measurement": measurement, "host_data": host_data}
    given = {name: options[name] for name in ("image", "machine") if options[name] is not None}
    minted = mint_snp(
        maker,
        options["report_data"],
        at=at,
        product=Product(product.title()),
        signer="VLEK" if vlek else "VCEK",
        faults=options["faults"],
        registers={name: value for name, value in registers.items() if value is not None},
        version=report_version,
        **given,
    )
    contents = {
        "report": ("report.bin", minted.report),
        "evidence": ("evidence.json", _json_text(minted.evidence_json())),
        "endorsements": ("endorsements.json", _json_text(endorsements_to_snp_json(minted.endorsements))),
        "root_ca": ("root_ca.der", minted.root_der),
        "expected": ("expected.json", _json_text(minted.expected)),
    }
    _report(_write(out, contents), minted.expected, "snp", options["report_data"], as_json=as_json)


@sim.command(epilog=_FAULTS_EXAMPLES)
@click.option(
    "--tee", type=click.Choice(["snp"]), help="The faults of SEV-SNP, instead of those of SGX and TDX."
)
@json_option
def faults(tee: str | None, *, as_json: bool) -> None:
    """List the faults: what each does, and which checks must notice."""
    if tee == "snp":
        _snp_faults(as_json=as_json)
        return
    from eaa.simulator import FAULTS  # noqa: PLC0415 - --help does not need it

    rows = [
        {
            "name": fault.name,
            "summary": fault.summary,
            "tees": list(fault.tees),
            "where": "evidence" if fault.in_evidence else "collateral",
            "valid": fault.valid,
            "tcb_status": fault.tcb_status,
            "failed_checks": {tee: list(fault.checks_of(tee)) for tee in fault.tees},
        }
        for fault in FAULTS.values()
    ]
    if as_json:
        echo_json(rows)
        return
    for row, fault in zip(rows, FAULTS.values(), strict=True):
        names = dict.fromkeys(check for tee in fault.tees for check in fault.checks_of(tee))
        row["checks"] = list(names) or ["none: it must be accepted"]
        row["what_is_wrong"] = fault.summary
    print_table(rows, ("name", "what_is_wrong", "checks"), empty="")


def _snp_faults(*, as_json: bool) -> None:
    from eaa.simulator.snp_faults import SNP_FAULTS  # noqa: PLC0415 - --help does not need it

    rows = [
        {
            "name": fault.name,
            "summary": fault.summary,
            "where": "evidence" if fault.in_evidence else "collateral",
            "valid": fault.valid,
            "failed_checks": list(fault.checks),
            "warned_checks": list(fault.warnings),
        }
        for fault in SNP_FAULTS.values()
    ]
    if as_json:
        echo_json(rows)
        return
    for row, fault in zip(rows, SNP_FAULTS.values(), strict=True):
        row["what_is_wrong"] = fault.summary
        row["checks"] = list(fault.checks) or ["none: it must be accepted"]
    print_table(rows, ("name", "what_is_wrong", "checks"), empty="")


@sim.command(epilog=_MEASURE_EXAMPLES)
@click.option("--image", required=True, metavar="WORDS", help="What the guest is made of.")
@click.option(
    "--tee", type=click.Choice(["tdx", "sgx", "snp"]), default="tdx", show_default=True, help="Kind of TEE."
)
def measure(image: str, tee: str) -> None:
    """Print what a simulated guest measures to, as reference values in JSON."""
    from eaa.simulator import REGISTERS  # noqa: PLC0415 - --help does not need it
    from eaa.simulator import measure as measured  # noqa: PLC0415
    from eaa.simulator.snp_machine import measure_snp  # noqa: PLC0415

    if tee == "snp":
        echo_json({"measurement": [measure_snp(image)]})
        return
    values = measured(image)
    echo_json({name: [values[name]] for name in REGISTERS[tee]})


@sim.command(epilog=_INIT_EXAMPLES)
@click.argument("folder", metavar="DIR", type=click.Path(path_type=Path, file_okay=False))
@json_option
def init(folder: Path, *, as_json: bool) -> None:
    """Found a chip maker in DIR, or say which one is there already."""
    from eaa.simulator import ChipMaker  # noqa: PLC0415 - --help does not need it

    maker = ChipMaker.load_or_create(folder, datetime.now(UTC))
    answer = {
        "folder": str(maker.folder),
        "root_ca": str(maker.folder / "root_ca.der") if maker.folder else None,
        "root": maker.trust_anchor().name,
        "created": maker.created.isoformat().replace("+00:00", "Z"),
    }
    if as_json:
        echo_json(answer)
    else:
        click.echo(f"chip maker of {answer['created']} in {answer['folder']}")
        click.echo(f"root certificate: {answer['root_ca']}")


def _mint(
    tee: str,
    registers: Mapping[str, bytes],
    *,
    report_data: bytes,
    out: Path,
    vendor: Path | None,
    faults: tuple[str, ...],
    image: str | None,
    machine: str | None,
    at: datetime,
    as_json: bool,
    ca: str = "platform",
    version: int | None = None,
    event_log: bytes = b"",
) -> None:
    from eaa.simulator import ChipMaker, mint, to_common_form  # noqa: PLC0415 - --help does not need it

    at = at.replace(microsecond=0)
    maker = ChipMaker.load(vendor) if vendor else ChipMaker.load_or_create(out / "vendor", at)
    given: dict[str, str] = {}
    if image is not None:
        given["image"] = image
    if machine is not None:
        given["machine"] = machine
    minted = mint(
        maker, tee, report_data, at=at, faults=faults, ca=ca, registers=registers, version=version, **given
    )
    contents = {
        "quote": ("quote.bin", minted.quote),
        "collateral": ("collateral.json", _json_text(to_common_form(minted.endorsements))),
        "root_ca": ("root_ca.der", minted.root_der),
        "expected": ("expected.json", _json_text(minted.expected)),
    }
    if event_log:
        quote, log = (b64encode(part).decode() for part in (minted.quote, event_log))
        contents["event_log"] = ("event_log.bin", event_log)
        contents["evidence"] = ("evidence.json", _json_text({"cc_eventlog": log, "quote": quote}))
    _report(_write(out, contents), minted.expected, tee, report_data, as_json=as_json)


def _report(
    files: Mapping[str, str], expected: Mapping[str, Any], tee: str, report_data: bytes, *, as_json: bool
) -> None:
    """Say what was written, what a verifier must find, and how to make one look."""
    if as_json:
        echo_json({"files": files, "expected": expected})
        return
    for name, path in files.items():
        click.echo(f"{name:14} {path}")
    outcome = "accepted" if expected["accepted"] else f"refused by {', '.join(expected['failed_checks'])}"
    status = f"; TCB status {expected['tcb_status'] or 'unknown'}" if "tcb_status" in expected else ""
    click.echo(f"expected: {outcome}{status}")
    evidence = files.get("quote") or files["report"]
    endorsements = files.get("collateral") or files["endorsements"]
    verify = ("eaa", "verify", evidence, "--tee", tee, "--endorsements", endorsements)
    bound = ("--root", files["root_ca"], "--at", expected["at"], "--report-data", report_data.hex())
    click.echo(f"try: {shlex.join((*verify, *bound))}")


def _json_text(value: object) -> bytes:
    return json.dumps(value, indent=2).encode() + b"\n"


def _write(out: Path, contents: Mapping[str, tuple[str, bytes]]) -> dict[str, str]:
    """Write files, given as what they are → name and content, and return their paths."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        for name, content in contents.values():
            (out / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write into {out}: {error.strerror}") from error
    return {kind: str(out / name) for kind, (name, _) in contents.items()}
