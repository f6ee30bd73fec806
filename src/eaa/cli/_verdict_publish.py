# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict publish``: one command from artefacts to reference values that count."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._admin_client import AdminClient, target_options
from eaa.cli._options import json_option
from eaa.cli._verdict_files import make_key
from eaa.cli._verdict_measure import described_set, set_options
from eaa.cli._verdict_owner import BASE, change_set, propose_set, title, why_option
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.cli._admin_client import Target
    from eaa.verdict.reference_set import ReferenceSet

__all__ = ["COMMANDS", "next_version"]

_MAX_KEY: Final = 64 << 10


def _publishing(command: click.Command) -> click.Command:
    """Add the options that describe a set, with a version that follows from those before, and TDX where nothing is said."""
    described = set_options(command)
    for option in described.params:
        if isinstance(option, click.Option) and option.name in {"version", "tee"}:
            option.required = False
        if isinstance(option, click.Option) and option.name == "version":
            option.help = "Number of the set; one more than the highest that is there, unless told."
        if isinstance(option, click.Option) and option.name == "tee":
            option.default, option.show_default = "tdx", True
    return described


@_publishing
@click.command()
@click.option(
    "--key",
    "key_file",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Private key that signs.",
)
@click.option(
    "--new-key",
    is_flag=True,
    help="Make the key if it is not there, and with --data name it as the product's signer.",
)
@click.option("--yes", is_flag=True, help="Activate also where workloads that are admitted now are refused.")
@why_option
@target_options
@json_option
def publish(
    *,
    target: Callable[[], Target],
    key_file: Path,
    new_key: bool,
    why: str,
    yes: bool,
    as_json: bool,
    **options: Any,
) -> int | None:
    """Measure artefacts, sign what they measure to, hand it to Verdictd and activate it.

    The options that describe the artefacts are those of eaa measure. Where Verdictd trusts the simulator and no machine is described, the
    simulated machine's memory and ACPI tables are taken.

    \b
    Examples:
      eaa verdict publish --product acme/web --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img \\
        --cmdline 'console=ttyS0' --key release --new-key --data ./data
      eaa verdict publish --product acme/web --firmware OVMF.fd --kernel vmlinuz --initrd initrd.img \\
        --cmdline 'console=ttyS0' --memory 4G --acpi ./acpi --key release --data ./data --why 'kernel 6.12.9'
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.envelope import seal  # noqa: PLC0415 - --help does not need it

    server = target()
    said = _simulated_machine(options) if server.simulated else []
    with AdminClient(server) as client:
        if options["version"] is None:
            options["version"] = next_version(client, options["product"])
        described, notes = described_set(options)
        said += notes
        key, made = _signing_key(key_file, described.product, server, new=new_key)
        proposed = propose_set(client, seal(described.to_statement(), [key]), why, options["provenance"])
        if not as_json:
            for line in (*made, *said, *_measured(described), title(proposed)):
                click.echo(line)
        return change_set(client, proposed["digest"], "activate", why, yes=yes, as_json=as_json)


def _simulated_machine(options: dict[str, Any]) -> list[str]:
    """Describe the simulated machine where none is described, and say so."""
    machine = ("memory", "acpi", "machine_args", "acpi_loader", "acpi_rsdp", "acpi_tables")
    if options["tee"] != "tdx" or any(options[name] is not None for name in machine):
        return []
    from eaa.simulator.booted import DEFAULT_MEMORY, SIMULATED_ACPI  # noqa: PLC0415 - --help does not need it
    from eaa.tee.q35 import memory_size  # noqa: PLC0415

    if options["kernel"] is not None:
        options["memory"], options["acpi"] = memory_size(DEFAULT_MEMORY), SIMULATED_ACPI
        return [
            f"machine       the simulated one, with {DEFAULT_MEMORY}; describe a real one by --memory and --acpi"
        ]
    return []


def next_version(client: AdminClient, product: str) -> int:
    """Return one more than the highest version; proposals that no signer has signed count for nothing, whoever made them."""
    listed = client.get(BASE, product=product)["reference_sets"]
    counting = [each for each in listed if each["signed_by"] or each["state"] != "proposed"]
    return max((int(each["version"]) for each in counting), default=0) + 1


def _signing_key(path: Path, product: str, server: Target, *, new: bool) -> tuple[Any, list[str]]:
    """Return the key, and what was done to have it."""
    from eaa._keys import public_pem, read_private_key  # noqa: PLC0415 - --help does not need it
    from eaa.cli._signers import enrol  # noqa: PLC0415

    if path.exists():
        with path.open("rb") as file:
            return read_private_key(file.read(_MAX_KEY)), []
    if not new:
        raise ConfigurationError(
            f"there is no key {path}", hint="Make one and have it sign this product: --new-key"
        )
    name = make_key(path, "ed25519")
    key = read_private_key(path.read_bytes())
    said = [f"new key       {path}, id {name}"]
    if server.data is None:
        raise ConfigurationError(
            f"the key {path} was made, and Verdictd must be told to trust it",
            hint=f"Name {path}.pub among the signers of {product} in its signers' file, then run this again.",
        )
    by_hand = enrol(server.data / "signers.toml", product, path.name, public_pem(key.public_key()))
    if by_hand is not None:
        raise ConfigurationError(
            f"the key {path} was made, and {server.data / 'signers.toml'} names other signers already",
            hint=f"Add {path}.pub there by hand, then run this again.",
        )
    return key, [
        *said,
        f"signer        {path.name} signs {product}, as {server.data / 'signers.toml'} says now",
    ]


def _measured(described: ReferenceSet) -> list[str]:
    return [f"{name:<13} {', '.join(values)}" for name, values in described.reference_values.items()]


COMMANDS: Final = (publish,)
