# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict``, the commands that work on files alone: keys, sets, their signatures and other formats."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import click

from eaa.cli._options import echo_json, json_option
from eaa.cli._write import write_file

__all__ = ["COMMANDS"]


@click.group()
def key() -> None:
    """Make the keys that sign sets.

    \b
    Example:
      eaa verdict key new release
    """  # noqa: D301 - click keeps the lines after \b


@key.command()
@click.argument("path", type=click.Path(dir_okay=False, path_type=Path))
@click.option(
    "--kind",
    type=click.Choice(["ed25519", "p256"]),
    default="ed25519",
    show_default=True,
    help="Ed25519, or ECDSA on the curve P-256.",
)
@json_option
def new(path: Path, kind: str, *, as_json: bool) -> None:
    """Make a key: the private half at PATH, for its owner alone to read, the public half beside it with .pub.

    A file that is there is never replaced.

    \b
    Example:
      eaa verdict key new release --kind p256
    """  # noqa: D301 - click keeps the lines after \b
    from eaa._keys import key_id, new_key, read_public_key  # noqa: PLC0415 - --help does not need it

    private, public = new_key("p256" if kind == "p256" else "ed25519")
    published = Path(f"{path}.pub")
    write_file(path, private, 0o600, new=True)
    write_file(published, public, 0o644)
    name = key_id(read_public_key(public))
    if as_json:
        echo_json({"private": str(path), "public": str(published), "key_id": name})
    else:
        click.echo(f"{path} signs, {published} verifies; the key's id is {name}")


COMMANDS: Final = (key,)
