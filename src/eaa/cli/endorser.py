# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser``: import, fetch, list and serve chip makers' collateral."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from eaa.cli._endorser_import import (
    anchor_of,
    anchors_of,
    day,
    import_,
    root_option,
    subject_json,
    take_in,
    title,
)
from eaa.cli._endorser_reports import (
    as_of_option,
    doctor,
    export,
    forecast,
    key,
    snapshot_of,
    store_option,
)
from eaa.cli._endorser_retention import prune, retention_options
from eaa.cli._endorser_sources import SourceOptions, authority, secret_text, source_options
from eaa.cli._listen import listening_socket
from eaa.cli._options import HexBytes, InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK
from eaa.endorser.store import Store
from eaa.rats import ConfigurationError, Endorsements, TrustAnchor
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.snp.roots import AMD_ROOTS

if TYPE_CHECKING:
    from collections.abc import Sequence

    import uvicorn
    from starlette.applications import Starlette

    from eaa.endorser.pck_serve import Tokens
    from eaa.endorser.retention import Retention

__all__ = ["endorser"]

_MAX_TOKEN: Final = 4096


@click.group()
def endorser() -> None:
    """Import, fetch, list and serve chip makers' collateral.

    \b
    Examples:
      eaa endorser fetch --fmspc 50806f000000 --tee tdx --store ./collateral
      eaa endorser import ./pcs-responses --store ./collateral
      eaa endorser serve --store ./collateral --listen 127.0.0.1:8081 --vendors
      eaa endorser doctor --store ./collateral
    """  # noqa: D301 - click keeps the lines after \b


for _command in (import_, doctor, export, forecast, key, prune):
    endorser.add_command(_command)


@endorser.command()
@click.option(
    "--from", "url", default=None, metavar="URL", help="PCS or PCCS to ask.  [default: Intel's PCS]"
)
@click.option("--fmspc", type=HexBytes(6, 6), required=True, help="Family of platforms, 6 bytes.")
@click.option("--tee", type=click.Choice(["sgx", "tdx"]), required=True, help="Kind of TEE.")
@click.option(
    "--ca",
    type=click.Choice(["platform", "processor"]),
    default="platform",
    show_default=True,
    help="PCK CA of the platforms.",
)
@click.option("--update", type=click.Choice(["early", "standard"]), help="Intel's release channel.")
@click.option("--evaluation-number", type=click.IntRange(0), help="One TCB evaluation data number.")
@click.option("--api", type=click.Choice(["v3", "v4"]), default="v4", show_default=True, help="API version.")
@click.option(
    "--root-crl-url", metavar="URL", help="Where the root's CRL is, if the service has no rootcacrl."
)
@click.option(
    "--ca-file",
    type=click.Path(exists=True, dir_okay=False),
    help="Certificate authority of the service's TLS certificate.",
)
@store_option
@root_option(multiple=True)
@click.option("--force", is_flag=True, help="Let older collateral replace newer.")
@json_option
def fetch(
    *,
    url: str | None,
    fmspc: bytes,
    tee: Literal["sgx", "tdx"],
    ca: Literal["platform", "processor"],
    update: Literal["early", "standard"] | None,
    evaluation_number: int | None,
    api: Literal["v3", "v4"],
    root_crl_url: str | None,
    ca_file: str | None,
    directory: str,
    roots: Sequence[bytes],
    force: bool,
    as_json: bool,
) -> int:
    """Fetch the collateral of one family of platforms from Intel's PCS or a PCCS, and take it in."""
    from eaa.endorser import pcs  # noqa: PLC0415 - the HTTP client is needed here only

    wanted = pcs.Wanted(fmspc.hex(), tee, ca, update, evaluation_number, api)
    anchors = anchors_of(roots)

    async def ask() -> int:
        base = url or pcs.INTEL_PCS
        async with await Store.open(directory, anchors) as store:
            async with pcs.new_client(tls=authority(ca_file)) as client:
                found = await pcs.fetch(base, wanted, client, root_crl_url=root_crl_url)
            slots: dict[str, Endorsements] = {}
            for need, item in zip(wanted.needs(), found.items, strict=True):
                slots[need.slot] = Endorsements((*slots.get(need.slot, Endorsements()).items, item))
            return await take_in(store, slots, [], source=base, force=force, as_json=as_json)

    return asyncio.run(ask())


@endorser.command("list")
@store_option
@as_of_option
@json_option
def list_(*, directory: str, at: datetime | None, as_json: bool) -> int:
    """List what the store holds, and what has expired; with --at, as of that time."""
    now = at or datetime.now(UTC)
    subjects = [each.subject for _, each in sorted(asyncio.run(snapshot_of(directory, at)).stored.items())]
    if as_json:
        echo_json([{**subject_json(each), "expired": each.next_update < now} for each in subjects])
        return EXIT_OK
    for each in subjects:
        state = "expired" if each.next_update < now else "current"
        click.echo(f"{title(each)}  issued {day(each.issued)}, {state} (next update {day(each.next_update)})")
    if not subjects:
        click.echo("The store is empty.")
    return EXIT_OK


@endorser.command()
@store_option
@root_option(multiple=False)
@click.option(
    "--listen", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Address to serve at."
)
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="PEM chain for https.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="PEM key for https.")
@click.option(
    "--user-token-file",
    "user_token",
    type=InputFile(_MAX_TOKEN),
    metavar="FILE",
    help="Token with which machines register, to get PCK certificates.",
)
@click.option(
    "--admin-token-file",
    "admin_token",
    type=InputFile(_MAX_TOKEN),
    metavar="FILE",
    help="Token with which administrators list platforms and put collateral.",
)
@retention_options
@source_options
def serve(
    *,
    directory: str,
    root: bytes | None,
    listen: str,
    tls_certificate: str | None,
    tls_key: str | None,
    user_token: bytes | None,
    admin_token: bytes | None,
    history_days: int | None,
    history_versions: int | None,
    platforms_days: int | None,
    platforms: int | None,
    **sources: Any,
) -> int:
    """Serve the store in the language of Intel's PCCS and AMD's KDS, and refresh it from the sources given, until stopped.

    Sources are asked in this order: --files, --pcs, --kds, --vendors. Without any, nothing is fetched. One line of JSON on standard
    output says when it is ready, and at which URL.
    """
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    anchor = anchor_of(root) if root is not None else INTEL_ROOT
    from eaa.endorser.pck_serve import Tokens  # noqa: PLC0415 - the HTTP server is needed here only
    from eaa.endorser.retention import Retention  # noqa: PLC0415

    configured = SourceOptions(anchor, **sources)
    retention = Retention(history_days, history_versions, platforms_days, platforms)
    tokens = Tokens.of(secret_text(user_token), secret_text(admin_token))

    async def run() -> None:
        async with await Store.open(directory, (anchor, *AMD_ROOTS)) as store:
            await _serve(store, anchor, configured, tokens, retention, listen, tls_certificate, tls_key)

    asyncio.run(run())
    return EXIT_OK


async def _serve(
    store: Store,
    anchor: TrustAnchor,
    configured: SourceOptions,
    tokens: Tokens,
    retention: Retention,
    listen: str,
    certificate: str | None,
    key_file: str | None,
) -> None:
    from eaa.endorser.metrics import Metrics  # noqa: PLC0415 - the HTTP server is needed here only
    from eaa.endorser.refresh import Refresher  # noqa: PLC0415
    from eaa.endorser.retention import prune_daily  # noqa: PLC0415
    from eaa.endorser.serve import create_app  # noqa: PLC0415

    metrics = Metrics()
    app = create_app(store, anchor, wanted=configured.wanted, metrics=metrics, tokens=tokens)
    server = _server(app, certificate, key_file)
    with listening_socket(listen) as bound:
        host, port = bound.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        url = f"{'https' if certificate else 'http'}://{host}:{port}"
        async with configured.open(store) as sources, asyncio.TaskGroup() as tasks:
            background = [tasks.create_task(store.follow())]
            if sources:
                refresher = Refresher(store, sources, wanted=configured.wanted, metrics=metrics)
                background.append(tasks.create_task(refresher.run()))
            if not retention.keeps_all:
                background.append(tasks.create_task(prune_daily(store, retention)))
            click.echo(json.dumps({"event": "ready", "url": url}))
            await server.serve(sockets=[bound])
            for each in background:
                each.cancel()


def _server(app: Starlette, certificate: str | None, key: str | None) -> uvicorn.Server:
    import uvicorn  # noqa: PLC0415 - the HTTP server is needed here only

    try:
        config = uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            lifespan="off",
            ssl_certfile=certificate,
            ssl_keyfile=key,
        )
        config.load()
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(
            f"the TLS certificate or key cannot be used: {type(error).__name__}"
        ) from error
    return uvicorn.Server(config)
