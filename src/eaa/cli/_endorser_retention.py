# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser prune``, and its limits as options of ``serve``, too."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._endorser_reports import store_option
from eaa.cli._options import echo_json, json_option
from eaa.cli._run import EXIT_OK
from eaa.endorser.store import Store

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.endorser.retention import Pruned

__all__ = ["prune", "retention_options"]

_LIMITS: Final = (
    (
        "history_days",
        "--keep-history-days",
        "Keep the history of so many days: as of any of them evidence can be judged again.",
    ),
    ("history_versions", "--keep-versions", "Keep so many versions of each object and channel."),
    ("platforms_days", "--keep-platforms-days", "Forget platforms that were not seen for so many days."),
    ("platforms", "--keep-platforms", "Remember so many platforms, those seen last."),
)


def retention_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that limit how much of the past is kept."""
    for name, flag, text in reversed(_LIMITS):
        option = click.option(flag, name, type=click.IntRange(1), metavar="N", help=text)
        command = option(command)
    return command


@click.command()
@store_option
@retention_options
@click.option("--dry-run", is_flag=True, help="Say what would go, and leave it.")
@json_option
def prune(*, directory: str, dry_run: bool, as_json: bool, **limits: int | None) -> int:
    """Remove history and platforms that are beyond the limits given. Without a limit everything is kept.

    What is handed out or in force is never removed. As of a day whose collateral was removed, evidence cannot be judged any more.

    \b
    Examples:
      eaa endorser prune --store ./collateral --keep-history-days 400 --dry-run
      eaa endorser prune --store ./collateral --keep-history-days 400 --keep-platforms-days 90
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.endorser import retention  # noqa: PLC0415 - --help does not need it

    wanted = retention.Retention(**limits)
    if wanted.keeps_all:
        raise click.UsageError(
            "nothing is limited, so nothing would go: give a limit such as --keep-history-days 400"
        )

    async def run() -> Pruned:
        async with await Store.open(directory) as store:
            return await retention.prune(store, wanted, dry_run=dry_run)

    pruned = asyncio.run(run())
    if as_json:
        echo_json(
            {
                "dry_run": dry_run,
                "versions": pruned.versions,
                "certificates": pruned.certificates,
                "platforms": pruned.platforms,
            }
        )
        return EXIT_OK
    for key, count in sorted(pruned.versions.items()):
        click.echo(f"{count:>5} versions of {key}")
    what = f"{sum(pruned.versions.values())} versions, {pruned.certificates} PCK certificates, {pruned.platforms} platforms"
    click.echo(f"{'would remove' if dry_run else 'removed'} {what}")
    return EXIT_OK
