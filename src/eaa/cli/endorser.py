# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser``: import, fetch, list and serve chip makers' collateral."""

from __future__ import annotations

import asyncio
import json
import socket
import ssl
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import click

from eaa.cli._options import HexBytes, InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.files import load_endorsements
from eaa.endorser.history import EARLY, STANDARD, Outcome, number_slot
from eaa.endorser.store import Put, Store
from eaa.rats import ConfigurationError, EndorsementError, Endorsements, TrustAnchor
from eaa.tee.x509 import Certificate, read_certificates
from eaa.tee.dcap.roots import INTEL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from starlette.applications import Starlette

    from eaa.endorser.authenticity import Subject
    from eaa.endorser.store import Snapshot

__all__ = ["endorser"]

_MAX_CERTIFICATE: Final = 64 * 1024

_store_option = click.option(
    "--store",
    "directory",
    metavar="DIR|URL",
    required=True,
    help="Folder of the store, created when it is not there; or the URL of a PostgreSQL database.",
)


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
      eaa endorser serve --store ./collateral --listen 127.0.0.1:8081
    """  # noqa: D301 - click keeps the lines after \b


@endorser.command("import")
@click.argument("path", type=click.Path(exists=True))
@_store_option
@_root_option(multiple=True)
@click.option("--force", is_flag=True, help="Let older collateral replace newer.")
@json_option
def import_(*, path: str, directory: str, roots: Sequence[bytes], force: bool, as_json: bool) -> int:
    """Import collateral from PATH: a collateral JSON document, or a folder of PCS responses.

    Each piece must be signed below Intel's root or one of --root; others are refused, and the exit status is 1 then.
    """
    ignored: list[str] = []
    anchors = _anchors(roots)
    found = load_endorsements(path, ignored=ignored)

    async def take_in() -> int:
        async with await Store.open(directory, anchors) as store:
            return await _take_in(store, found, ignored, force=force, as_json=as_json)

    return asyncio.run(take_in())


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
@_store_option
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
            async with pcs.new_client(tls=_authority(ca_file)) as client:
                found = await pcs.fetch(base, wanted, client, root_crl_url=root_crl_url)
            return await _take_in(store, found, [], slot=slot, source=base, force=force, as_json=as_json)

    return asyncio.run(ask())


@endorser.command("list")
@_store_option
@json_option
def list_(*, directory: str, as_json: bool) -> int:
    """List what the store holds, and what has expired."""
    now = datetime.now(UTC)
    subjects = [each.subject for _, each in sorted(asyncio.run(_snapshot(directory)).stored.items())]
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
@_store_option
@_root_option(multiple=False)
@click.option(
    "--listen", default="127.0.0.1:8081", show_default=True, metavar="HOST:PORT", help="Address to serve at."
)
@click.option("--tls-certificate", type=click.Path(exists=True, dir_okay=False), help="PEM chain for https.")
@click.option("--tls-key", type=click.Path(exists=True, dir_okay=False), help="PEM key for https.")
def serve(
    *, directory: str, root: bytes | None, listen: str, tls_certificate: str | None, tls_key: str | None
) -> int:
    """Serve the store in the language of Intel's PCCS, until stopped.

    One line of JSON on standard output says when it is ready, and at which URL.
    """
    from eaa.endorser.serve import create_app  # noqa: PLC0415 - the HTTP server is needed here only

    if (tls_certificate is None) != (tls_key is None):
        raise click.UsageError("--tls-certificate and --tls-key go together")
    anchor = _anchor(root) if root is not None else INTEL_ROOT

    async def run() -> None:
        async with await Store.open(directory, (anchor,)) as store:
            following = asyncio.create_task(store.follow())
            try:
                await _run_server(create_app(store, anchor), listen, tls_certificate, tls_key)
            finally:
                following.cancel()

    asyncio.run(run())
    return EXIT_OK


async def _snapshot(location: str) -> Snapshot:
    async with await Store.open(location) as store:
        return store.snapshot()


async def _run_server(app: Starlette, listen: str, certificate: str | None, key: str | None) -> None:
    import uvicorn  # noqa: PLC0415 - as above

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
    with _bound(listen) as bound:
        host, port = bound.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        url = f"{'https' if certificate else 'http'}://{host}:{port}"
        click.echo(json.dumps({"event": "ready", "url": url}))
        await uvicorn.Server(config).serve(sockets=[bound])


def _bound(listen: str) -> socket.socket:
    host, _, port = listen.rpartition(":")
    if not host or not port.isdecimal() or int(port) > 0xFFFF:
        raise click.UsageError(f"--listen is {listen!r}, expected HOST:PORT")
    host = host.removeprefix("[").removesuffix("]")
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return socket.create_server((host, int(port)), family=family)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {listen}: {error.strerror or error}") from error


def _anchors(roots: Sequence[bytes]) -> tuple[TrustAnchor, ...]:
    return (INTEL_ROOT, *(_anchor(each) for each in roots))


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


def _authority(ca_file: str | None) -> ssl.SSLContext | None:
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{Path(ca_file).name} is not a PEM certificate authority") from error


async def _take_in(
    store: Store,
    endorsements: Endorsements,
    ignored: list[str],
    *,
    slot: str = STANDARD,
    source: str = "import",
    force: bool,
    as_json: bool,
) -> int:
    """Put each piece in by itself, so that one bad file does not keep the others out; report, and return the exit status."""
    puts: list[Put] = []
    refused: list[str] = []
    for item in endorsements.items:
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
