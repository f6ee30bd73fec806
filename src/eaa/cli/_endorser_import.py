# SPDX-License-Identifier: Apache-2.0
"""``eaa endorser import``, and what every command needs that takes endorsements in."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._endorser_reports import store_option
from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.client_tool import (
    ToolPlatforms,
    is_platform_list,
    is_tool_file,
    read_tool_file,
    read_tool_platforms,
)
from eaa.endorser.files import load_endorsements
from eaa.endorser.history import STANDARD, Outcome
from eaa.endorser.pck_import import Imported, import_platforms
from eaa.endorser.store import Put, Store
from eaa.rats import ConfigurationError, EndorsementError, Endorsements, TrustAnchor
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.x509 import Certificate, read_certificates

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from eaa.endorser.authenticity import Subject

__all__ = ["anchor_of", "anchors_of", "day", "import_", "root_option", "subject_json", "take_in", "title"]

_MAX_CERTIFICATE: Final = 64 * 1024


def root_option(*, multiple: bool) -> Callable[[Any], Any]:
    """Add ``--root``, once or several times."""
    return click.option(
        "--root",
        "roots" if multiple else "root",
        type=InputFile(_MAX_CERTIFICATE),
        multiple=multiple,
        metavar="FILE",
        help="Root certificate (PEM or DER) of another chip maker"
        + (", trusted beside Intel's." if multiple else ", instead of Intel's."),
    )


@click.command("import")
@click.argument("path", type=click.Path(exists=True))
@store_option
@root_option(multiple=True)
@click.option("--force", is_flag=True, help="Let older collateral replace newer.")
@click.option(
    "--key", "key_pem", type=InputFile(_MAX_CERTIFICATE), help="Public key of who signed the bundle."
)
@json_option
def import_(
    *, path: str, directory: str, roots: Sequence[bytes], force: bool, key_pem: bytes | None, as_json: bool
) -> int:
    """Import collateral from PATH: a collateral JSON document, a folder of PCS responses, the file of Intel's PCS Client Tool, or a
    bundle that `eaa endorser export` has signed. Platforms in the tool's file, or in its platform_list.json, are registered, and
    their PCK certificates taken in.

    Each piece must be signed below Intel's or AMD's roots or one of --root; others are refused, and the exit status is 1 then.
    """  # noqa: D205 - the forms are one list
    ignored: list[str] = []
    anchors = anchors_of(roots)
    source = Path(path).name
    root = anchor_id(anchor_of(roots[0]) if roots else INTEL_ROOT)
    found, platforms = _read(Path(path), key_pem, ignored)

    async def run() -> int:
        async with await Store.open(directory, anchors) as store:
            imported = Imported()
            await import_platforms(store, platforms, root, source=source, into=imported)
            return await take_in(
                store, found, ignored, source=source, force=force, as_json=as_json, imported=imported
            )

    return asyncio.run(run())


def _read(
    path: Path, key_pem: bytes | None, ignored: list[str]
) -> tuple[dict[str, Endorsements], ToolPlatforms]:
    """Read what is to be imported, in whichever form: endorsements by slot, and platforms."""
    from eaa.endorser.bundle import MAX_BUNDLE, open_bundle, read_public_key  # noqa: PLC0415

    nobody = ToolPlatforms((), {})
    if key_pem is not None or path.is_file():
        try:
            with path.open("rb") as file:
                data = file.read(MAX_BUNDLE + 1)
        except OSError as error:
            raise EndorsementError(f"{path}: {error.strerror}", hint="Name a file or a folder.") from error
        if key_pem is not None:
            return open_bundle(data, read_public_key(key_pem)).slots, nobody
        if data.startswith(b"eyJ"):
            raise EndorsementError(
                f"{path} looks like a bundle, and nobody says who must have signed it", hint="Give --key."
            )
        if is_platform_list(data):
            return {}, read_tool_platforms(data, path.name)
        if is_tool_file(data):
            return read_tool_file(data, path.name), read_tool_platforms(data, path.name)
    return {STANDARD: load_endorsements(path, ignored=ignored)}, nobody


def anchors_of(roots: Sequence[bytes]) -> tuple[TrustAnchor, ...]:
    """Return the vendors' roots and those that the operator pins."""
    return (INTEL_ROOT, *AMD_ROOTS, *(anchor_of(each) for each in roots))


def anchor_of(certificate: bytes) -> TrustAnchor:
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


async def take_in(
    store: Store,
    found: dict[str, Endorsements],
    ignored: list[str],
    *,
    source: str,
    force: bool,
    as_json: bool,
    imported: Imported | None = None,
) -> int:
    """Put each piece in by itself, so that one bad file does not keep the others out; report, and return the exit status."""
    puts: list[Put] = []
    refused = list(imported.refused) if imported else []
    platforms = imported.platforms if imported else []
    for slot, item in ((slot, item) for slot, each in found.items() for item in each.items):
        try:
            puts.extend(await store.put(Endorsements((item,)), slot=slot, source=source, force=force))
        except EndorsementError as error:
            refused.append(str(error))
    if as_json:
        stored = [{**subject_json(subject), "outcome": outcome.value} for subject, outcome in puts]
        named = [{"platform": name, "new_certificates": new} for name, new in platforms]
        echo_json({"stored": stored, "platforms": named, "refused": refused, "ignored": ignored})
    else:
        for subject, outcome in puts:
            click.echo(f"{outcome.value:<10}  {title(subject)}  issued {day(subject.issued)}")
        for name, new in platforms:
            click.echo(f"registered  platform {name}, {new} new PCK certificates")
        for reason in refused:
            click.echo(f"refused     {reason}", err=True)
        for name in ignored:
            click.echo(f"ignored     {name}: no collateral", err=True)
        if any(outcome is Outcome.KEPT_NEWER for _, outcome in puts):
            click.echo("hint: what is kept is newer; --force replaces it all the same", err=True)
    return EXIT_REJECTED if refused else EXIT_OK


def title(subject: Subject) -> str:
    """Name what an endorsement is about, for a column."""
    maker = "" if subject.root == anchor_id(INTEL_ROOT) else f"  below root {subject.root}"
    return f"{subject.kind:<12} {subject.scope:<16}{maker}"


def day(when: datetime) -> str:
    """Return the day."""
    return when.strftime("%Y-%m-%d")


def subject_json(subject: Subject) -> dict[str, Any]:
    """Return what an endorsement is about as JSON."""
    return {
        "kind": subject.kind,
        "root": subject.root,
        "scope": subject.scope,
        "issued": subject.issued.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "next_update": subject.next_update.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "evaluation_number": subject.evaluation_number,
    }
