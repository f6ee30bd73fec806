# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict export`` and ``import``: sets in the formats of others."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, at_option, echo_json, json_option
from eaa.cli._verdict_measure import identity_options, sealed_set
from eaa.cli._write import write_file

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eaa.rats import TrustAnchor
    from eaa.verdict.imported import Imported
    from eaa.verdict.reference_set import ReferenceSet

__all__ = ["COMMANDS"]

_MAX_DOCUMENT: Final = 8 << 20
_MAX_KEY: Final = 64 << 10
_FORMATS: Final = ("corim", "rvps", "json")
_IDENTITY: Final = ("product", "version", "tee")


@click.command()
@click.argument("data", metavar="SET", type=InputFile(_MAX_DOCUMENT))
@click.option(
    "--format", "written", type=click.Choice(_FORMATS), required=True, help="Format of the document."
)
@click.option(
    "--key",
    "key_pem",
    type=InputFile(_MAX_KEY),
    help="Private key that signs the CoRIM; without it, it is unsigned.",
)
@click.option(
    "--carry",
    type=click.Choice(["sample", "corim"]),
    default="sample",
    show_default=True,
    help="What the RVPS message carries.",
)
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where it is written."
)
def export(data: bytes, written: str, key_pem: bytes | None, carry: str, out: Path) -> None:
    """Write SET as others read it: CoRIM (COSE, CBOR), a message of Trustee's RVPS, or names and values in JSON.

    Nothing of SET is verified: do that first, with eaa verdict verify.

    \b
    Examples:
      eaa verdict export web-3.json --format corim --key release --out web-3.corim
      eaa verdict export web-3.json --format rvps --out message.json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa._keys import read_private_key  # noqa: PLC0415 - --help does not need it
    from eaa.rim.rvps import Message, write_message  # noqa: PLC0415
    from eaa.verdict.corim import corim_of, signed_corim_of  # noqa: PLC0415
    from eaa.verdict.envelope import parse_envelope  # noqa: PLC0415
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415

    as_corim = written == "corim" or (written == "rvps" and carry == "corim")
    if key_pem is not None and not as_corim:
        raise click.UsageError("--key goes with a CoRIM: nothing else has a signature in it")
    found = ReferenceSet.from_statement(parse_envelope(data).statement())
    values = json.dumps(found.reference_values, indent=2).encode()
    content = values
    if as_corim:
        content = corim_of(found) if key_pem is None else signed_corim_of(found, read_private_key(key_pem))
    if written == "rvps":
        content = write_message(Message(carry, content))
    write_file(out, content, 0o644)
    click.echo(f"{out}: {found.product} version {found.version} as {written}")


@click.command("import")
@click.argument("data", metavar="FILE", type=InputFile(_MAX_DOCUMENT))
@click.option(
    "--format",
    "written",
    type=click.Choice([*_FORMATS, "swid"]),
    help="Format of the document; found out, unless told.",
)
@click.option(
    "--name",
    "renamed",
    multiple=True,
    metavar="NAME=REGISTER",
    help="Register that a value of the document is of, such as acme/web/0/digests=mr_td.",
)
@click.option(
    "--certificate",
    "certificates",
    type=InputFile(_MAX_KEY),
    multiple=True,
    help="PEM certificate of the root that the signer of a RIM in XML leads up to.",
)
@at_option
@click.option("--allow-unsigned", is_flag=True, help="Take a RIM in XML without verifying its signature.")
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), required=True, help="Where the set is written."
)
@json_option
def import_(
    *,
    data: bytes,
    written: str | None,
    renamed: Sequence[str],
    certificates: Sequence[bytes],
    at: datetime,
    allow_unsigned: bool,
    out: Path,
    as_json: bool,
    **described: Any,
) -> None:
    """Make a set of others' reference values in FILE. Nobody has signed it yet: it counts once its product's signers have.

    FILE is a CoRIM, signed or not, a message of Trustee's RVPS, a RIM in XML (SWID), or names and values in JSON. What names the set is
    asked for, unless FILE is a CoRIM that eaa verdict export made.

    \b
    Examples:
      eaa verdict import vendor.corim --product acme/guest --version 1 --tee snp --out guest-1.json
      eaa verdict import gpu.xml --certificate nvidia-root.pem --product nvidia/gpu --version 1 --tee nvidia --out gpu-1.json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.rim.swid import RimTrust  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.imported import Document, Format, format_of, read_document  # noqa: PLC0415 - --help does not need it

    kind = Format(written) if written is not None else format_of(data)
    trust = RimTrust(_anchors(certificates), at) if certificates else None
    found = read_document(Document(data, kind, trust, allow_unsigned))
    made = _imported_set(found, data, kind.value, _renamed(renamed), described)
    content, made = sealed_set(made, (), out)
    write_file(out, content, 0o644)
    if as_json:
        values = made.reference_values
        echo_json(
            {"set": str(out), "digest": made.digest, "reference_values": values, "notes": list(found.notes)}
        )
        return
    for name, values_of in made.reference_values.items():
        click.echo(f"{name}  {', '.join(values_of)}")
    for note in found.notes:
        click.echo(note, err=True)
    click.echo(f"{out}: {made.product} version {made.version} for {made.tee}, for its signers to sign")


import_.params = [*identity_options(click.STRING, required=False), *import_.params]


def _imported_set(
    found: Imported, data: bytes, kind: str, renamed: dict[str, str], described: dict[str, Any]
) -> ReferenceSet:
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.statement import Artifact  # noqa: PLC0415

    if found.set is not None:
        if renamed or any(value for value in described.values()):
            raise click.UsageError("the CoRIM names its set itself: leave the options that describe it out")
        return found.set
    if missing := [name for name in _IDENTITY if described[name] is None]:
        raise click.UsageError(f"--{missing[0]} is needed: the document does not name the set")
    return ReferenceSet(
        product=described["product"],
        version=described["version"],
        tee=described["tee"],
        registers=found.registers(renamed),
        artifacts=(Artifact.of(kind, data),),
        issued_at=described["issued"] or datetime.now(UTC),
        expires_at=described["expires"],
        supersedes=described["supersedes"],
        note=described["note"],
    )


def _renamed(pairs: Iterable[str]) -> dict[str, str]:
    listed = [each.rpartition("=") for each in pairs]
    if not all(name and register for name, _, register in listed):
        raise click.UsageError("--name is NAME=REGISTER")
    return {name: register for name, _, register in listed}


def _anchors(pems: Iterable[bytes]) -> tuple[TrustAnchor, ...]:
    from eaa.rats import TrustAnchor  # noqa: PLC0415 - --help does not need it
    from eaa.tee.x509 import read_certificates  # noqa: PLC0415

    found = [each.x509 for pem in pems for each in read_certificates(pem)]
    return tuple(TrustAnchor.from_certificate(each, simulated=False) for each in found)


COMMANDS: Final = (export, import_)
