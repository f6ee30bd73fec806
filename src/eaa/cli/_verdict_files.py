# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict``, the commands that work on files alone: keys, sets and their signatures."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, at_option, echo_json, json_option
from eaa.cli._verdict_measure import key_option, measure
from eaa.cli._write import write_file
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.signers import SignerPolicy

__all__ = ["COMMANDS", "make_key", "read_file", "read_signers", "set_to_json"]

_MAX_ENVELOPE: Final = 8 << 20
_SET: Final = InputFile(_MAX_ENVELOPE)

signers_option = click.option(
    "--signers",
    "signers_file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="TOML file that says who may sign which product.",
)


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
    name = make_key(path, kind)
    if as_json:
        echo_json({"private": str(path), "public": f"{path}.pub", "key_id": name})
    else:
        click.echo(f"{path} signs, {path}.pub verifies; the key's id is {name}")


def make_key(path: Path, kind: str) -> str:
    """Make a key at ``path`` and its public half beside it; return its id.

    :raises ConfigurationError: when a file is there already, or cannot be written.
    """
    from eaa._keys import key_id, new_key, read_public_key  # noqa: PLC0415 - --help does not need it

    private, public = new_key("p256" if kind == "p256" else "ed25519")
    write_file(path, private, 0o600, new=True)
    write_file(Path(f"{path}.pub"), public, 0o644)
    return key_id(read_public_key(public))


@click.command()
@click.argument("path", metavar="SET", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@key_option
@click.option(
    "--out", type=click.Path(dir_okay=False, path_type=Path), help="Where to write it, instead of in place."
)
@json_option
def sign(path: Path, keys: Sequence[bytes], out: Path | None, *, as_json: bool) -> None:
    """Add a signature of each key to SET. A key that has signed already changes nothing.

    Look at what you sign first: eaa verdict show SET.

    \b
    Example:
      eaa verdict sign web-3.json --key security
    """  # noqa: D301 - click keeps the lines after \b
    from eaa._keys import read_private_key  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.envelope import countersign, parse_envelope  # noqa: PLC0415
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415

    data = _SET.convert(str(path), None, None)
    found = ReferenceSet.from_statement(parse_envelope(data).statement())
    for each in keys:
        data = countersign(data, read_private_key(each))
    write_file(out or path, data, 0o644)
    count = len(parse_envelope(data).signatures)
    if as_json:
        echo_json({"set": str(out or path), "digest": found.digest, "signatures": count})
    else:
        click.echo(f"{out or path}: {found.product} version {found.version}, {count} signatures")


@click.command(epilog="Exit status: 0 it holds, 1 it is refused, 2 bad usage or input.")
@click.argument("data", metavar="SET", type=_SET)
@signers_option
@at_option
@json_option
def verify(data: bytes, signers_file: Path, at: datetime, *, as_json: bool) -> None:
    """Tell whether SET is signed by enough of its product's signers, and valid. SET is an envelope, or a CoRIM that export made.

    \b
    Example:
      eaa verdict verify web-3.json --signers signers.toml
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.presented import open_signed_set  # noqa: PLC0415 - --help does not need it

    policy = read_signers(signers_file)
    opened = open_signed_set(data, policy, at)
    found, signers = opened.set, policy.of_product(opened.set.product)
    names = signers.names(opened.signed_by)
    if as_json:
        echo_json({"holds": True, "digest": found.digest, "signed_by": names, "threshold": signers.threshold})
        return
    click.echo(f"holds: {_title(found)}")
    click.echo(f"signed by {', '.join(names)}; {signers.threshold} must; valid {_until(found)}")


@click.command()
@click.argument("data", metavar="SET", type=_SET)
@json_option
def show(data: bytes, *, as_json: bool) -> None:
    """Show what SET says and who has signed it. Nothing is verified: that is eaa verdict verify.

    \b
    Example:
      eaa verdict show web-3.json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.envelope import parse_envelope  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415

    sealed = parse_envelope(data)
    found = ReferenceSet.from_statement(sealed.statement())
    signatures = [name for name, _ in sealed.signatures]
    if as_json:
        echo_json({**set_to_json(found), "signatures": signatures})
        return
    click.echo(_title(found))
    click.echo(f"digest      {found.digest}")
    click.echo(f"issued      {found.issued_at:%Y-%m-%d %H:%M} UTC, valid {_until(found)}")
    if found.supersedes is not None:
        click.echo(f"supersedes  version {found.supersedes}")
    if found.note:
        click.echo(f"note        {found.note}")
    for register in found.registers:
        click.echo(f"\n{register.register}")
        for value in register.values:
            click.echo(f"  {value}")
        for each in register.inputs:
            click.echo(f"  from {each.name:<14} {each.digest}")
    click.echo("\nartifacts")
    for artifact in found.artifacts:
        for algorithm, digest in artifact.digests:
            click.echo(f"  {artifact.name:<14} {algorithm}:{digest}")
    for each_digest in found.provenance:
        click.echo(f"  provenance     sha256:{each_digest}")
    for built in found.built_by:
        click.echo(f"  {built.artifact:<14} built by {built.builder}, as whoever made the set verified")
    click.echo("\nsignatures (not verified)" if signatures else "\nnobody has signed it")
    for name in signatures:
        click.echo(f"  {name or 'a key without an id'}")


def read_file(file: Path, limit: int) -> bytes:
    """Return the content of the signers' file, or of one that it names; one byte more than ``limit`` shows that there is more.

    :raises ConfigurationError: when it cannot be read.
    """
    try:
        with file.open("rb") as stream:
            return stream.read(limit + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise ConfigurationError(
            f"cannot read {str(file)[:200]!r}: {reason}",
            hint="Files are looked for beside the signers' file.",
        ) from error


def read_signers(path: Path, read: Callable[[Path, int], bytes] = read_file) -> SignerPolicy:
    """Read a signers' file; the key files that it names are looked for beside it.

    :raises ConfigurationError: when it or one of them cannot be used.
    """
    from eaa._keys import MAX_PEM  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.signers import MAX_SIGNERS, parse_signers  # noqa: PLC0415

    return parse_signers(read(path, MAX_SIGNERS), lambda name: read(path.parent / name, MAX_PEM))


def set_to_json(found: ReferenceSet) -> dict[str, Any]:
    """Return a set as commands show it in JSON."""
    return {
        "product": found.product,
        "version": found.version,
        "tee": found.tee,
        "digest": found.digest,
        "issued_at": found.issued_at.isoformat(),
        "expires_at": found.expires_at.isoformat() if found.expires_at else None,
        "supersedes": found.supersedes,
        "registers": [
            {
                "register": each.register,
                "values": list(each.values),
                "inputs": [{"name": one.name, "digest": one.digest} for one in each.inputs],
            }
            for each in found.registers
        ],
        "artifacts": [each.to_json() for each in found.artifacts],
        "provenance": list(found.provenance),
        "built_by": [asdict(each) for each in found.built_by],
        "note": found.note,
    }


def _title(found: ReferenceSet) -> str:
    return f"{found.product} version {found.version} for {found.tee}"


def _until(found: ReferenceSet) -> str:
    if found.expires_at is None:
        return "without an end"
    ended = " (it has ended)" if found.expires_at <= datetime.now(UTC) else ""
    return f"until {found.expires_at:%Y-%m-%d %H:%M} UTC{ended}"


COMMANDS: Final = (key, measure, sign, verify, show)
