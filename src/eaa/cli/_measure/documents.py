# SPDX-License-Identifier: Apache-2.0
"""``eaa measure init-data``."""

from __future__ import annotations

from typing import Final

import click

from eaa.cli._measure.options import show
from eaa.cli._options import InputFile, json_option
from eaa.rats import ConfigurationError

__all__ = ["init_data"]

_INIT_DATA_FIELDS: Final = {"tdx": ("mr_config_id", 48), "snp": ("host_data", 32), "sgx": ("config_id", 64)}


@click.command("init-data")
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
    show(values, (), None, as_json=as_json)
