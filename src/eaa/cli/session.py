# SPDX-License-Identifier: Apache-2.0
"""``eaa session``: which guests may fetch just now, and how to end that."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._admin_client import admin_options
from eaa.cli._options import echo_json, json_option
from eaa.cli._tables import print_table

if TYPE_CHECKING:
    from eaa.cli._admin_client import AdminClient

__all__ = ["session"]

_SESSION: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_COLUMNS: Final = ("id", "tee", "verdict", "opened_at", "expires_at")


@click.group()
def session() -> None:
    """List the sessions of attested guests, and end them.

    A guest that was accepted may fetch for some minutes, by its session or by the token that it got. Ending the session ends both, on
    every replica at once. The guest may attest again: what keeps it out is a policy, a reference value or what is accepted.

    \b
    Examples:
      eaa session list --data ./data
      eaa session revoke 0b1d7b5e-6a0c-4a55-8f0e-0e6a3d6f0c11 --data ./data
      eaa session revoke --all --data ./data
    """  # noqa: D301 - click keeps the lines after \b


@session.command("list")
@click.option(
    "--limit",
    type=click.IntRange(1, 1000),
    default=100,
    show_default=True,
    help="Show so many, those that end last first.",
)
@admin_options
@json_option
def list_(client: AdminClient, limit: int, *, as_json: bool) -> None:
    """List the sessions that are open."""
    listed = client.get("/eaa/v0/sessions", limit=limit)
    if as_json:
        echo_json(listed)
    else:
        print_table(listed["sessions"], _COLUMNS, empty="No session is open.")


@session.command()
@click.argument("subject", metavar="[SESSION|VERDICT]", required=False)
@click.option("--all", "everything", is_flag=True, help="End every session.")
@admin_options
@json_option
def revoke(client: AdminClient, subject: str | None, *, everything: bool, as_json: bool) -> None:
    """End the session of this id, or the one that rests on this verdict.

    \b
    Examples:
      eaa session revoke 0b1d7b5e-6a0c-4a55-8f0e-0e6a3d6f0c11 --data ./data
      eaa session revoke --all --url https://kbs:9443 --credential admin.json --ca-file ca.pem
    """  # noqa: D301 - click keeps the lines after \b
    if everything == (subject is not None):
        raise click.UsageError("name a session or a verdict, or ask for --all")
    answer = client.post("/eaa/v0/sessions/revoke", _chosen(subject))
    if as_json:
        echo_json(answer)
    else:
        count = answer["revoked"]
        click.echo(f"revoked {count} session{'' if count == 1 else 's'}")


def _chosen(subject: str | None) -> dict[str, Any]:
    if subject is None:
        return {"all": True}
    name = subject.lower()
    return {"session" if _SESSION.fullmatch(name) else "verdict": name}
