# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser``: import, fetch, list and serve chip makers' collateral."""

from __future__ import annotations

import asyncio
import json
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from eaa.cli._endorser_reports import (
    as_of_option,
    doctor,
    export,
    forecast,
    key,
    snapshot_of,
    store_option,
)
from eaa.cli._endorser_sources import SourceOptions, authority, source_options
from eaa.cli._listen import listening_socket
from eaa.cli._options import HexBytes, InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.files import load_endorsements
from eaa.endorser.history import EARLY, STANDARD, Outcome, number_slot
from eaa.endorser.store import Put, Store
from eaa.rats import ConfigurationError, EndorsementError, Endorsements, TrustAnchor
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.x509 import Certificate, read_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import uvicorn
    from starlette.applications import Starlette

    from eaa.endorser.authenticity import Subject

__all__ = ["endorser"]

_MAX_CERTIFICATE: Final = 64 * 1024


def _root_option(*, multiple: bool) -> Callable[[Any], Any]:
    return click.option(
        "--root",
        "roots" if multiple else "root",
        type=InputFile(_MAX_CERTIFICATE),
        multiple=multiple,
        metavar="FILE",
        help="Root certificate (PEM or DER) of another chip maker"
        + (", trusted beside Intel's." if multiple else ", instead of Intel's."),
    )


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


for _command in (doctor, export, forecast, key):
    endorser.add_command(_command)


@endorser.command("import")
@click.argument("path", type=click.Path(exists=True))
@store_option
@_root_option(multiple=True)
@click.option("--force", is_flag=True, help="Let older collateral replace newer.")
@click.option(
    "--key", "key_pem", type=InputFile(_MAX_CERTIFICATE), help="Public key of who signed the bundle."
)
@json_option
def import_(
    *, path: str, directory: str, roots: Sequence[bytes], force: bool, key_pem: bytes | None, as_json: bool
) -> int:
    """Import collateral from PATH: a collateral JSON document, a folder of PCS responses, the file of Intel's PCS Client Tool, or a
    bundle that `eaa endorser export` has signed.

    Each piece must be signed below Intel's or AMD's roots or one of --root; others are refused, and the exit status is 1 then.
    """  # noqa: D205 - the forms are one list
    ignored: list[str] = []
    anchors = _anchors(roots)
    found = _read(Path(path), key_pem, ignored)

    async def take_in() -> int:
        async with await Store.open(directory, anchors) as store:
            return await _take_in(store, found, ignored, source=Path(path).name, force=force, as_json=as_json)

    return asyncio.run(take_in())


def _read(path: Path, key_pem: bytes | None, ignored: list[str]) -> dict[str, Endorsements]:
    """Read what is to be imported, in whichever form, by slot."""
    from eaa.endorser.bundle import MAX_BUNDLE, open_bundle, read_public_key  # noqa: PLC0415
    from eaa.endorser.client_tool import is_tool_file, read_tool_file  # noqa: PLC0415

    if key_pem is not None or path.is_file():
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BUNDLE + 1)
        except OSError as error:
            raise EndorsementError(f"{path}: {error.strerror}", hint="Name a file or a folder.") from error
        if key_pem is not None:
            return open_bundle(data, read_public_key(key_pem)).slots
        if data.startswith(b"eyJ"):
            raise EndorsementError(
                f"{path} looks like a bundle, and nobody says who must have signed it", hint="Give --key."
            )
        if is_tool_file(data):
            return read_tool_file(data, path.name)
    return {STANDARD: load_endorsements(path, ignored=ignored)}


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
@_root_option(multiple=True)
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
    anchors = _anchors(roots)
    slot = EARLY if update == "early" else STANDARD
    if evaluation_number is not None:
        slot = number_slot(evaluation_number)

    async def ask() -> int:
        base = url or pcs.INTEL_PCS
        async with await Store.open(directory, anchors) as store:
            async with pcs.new_client(tls=authority(ca_file)) as client:
                found = await pcs.fetch(base, wanted, client, root_crl_url=root_crl_url)
            return await _take_in(store, {slot: found}, [], source=base, force=force, as_json=as_json)

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
        echo_json([{**_subject_json(each), "expired": each.next_update < now} for each in subjects])
        return EXIT_OK
    for each in subjects:
        state = "expired" if each.next_update < now else "current"
        click.echo(
            f"{_title(each)}  issued {_day(each.issued)}, {state} (next update {_day(each.next_update)})"
        )
    if not subjects:
        click.echo("The store is empty.")
    return EXIT_OK


@endorser.command()
@store_option
@_root_option(multiple=False)
@click.option(
    "--listen", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Address to serve at."
)
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="PEM chain for https.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="PEM key for https.")
@source_options
def serve(
    *,
    directory: str,
    root: bytes | None,
    listen: str,
    tls_certificate: str | None,
    tls_key: str | None,
    **sources: Any,
) -> int:
    """Serve the store in the language of Intel's PCCS and AMD's KDS, and refresh it from the sources given, until stopped.

    Sources are asked in this order: --files, --pcs, --kds, --vendors. Without any, nothing is fetched. One line of JSON on standard
    output says when it is ready, and at which URL.
    """
    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    anchor = _anchor(root) if root is not None else INTEL_ROOT
    configured = SourceOptions(anchor, **sources)

    async def run() -> None:
        async with await Store.open(directory, (anchor, *AMD_ROOTS)) as store:
            await _serve(store, anchor, configured, listen, tls_certificate, tls_key)

    asyncio.run(run())
    return EXIT_OK


async def _serve(
    store: Store,
    anchor: TrustAnchor,
    configured: SourceOptions,
    listen: str,
    certificate: str | None,
    key_file: str | None,
) -> None:
    from eaa.endorser.metrics import Metrics  # noqa: PLC0415 - the HTTP server is needed here only
    from eaa.endorser.refresh import Refresher  # noqa: PLC0415
    from eaa.endorser.serve import create_app  # noqa: PLC0415

    metrics = Metrics()
    app = create_app(store, anchor, wanted=configured.wanted, metrics=metrics)
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


def _anchors(roots: Sequence[bytes]) -> tuple[TrustAnchor, ...]:
    return (INTEL_ROOT, *AMD_ROOTS, *(_anchor(each) for each in roots))


def _anchor(certificate: bytes) -> TrustAnchor:
    """Read the root certificate that an operator pins."""
    in_pem = certificate.lstrip().startswith(b"-----BEGIN")
    root = read_certificates(certificate)[0] if in_pem else Certificate(certificate)
    if not root.self_issued:
        raise ConfigurationError(
            f"{root.name!r} is not a root: it is issued by another", hint="Give the root's own certificate."
        )
    simulated = (
        root.spki != INTEL_ROOT.public_key and "simulated" in root.x509.subject.rfc4514_string().lower()
    )
    return TrustAnchor(root.x509.subject.rfc4514_string(), root.spki, simulated)


async def _take_in(
    store: Store,
    found: dict[str, Endorsements],
    ignored: list[str],
    *,
    source: str,
    force: bool,
    as_json: bool,
) -> int:
    """Put each piece in by itself, so that one bad file does not keep the others out; report, and return the exit status."""
    puts: list[Put] = []
    refused: list[str] = []
    for slot, item in ((slot, item) for slot, each in found.items() for item in each.items):
        try:
            puts.extend(await store.put(Endorsements((item,)), slot=slot, source=source, force=force))
        except EndorsementError as error:
            refused.append(str(error))
    if as_json:
        stored = [{**_subject_json(subject), "outcome": outcome.value} for subject, outcome in puts]
        echo_json({"stored": stored, "refused": refused, "ignored": ignored})
    else:
        for subject, outcome in puts:
            click.echo(f"{outcome.value:<10}  {_title(subject)}  issued {_day(subject.issued)}")
        for reason in refused:
            click.echo(f"refused     {reason}", err=True)
        for name in ignored:
            click.echo(f"ignored     {name}: no collateral", err=True)
        if any(outcome is Outcome.KEPT_NEWER for _, outcome in puts):
            click.echo("hint: what is kept is newer; --force replaces it all the same", err=True)
    return EXIT_REJECTED if refused else EXIT_OK


def _title(subject: Subject) -> str:
    maker = "" if subject.root == anchor_id(INTEL_ROOT) else f"  below root {subject.root}"
    return f"{subject.kind:<12} {subject.scope:<16}{maker}"


def _day(when: datetime) -> str:
    return when.strftime("%Y-%m-%d")


def _subject_json(subject: Subject) -> dict[str, Any]:
    return {
        "kind": subject.kind,
        "root": subject.root,
        "scope": subject.scope,
        "issued": subject.issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "next_update": subject.next_update.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "evaluation_number": subject.evaluation_number,
    }
