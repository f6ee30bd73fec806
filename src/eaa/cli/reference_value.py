# SPDX-License-Identifier: Apache-2.0
"""``eaa reference-value``: what the owner expects evidence to say."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._options import InputFile, Rfc3339, echo_json, json_option
from eaa.cli._tables import print_table
from eaa.rats import InputError

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.cli._admin_client import AdminClient

__all__ = ["reference_value"]

_MAX_FILE: Final = 2 << 20
_MEASUREMENT: Final = re.compile(r"([0-9A-Fa-f]{2})+|[0-9]+", re.ASCII)


@click.group("reference-value")
def reference_value() -> None:
    """Set, import, list and delete reference values.

    A value is what one claim may be: a list of allowed measurements in hex, or any JSON value that a policy asks for.

    \b
    Examples:
      eaa reference-value set mr_td=0f3a… rtmr_1=77b0… rtmr_1=12cd… --data ./data
      eaa reference-value import measured.json --data ./data
      eaa reference-value list --data ./data
    """  # noqa: D301 - click keeps the lines after \b


@reference_value.command("set")
@click.argument("pairs", metavar="NAME=VALUE…", nargs=-1, required=True)
@click.option("--expires-at", type=Rfc3339(), help="Time from which the values count no longer.")
@admin_options
@json_option
def set_(client: AdminClient, pairs: tuple[str, ...], expires_at: datetime | None, *, as_json: bool) -> None:
    """Set values. A name given more than once allows each of its values."""
    values: dict[str, list[str]] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            raise click.UsageError(f"{pair!r} is not NAME=VALUE")
        values.setdefault(name, []).append(_value(name, value))
    _put(client, values, expires_at, as_json=as_json)


@reference_value.command("import")
@click.argument("document", metavar="FILE", type=InputFile(_MAX_FILE))
@click.option("--expires-at", type=Rfc3339(), help="Time from which the values count no longer.")
@admin_options
@json_option
def import_(client: AdminClient, document: bytes, expires_at: datetime | None, *, as_json: bool) -> None:
    """Set every value of FILE: one JSON object, name to list of hex or to any JSON value. All are set or none."""
    from eaa.kbs import parse_json  # noqa: PLC0415 - --help does not need it

    values = parse_json(document, _MAX_FILE)
    if not isinstance(values, dict) or not values:
        raise InputError("the file holds no JSON object of names and values")
    _put(client, values, expires_at, as_json=as_json)


@reference_value.command("list")
@admin_options
@json_option
def list_(client: AdminClient, *, as_json: bool) -> None:
    """List the values."""
    listed = client.get("/eaa/v0/reference-values")
    if as_json:
        echo_json(listed)
    else:
        columns = ("name", "value", "expires_at")
        empty = "There is no reference value: no software is expected, and none is affirmed."
        print_table(listed["reference_values"], columns, empty=empty)


@reference_value.command()
@click.argument("names", metavar="NAME…", nargs=-1, required=True)
@admin_options
@json_option
def delete(client: AdminClient, names: tuple[str, ...], *, as_json: bool) -> None:
    """Delete values by name."""
    from urllib.parse import quote  # noqa: PLC0415

    for name in names:
        client.delete(f"/eaa/v0/reference-values/{quote(name, safe='')}")
        if not as_json:
            click.echo(f"deleted {name}")
    if as_json:
        echo_json({"deleted": list(names)})


def _put(client: AdminClient, values: dict[str, Any], expires_at: datetime | None, *, as_json: bool) -> None:
    expiry = expires_at.isoformat() if expires_at is not None else None
    stored = client.put("/eaa/v0/reference-values", {"values": values, "expires_at": expiry})
    if as_json:
        echo_json(stored)
    else:
        for name in stored["stored"]:
            click.echo(f"set {name}")


def _value(name: str, value: str) -> str:
    """Return hex in lower case, or a number such as the minimum of ``isv_svn``, as it is written."""
    if not _MEASUREMENT.fullmatch(value):
        raise click.UsageError(
            f"the value of {name} is neither hex nor a number; other values come from a file: eaa reference-value import"
        )
    return value.lower()
