# SPDX-License-Identifier: Apache-2.0
"""``eaa measure init-data`` and ``eaa measure image``."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from eaa.cli._measure.options import events_option, listed, show
from eaa.cli._options import InputFile, echo_json, json_option
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from eaa.kbs import InitDocument
    from eaa.tee.measured import MeasuredEvent

__all__ = ["image", "init_data"]

_INIT_DATA_FIELDS: Final = {"tdx": ("mr_config_id", 48), "snp": ("host_data", 32), "sgx": ("config_id", 64)}


@click.command("init-data")
@click.argument("document", metavar="FILE", type=InputFile(1 << 20))
@click.option("--tee", type=click.Choice(sorted(_INIT_DATA_FIELDS)), help="Kind of TEE; without it, of all.")
@events_option
@json_option
def init_data(document: bytes, tee: str | None, *, events: bool, as_json: bool) -> None:
    """Compute what MRCONFIGID, HOST_DATA and CONFIGID hold for init-data in TOML.

    --events gives the digest of each file in it, such as the Kata agent's policy (policy.rego), by the algorithm that the init-data names.
    """
    from eaa.kbs import parse_init_data  # noqa: PLC0415

    try:
        text = document.decode()
    except UnicodeDecodeError:
        raise ConfigurationError("init-data is not UTF-8 text", hint="Give the TOML text itself.") from None
    parsed = parse_init_data("toml", text)
    fields = [field for kind, field in _INIT_DATA_FIELDS.items() if tee in {None, kind}]
    values = {name: parsed.digest_in(size).hex() for name, size in fields}
    parts = listed(_files(parsed, [name for name, _ in fields])) if events else None
    show(values, (), parts, as_json=as_json)


def _files(parsed: InitDocument, registers: Sequence[str]) -> Iterator[MeasuredEvent]:
    from eaa.tee.measured import Input, MeasuredEvent  # noqa: PLC0415 - --help does not need it

    for register in registers:
        for name, content in parsed.files.items():
            source = Input.AGENT_POLICY if name == "policy.rego" else Input.INIT_DATA
            digest = hashlib.new(parsed.algorithm, content.encode()).digest()
            yield MeasuredEvent(register, None, name, digest, source)


@click.command()
@click.argument("path", metavar="PATH", type=click.Path(path_type=Path, exists=True))
@json_option
def image(path: Path, *, as_json: bool) -> None:
    """Compute the digests of a container image: manifest, configuration, layers.

    PATH is an OCI layout, as a folder or an archive, or an archive of docker save, which has no manifest. What the image says of
    its parts is held against their content.

    \b
    Examples:
      eaa measure image ./layout
      eaa measure image image.tar --json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.image.layout import image_digests  # noqa: PLC0415 - --help does not need it

    images = image_digests(path)
    if as_json:
        echo_json([asdict(each) for each in images])
        return
    for each in images:
        click.echo(f"{each.name or 'image'}  {each.platform}")
        click.echo(f"  manifest  {each.manifest or '-'}")
        click.echo(f"  config    {each.config}")
        for layer, diff_id in zip(each.layers, each.diff_ids, strict=False):
            click.echo(f"  layer     {layer}  uncompressed {diff_id}")
