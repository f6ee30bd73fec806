# SPDX-License-Identifier: Apache-2.0
"""``eaa resource``: secrets that are released to attested TEEs. They are read from files, never from arguments."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._tables import print_table

if TYPE_CHECKING:
    from eaa.cli._admin_client import AdminClient

__all__ = ["resource"]


@click.group()
def resource() -> None:
    """Store, list and delete the secrets that attested TEEs may fetch.

    A resource is named <repository>/<type>/<tag>, with or without kbs:/// before it. Its content is read from a file or from
    standard input, and no command shows it again.

    \b
    Examples:
      eaa resource put default/certs/db.key --file db.key --data ./data
      printf %s "$PASSWORD" | eaa resource put default/passwords/db --file - --data ./data
      eaa resource list --prefix default/ --data ./data
    """  # noqa: D301 - click keeps the lines after \b


@resource.command()
@click.argument("path")
@click.option(
    "--file",
    "content",
    type=InputFile(1 << 20),
    required=True,
    help="File with the content; - reads standard input.",
)
@admin_options
@json_option
def put(client: AdminClient, path: str, content: bytes, *, as_json: bool) -> None:
    """Store a file's content at PATH, in place of what was there."""
    stored = client.put_bytes(f"/eaa/v0/resources/{_path(path)}", content)
    if as_json:
        echo_json(stored)
    else:
        click.echo(f"stored {stored['path']}: {stored['size']} bytes, version {stored['version']}")


@resource.command("list")
@click.option("--prefix", default="", help="Show only paths that begin so.")
@admin_options
@json_option
def list_(client: AdminClient, prefix: str, *, as_json: bool) -> None:
    """List what is stored, without content."""
    listed = client.get("/eaa/v0/resources", prefix=prefix)
    if as_json:
        echo_json(listed)
    else:
        columns = ("path", "size", "version", "updated_at")
        print_table(listed["resources"], columns, empty="There is no resource.")


@resource.command()
@click.argument("path")
@admin_options
@json_option
def delete(client: AdminClient, path: str, *, as_json: bool) -> None:
    """Delete what is at PATH."""
    client.delete(f"/eaa/v0/resources/{_path(path)}")
    if as_json:
        echo_json({"deleted": _path(path)})
    else:
        click.echo(f"deleted {_path(path)}")


def _path(text: str) -> str:
    from eaa.image import ResourceUri  # noqa: PLC0415 - --help does not need it

    return ResourceUri.parse(text).path
