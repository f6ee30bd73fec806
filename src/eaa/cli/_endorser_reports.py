# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser doctor``, ``forecast``, ``export`` and ``key``: what is known about the store, and how it travels."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from eaa.cli._options import InputFile, Rfc3339, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.cli._write import write_file
from eaa.endorser.store import Snapshot, Store

if TYPE_CHECKING:
    from eaa.endorser.doctor import Diagnosis, Health

__all__ = ["as_of_option", "doctor", "export", "forecast", "key", "snapshot_of", "store_option"]

store_option = click.option(
    "--store",
    "directory",
    metavar="DIR|URL",
    required=True,
    help="Folder of the store, created when it is not there; or the URL of a PostgreSQL database.",
)
as_of_option = click.option(
    "--at", type=Rfc3339(), help="Take what had been issued by then, such as 2026-03-16T12:00:00Z."
)


async def snapshot_of(location: str, at: datetime | None) -> Snapshot:
    """Return the store's state, or its state as of a time."""
    async with await Store.open(location) as store:
        return store.snapshot() if at is None else await store.snapshot_at(at)


@click.command()
@store_option
@json_option
def doctor(*, directory: str, as_json: bool) -> int:
    """Say how old everything is, when it expires and is refreshed, what went wrong, and what to do.

    The exit status is 1 when something that evidence needs is missing or has expired.
    """
    from eaa.endorser.doctor import diagnose  # noqa: PLC0415 - --help does not need it

    async def ask() -> Diagnosis:
        async with await Store.open(directory) as store:
            return await diagnose(store)

    diagnosis = asyncio.run(ask())
    if as_json:
        echo_json(diagnosis.to_json())
    else:
        for each in diagnosis.objects:
            _show(each, diagnosis.at)
        sound = "healthy" if diagnosis.healthy else "not healthy"
        click.echo(f"{sound}: {len(diagnosis.objects)} objects, {diagnosis.platforms} platforms seen")
    return EXIT_OK if diagnosis.healthy else EXIT_REJECTED


def _show(each: Health, at: datetime) -> None:
    parts = [f"{each.state:<9} {each.need.name}"]
    if each.issued is not None and each.next_update is not None:
        parts.append(f"{(at - each.issued).days} days old, until {each.next_update:%Y-%m-%d %H:%M}")
    if each.next_refresh is not None:
        parts.append(f"next refresh {each.next_refresh:%Y-%m-%d %H:%M}")
    click.echo("  ".join(parts))
    if each.error:
        click.echo(f"          failed {each.failures} times: {each.error}")
    if each.remedy and (each.error or each.state != "ok"):
        click.echo(f"          hint: {each.remedy}")


@click.command()
@store_option
@json_option
def forecast(*, directory: str, as_json: bool) -> int:
    """Say which platforms change status when Intel's early TCB info becomes the standard one, and why.

    It speaks of the platforms that were seen. The exit status is 1 when one of them will change.
    """
    from eaa.endorser import forecast as forecasts  # noqa: PLC0415 - --help does not need it

    async def ask() -> list[forecasts.Outlook]:
        async with await Store.open(directory) as store:
            return await forecasts.forecast(store)

    outlooks = asyncio.run(ask())
    changing = [each for each in outlooks if each.changes]
    if as_json:
        echo_json([each.to_json() for each in outlooks])
    else:
        for each in changing:
            numbers = f"evaluation number {each.numbers[0]} to {each.numbers[1]}"
            click.echo(f"{each.platform}  {each.fmspc}  {each.now} → {each.then or 'unknown'}  ({numbers})")
            for short in each.short:
                click.echo(f"          {short}")
            if each.advisories:
                click.echo(f"          {', '.join(each.advisories)}")
        click.echo(f"{len(changing)} of {len(outlooks)} platforms will change")
    return EXIT_REJECTED if changing else EXIT_OK


@click.command()
@click.argument("path", type=click.Path(dir_okay=False))
@store_option
@click.option(
    "--key",
    "key_pem",
    type=InputFile(65536),
    required=True,
    help="Private key to sign with; `eaa endorser key` makes one.",
)
@as_of_option
def export(*, path: str, directory: str, key_pem: bytes, at: datetime | None) -> int:
    """Write everything in the store into one signed bundle at PATH, for a site without a network."""
    from eaa.endorser.bundle import read_private_key, seal_bundle  # noqa: PLC0415 - --help does not need it

    key = read_private_key(key_pem)
    now = datetime.now(UTC).replace(microsecond=0)
    snapshot = asyncio.run(snapshot_of(directory, at))
    write_file(Path(path), seal_bundle(snapshot, key, made=now, as_of=at or now), 0o644)
    click.echo(f"{len(snapshot.slots)} objects as of {at or now:%Y-%m-%d %H:%M} in {path}")
    return EXIT_OK


@click.command()
@click.argument("path", type=click.Path(dir_okay=False))
def key(*, path: str) -> int:
    """Make a key for bundles: the private half at PATH, the public half beside it with .pub."""
    from eaa._keys import new_key  # noqa: PLC0415 - --help does not need it

    private, public = new_key()
    write_file(Path(path), private, 0o600, new=True)
    write_file(Path(f"{path}.pub"), public, 0o644)
    click.echo(f"{path} signs, {path}.pub verifies")
    return EXIT_OK
