# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict``, the commands that build: build, rebuild, and compare what builders made."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._run import EXIT_REJECTED

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa._keys import PrivateKey
    from eaa.verdict.build import Workshop
    from eaa.verdict.build_file import BuildFile
    from eaa.verdict.provenance import BuilderPolicy, Provenance
    from eaa.verdict.rebuild import Rebuild

__all__ = ["COMMANDS", "read_builders"]

_Command = TypeVar("_Command", bound="Callable[..., Any]")
_FOLDER: Final = click.Path(file_okay=False, path_type=Path)
_EXISTING: Final = click.Path(exists=True, file_okay=False, path_type=Path)
_KEY: Final = InputFile(64 * 1024)


def _build_options(command: _Command) -> _Command:
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


_OPTIONS: Final = (
    click.option("--out", type=_FOLDER, required=True, help="Folder for outputs and provenance."),
    click.option("--key", type=_KEY, help="Private key (PEM) that signs the provenance."),
    click.option("--builder", help="Name of this builder, a URI; one that follows from the key by default."),
    click.option(
        "--packages", type=_EXISTING, help="Folder with .deb files, looked into before apt is asked."
    ),
    click.option("--cache", type=_FOLDER, help="Folder where fetched packages are kept."),
    json_option,
)


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_build_options
def build(
    file: Path,
    out: Path,
    key: bytes | None,
    builder: str | None,
    packages: Path | None,
    cache: Path | None,
    *,
    as_json: bool,
) -> None:
    """Build what FILE describes, in a sandbox, and say where it comes from.

    Outputs and their provenance (SLSA v1, signed with --key) appear in --out together, or not at all. What is there already from the
    same build file is not built again.

    \b
    Example:
      eaa verdict build examples/guest/build.toml --out dist --key builder
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.build_file import parse_build_file  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.make import Identity, build_into  # noqa: PLC0415

    said = parse_build_file(_read(file))
    identity = Identity.of(_private(key), builder)
    workshop = _workshop(said, file.parent, packages, cache, quiet=as_json)
    provenance, built = build_into(out, said, workshop, identity)
    outputs = {each.name: each.sha256 for each in provenance.outputs}
    if as_json:
        echo_json(
            {
                "built": built,
                "builder": identity.id,
                "signed": key is not None,
                "out": str(out),
                "outputs": outputs,
            }
        )
        return
    click.echo("built:" if built else "up to date:")
    _list(outputs, out)
    if key is None:
        click.echo("the provenance is not signed: without --key it proves nothing to anybody")


@click.command()
@click.argument(
    "subject", metavar="PROVENANCE|FILE", type=click.Path(exists=True, dir_okay=False, path_type=Path)
)
@click.option(
    "--sources",
    type=_EXISTING,
    help="Folder of the build file's sources; by default that of PROVENANCE or FILE.",
)
@_build_options
@click.pass_context
def rebuild(
    ctx: click.Context,
    subject: Path,
    sources: Path | None,
    out: Path,
    key: bytes | None,
    builder: str | None,
    packages: Path | None,
    cache: Path | None,
    *,
    as_json: bool,
) -> None:
    """Build again under other conditions, and compare bit by bit.

    Clock, time zone, locale, path, user, umask, cores, file order and times, and environment are varied. A provenance names the build
    file and the outputs to compare with; a build FILE is built first as it stands. Where outputs differ, diffoscope says how, and the
    status is 1.

    \b
    Example:
      eaa verdict rebuild dist/provenance.dsse.json --sources examples/guest --out again
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.build_file import parse_build_file  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.delivery import PROVENANCE_FILE, deliver  # noqa: PLC0415
    from eaa.verdict.make import Identity  # noqa: PLC0415

    data = _read(subject)
    earlier = _provenance(data)
    said = parse_build_file(data if earlier is None else earlier.build_file())
    identity = Identity.of(_private(key), builder)
    workshop = _workshop(said, sources or subject.parent, packages, cache, quiet=as_json)
    with workshop.sandbox.stage() as stage:
        found = _rebuild(said, workshop, stage, identity.id, earlier, subject.parent)
        report = json.dumps(found.to_json(), indent=2).encode() + b"\n"
        sealed = {PROVENANCE_FILE: identity.seal(found.made.provenance), "rebuild.json": report}
        deliver(out, {**found.made.files, **found.reports, **sealed})
    if as_json:
        echo_json(found.to_json())
    else:
        _show(found, out)
    if not found.reproducible:
        ctx.exit(EXIT_REJECTED)


def _rebuild(
    said: BuildFile, workshop: Workshop, stage: Path, builder: str, earlier: Provenance | None, beside: Path
) -> Rebuild:
    from eaa.verdict.delivery import sha256_of  # noqa: PLC0415 - as above
    from eaa.verdict.make import make  # noqa: PLC0415
    from eaa.verdict.rebuild import rebuild as build_again  # noqa: PLC0415

    workshop.check_sources(said)
    if earlier is None:
        first = make(said, workshop, stage / "build", builder)
        provenance, originals = first.provenance, first.files
    else:
        provenance = earlier
        originals = {
            each.name: beside / each.name
            for each in earlier.outputs
            if each.name in said.outputs
            and (beside / each.name).is_file()
            and sha256_of(beside / each.name) == each.sha256
        }
    expected = {each.name: each.sha256 or "" for each in provenance.outputs}
    cores = len(os.sched_getaffinity(0))
    return build_again(said, workshop, stage, builder, expected, originals, cores)


@click.command()
@click.argument("provenance", nargs=-1, required=True, type=InputFile())
@click.option(
    "--builders",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    required=True,
    help="Builders that are trusted, and their keys (TOML).",
)
@click.option(
    "--threshold", type=click.IntRange(min=1), default=2, show_default=True, help="How many must agree."
)
@click.option(
    "--artifact",
    "artifacts",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    multiple=True,
    help="File that each provenance must speak of.",
)
@click.option(
    "--trusted-root",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Roots of sigstore bundles, instead of the public instance's.",
)
@json_option
@click.pass_context
def compare(
    ctx: click.Context,
    provenance: tuple[bytes, ...],
    builders: Path,
    threshold: int,
    artifacts: tuple[Path, ...],
    trusted_root: Path | None,
    *,
    as_json: bool,
) -> None:
    """Say whether independent builders made the same.

    Each PROVENANCE, a DSSE envelope or a sigstore bundle, must be signed by the builder that it names. A builder counts once. If one of them made something else, or they are
    fewer than --threshold, the status is 1 and nothing of it should be published.

    \b
    Example:
      eaa verdict compare a/provenance.dsse.json b/provenance.dsse.json --builders builders.toml --artifact initrd
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.verdict.agreement import compare as lay_beside  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.delivery import sha256_of  # noqa: PLC0415
    from eaa.verdict.provenance import check_provenance, open_signed  # noqa: PLC0415

    policy = read_builders(builders)
    given = {path.name: sha256_of(path) for path in artifacts}
    proven = [check_provenance(open_signed(each, policy, trusted_root), policy, given) for each in provenance]
    agreement = lay_beside(proven, threshold)
    if as_json and not agreement.reached:
        echo_json(agreement.to_json())
        ctx.exit(EXIT_REJECTED)
    outputs = agreement.require()
    if as_json:
        echo_json(agreement.to_json())
        return
    click.echo(f"{len(agreement.builders)} builders agree: {', '.join(agreement.builders)}")
    for name, digest in outputs.items():
        click.echo(f"  {digest}  {name}")


def read_builders(path: Path) -> BuilderPolicy:
    """Read a file of trusted builders; the key files that it names are looked for beside it.

    :raises ConfigurationError: when it or one of them cannot be used.
    """
    from eaa.verdict.provenance import parse_builders  # noqa: PLC0415 - --help does not need it

    return parse_builders(_read(path), lambda name: _read(path.parent / name))


def _workshop(
    said: BuildFile, folder: Path, packages: Path | None, cache: Path | None, *, quiet: bool
) -> Workshop:
    """Prepare this machine: find the sandbox first, as nothing is to be fetched for a build that cannot run."""
    from eaa.verdict.build import Workshop  # noqa: PLC0415 - as above
    from eaa.verdict.packages import collect, default_cache  # noqa: PLC0415
    from eaa.verdict.sandbox import Sandbox  # noqa: PLC0415

    def say(what: str) -> None:
        if not quiet:
            click.echo(what, err=True)

    sandbox = Sandbox.find()
    found = collect(said.packages, said.environment, cache=cache or default_cache(), given=packages, say=say)
    return Workshop(sandbox, folder, found, say)


def _provenance(data: bytes) -> Provenance | None:
    """Return what an envelope says, proven or not, as a rebuild believes nothing but its own result; or nothing for a build file."""
    from eaa.verdict.envelope import parse_envelope  # noqa: PLC0415 - as above
    from eaa.verdict.provenance import Provenance  # noqa: PLC0415

    if not data.lstrip().startswith(b"{"):
        return None
    return Provenance.from_statement(parse_envelope(data).statement())


def _show(found: Rebuild, out: Path) -> None:
    for each in found.variations:
        click.echo(f"  {'varied' if each.applied else 'kept':<7} {each.name}: {each.how}")
    if found.reproducible:
        click.echo("reproducible: every output is the same, bit by bit")
        _list({each.name: each.sha256 for each in found.made.provenance.outputs}, out)
        return
    click.echo("not reproducible:")
    for difference in found.differences:
        where = "" if difference.offset is None else f", first at byte {difference.offset}"
        click.echo(f"  {difference.output} differs{where}")
        click.echo(f"    expected {difference.expected}\n    found    {difference.found}")
        click.echo("".join(f"    {_shown(line)}\n" for line in difference.report.splitlines()), nl=False)
    if found.reports:
        click.echo(f"whole reports: {', '.join(str(out / name) for name in sorted(found.reports))}")


def _shown(line: str) -> str:
    """Return a line of a report without what a terminal would obey."""
    return "".join(c if c.isprintable() else " " for c in line)


def _list(outputs: Mapping[str, str | None], out: Path) -> None:
    for name, digest in outputs.items():
        click.echo(f"  {digest}  {out / name}")


def _private(pem: bytes | None) -> PrivateKey | None:
    from eaa._keys import read_private_key  # noqa: PLC0415 - as above

    return None if pem is None else read_private_key(pem)


def _read(path: Path) -> bytes:
    return InputFile().convert(path, None, None)


COMMANDS: Final = (build, rebuild, compare)
