# SPDX-License-Identifier: Apache-2.0
"""``eaa key``: key-encryption keys of container images. No command shows a key's bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._options import echo_json, json_option
from eaa.cli._tables import print_table

if TYPE_CHECKING:
    from eaa.cli._admin_client import AdminClient

__all__ = ["key"]


@click.group()
def key() -> None:
    """Create, list and delete key-encryption keys.

    A key is named kbs:///<repository>/<type>/<tag>, or by a bare name, which means kbs:///default/key/<name>. Its bytes never
    leave Verdictd but to an attested TEE.

    \b
    Examples:
      eaa key create my-image --data ./data
      eaa key list --data ./data --json
      eaa key delete my-image --data ./data
    """  # noqa: D301 - click keeps the lines after \b


@key.command()
@click.argument("name", required=False)
@admin_options
@json_option
def create(client: AdminClient, name: str | None, *, as_json: bool) -> None:
    """Create the key NAME, or one with a name made up."""
    made = client.post("/eaa/v0/keys", {"name": name} if name else {})
    if as_json:
        echo_json(made)
    else:
        click.echo(f"created {made['uri']}")


@key.command("list")
@admin_options
@json_option
def list_(client: AdminClient, *, as_json: bool) -> None:
    """List the keys."""
    listed = client.get("/eaa/v0/keys")
    if as_json:
        echo_json(listed)
    else:
        print_table(listed["keys"], ("uri", "version", "updated_at"), empty="There is no key.")


@key.command()
@click.argument("name")
@admin_options
@json_option
def delete(client: AdminClient, name: str, *, as_json: bool) -> None:
    """Delete the key NAME. Images encrypted under it can never be opened again."""
    from eaa.image import ResourceUri  # noqa: PLC0415 - --help does not need it

    uri = ResourceUri.parse_key_id(name)
    client.delete(f"/eaa/v0/keys/{uri.path}")
    if as_json:
        echo_json({"deleted": str(uri)})
    else:
        click.echo(f"deleted {uri}")
