# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict measure``: one command from artefacts to a signed set. What it is made of serves ``publish``, too."""

from __future__ import annotations

import copy
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click
from click.core import ParameterSource

from eaa.cli._measure.sev import measured_sev, snp
from eaa.cli._measure.sgx import measured_sgx, sgx
from eaa.cli._measure.tdx import measured_tdx, tdx
from eaa.cli._options import InputFile, Rfc3339, echo_json, json_option
from eaa.cli._write import write_file
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from eaa.verdict.reference_set import BuiltBy, ReferenceSet, RegisterValue
    from eaa.verdict.statement import Artifact

__all__ = ["described_set", "identity_options", "key_option", "measure", "sealed_set", "set_options"]

_TEES: Final[Mapping[str, click.Command]] = {"tdx": tdx, "snp": snp, "sgx": sgx}
_MAX_ENVELOPE: Final = 8 << 20
_MAX_KEY: Final = 64 << 10
_EXISTING: Final = click.Path(exists=True, dir_okay=False, path_type=Path)
_ALIASES: Final = {"append": "cmdline"}
"""Options of ``eaa measure`` that ask for the same by another name."""

key_option = click.option(
    "--key",
    "keys",
    type=InputFile(_MAX_KEY),
    multiple=True,
    required=True,
    help="Private key that signs; several times for several signatures. `eaa verdict key new` makes one.",
)


def _artefacts_of(tee: str) -> dict[str, click.Option]:
    """Return the options of ``eaa measure TEE`` that say what is measured, by name."""
    return {
        _ALIASES.get(each.name, each.name): each
        for each in _TEES[tee].params
        if isinstance(each, click.Option) and each.name not in {"events", "as_json"}
    }


def set_options(command: click.Command) -> click.Command:
    """Add what describes a set: its name, validity and origin, and the options of ``eaa measure`` for every kind of TEE."""
    artefacts: dict[str, click.Option] = {}
    for tee in _TEES:
        for name, option in _artefacts_of(tee).items():
            if name not in artefacts or option.required:  # whoever needs it knows best what it is
                artefacts[name] = copy.copy(option)
                artefacts[name].required = False
    identity = identity_options(click.Choice(list(_TEES)), required=True)
    command.params = [*identity, *_ORIGIN, *artefacts.values(), *command.params]
    return command


def identity_options(tee: click.ParamType[Any], *, required: bool) -> list[click.Option]:
    """Return what names a set and says how long it is valid."""
    return [
        click.Option(["--product"], required=required, help="Line of software, such as acme/web."),
        click.Option(
            ["--version", "version"],
            type=click.IntRange(1),
            required=required,
            help="Number of the set; higher than any before.",
        ),
        click.Option(["--tee"], type=tee, required=required, help="Kind of TEE it runs in."),
        click.Option(["--expires"], type=Rfc3339(), help="When the set ends; without it, it has no end."),
        click.Option(["--issued"], type=Rfc3339(), help="When the set begins; now, unless told."),
        click.Option(
            ["--supersedes"], type=click.IntRange(1), help="Version that it retires when it becomes active."
        ),
        click.Option(["--note"], default="", help="Words for whoever reads the set."),
    ]


_ORIGIN: Final = (
    click.Option(
        ["--register", "registers"],
        multiple=True,
        metavar="NAME=VALUE",
        help="Value of a register that does not follow from the artefacts, such as mr_config_id=….",
    ),
    click.Option(
        ["--provenance", "provenance"],
        type=InputFile(_MAX_ENVELOPE),
        multiple=True,
        help="Signed statement about where an artefact comes from, a DSSE envelope or a sigstore bundle; kept by its digest.",
    ),
    click.Option(
        ["--builders"],
        type=_EXISTING,
        help="TOML file of trusted builders: every provenance must hold, and the set says who built what.",
    ),
    click.Option(
        ["--agree"],
        type=click.IntRange(min=1),
        default=1,
        show_default=True,
        help="How many of the trusted builders must have made the same, or no set is made.",
    ),
    click.Option(
        ["--trusted-root"],
        type=_EXISTING,
        help="Roots of sigstore bundles, instead of the public instance's.",
    ),
)


@set_options
@click.command()
@key_option
@click.option(
    "--out",
    type=click.Path(dir_okay=False, path_type=Path),
    required=True,
    help="Where the signed set is written.",
)
@json_option
def measure(*, keys: Sequence[bytes], out: Path, as_json: bool, **options: Any) -> None:
    """Measure artefacts, and sign what they measure to as one version of a product.

    The options that describe the artefacts are those of eaa measure for that kind of TEE. Run again with the same artefacts, it leaves the
    set as it is and adds the signatures that are missing; a version whose content would be another is refused.

    \b
    Examples:
      eaa verdict measure --product acme/web --version 3 --tee tdx --firmware OVMF.fd --kernel vmlinuz \\
        --initrd initrd.img --cmdline 'console=ttyS0' --key release --out web-3.json
      eaa verdict measure --product acme/web --version 4 --tee tdx --firmware OVMF.fd --kernel vmlinuz \\
        --initrd initrd.img --cmdline 'console=ttyS0' --provenance dist/provenance.dsse.json --builders builders.toml \\
        --key release --out web-4.json
    """  # noqa: D301 - click keeps the lines after \b
    described, notes = described_set(options)
    data, found = sealed_set(described, keys, out)
    write_file(out, data, 0o644)
    if as_json:
        values = found.reference_values
        echo_json({"set": str(out), "digest": found.digest, "reference_values": values, "notes": notes})
        return
    for name, listed in found.reference_values.items():
        click.echo(f"{name:<12}  {', '.join(listed)}")
    for built in found.built_by:
        click.echo(f"{built.artifact:<12}  built by {built.builder}")
    for note in notes:
        click.echo(note, err=True)
    until = f"until {found.expires_at:%Y-%m-%d %H:%M} UTC" if found.expires_at else "without an end"
    click.echo(f"{out}: {found.product} version {found.version} for {found.tee}, valid {until}")


def described_set(options: Mapping[str, Any]) -> tuple[ReferenceSet, list[str]]:
    """Return the set that the options of :func:`set_options` describe, and what is to be said of it in words."""
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415 - --help does not need it

    tee = options["tee"]
    _check_options(tee, options)
    registers, notes = _measured(tee, options)
    registers = (*registers, *_given(options["registers"]))
    missing = _required(tee, [each.register for each in registers])
    notes += [
        f"{name}: {tee} evidence is refused without a value of it; give it with --register"
        for name in missing
    ]
    artifacts = tuple(_artifacts(tee, options))
    proofs = tuple(dict.fromkeys(options["provenance"]))
    found = ReferenceSet(
        product=options["product"],
        version=options["version"],
        tee=tee,
        registers=registers,
        artifacts=artifacts,
        issued_at=options["issued"] or datetime.now(UTC),
        expires_at=options["expires"],
        supersedes=options["supersedes"],
        provenance=tuple(sha256(each).hexdigest() for each in proofs),
        built_by=_built_by(artifacts, proofs, options),
        note=options["note"],
    )
    return found, notes


def _built_by(
    artifacts: Sequence[Artifact], proofs: Sequence[bytes], options: Mapping[str, Any]
) -> tuple[BuiltBy, ...]:
    """Hold provenance to the trusted builders, if they are given; else only to the artifacts."""
    from eaa.verdict.measured import built_by, check_provenance  # noqa: PLC0415 - --help does not need it

    if options["builders"] is None:
        if options["trusted_root"] is not None:
            raise click.UsageError("--trusted-root goes with --builders")
        if options["agree"] > 1:
            raise click.UsageError("--agree goes with --builders: only trusted builders count")
        check_provenance(artifacts, proofs)
        return ()
    if not proofs:
        raise click.UsageError("--builders goes with --provenance: there is nothing to verify")
    from eaa.cli._verdict_build import read_builders  # noqa: PLC0415 - most sets are made without

    policy = read_builders(options["builders"])
    return built_by(artifacts, proofs, policy, options["trusted_root"], agree=options["agree"])


def sealed_set(described: ReferenceSet, keys: Iterable[bytes], out: Path) -> tuple[bytes, ReferenceSet]:
    """Return the signed set and what it says; where ``out`` holds the same but for its beginning, that one with the keys' signatures, too.

    :raises ConfigurationError: when ``out`` holds another set of the same product and version, or a key is none.
    """
    from eaa._keys import read_private_key  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.envelope import countersign, parse_envelope, seal  # noqa: PLC0415
    from eaa.verdict.reference_set import ReferenceSet  # noqa: PLC0415

    signing = [read_private_key(each) for each in keys]
    if not out.is_file():
        return seal(described.to_statement(), signing), described
    data = out.read_bytes()
    before = ReferenceSet.from_statement(parse_envelope(data).statement())
    if replace(before, issued_at=described.issued_at) == described:
        for key in signing:
            data = countersign(data, key)
        return data, before
    if (before.product, before.version) == (described.product, described.version):
        raise ConfigurationError(
            f"{out} is version {before.version} of {before.product} with other content",
            hint=f"What is signed stays as it is: give --version {before.version + 1}, or another --out.",
        )
    return seal(described.to_statement(), signing), described


def _check_options(tee: str, options: Mapping[str, Any]) -> None:
    """Refuse options of another kind of TEE, and the lack of one that this kind needs."""
    known, context = _artefacts_of(tee), click.get_current_context()
    for other in _TEES:
        for name, option in _artefacts_of(other).items():
            given = context.get_parameter_source(name) not in {None, ParameterSource.DEFAULT}
            if name not in known and given:
                raise click.UsageError(f"{option.opts[0]} is no option of --tee {tee}")
    for name, option in known.items():
        if option.required and options.get(name) is None:
            raise click.UsageError(f"--tee {tee} needs {option.opts[0]}")
    if options.get("mode") == "sev-es" and tee == "snp":
        raise click.UsageError("an SEV-ES guest has no evidence: measure it with eaa measure snp")


def _measured(tee: str, options: Mapping[str, Any]) -> tuple[tuple[RegisterValue, ...], list[str]]:
    from eaa.verdict.measured import registers_of  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.reference_set import RegisterValue  # noqa: PLC0415

    if tee == "sgx":
        values, notes = measured_sgx(options)
        return tuple(RegisterValue(name, (value,)) for name, value in values.items()), notes
    measured = (
        measured_tdx(options) if tee == "tdx" else measured_sev({**options, "append": options["cmdline"]})
    )
    return registers_of(measured), list(measured.unknown)


def _given(registers: Iterable[str]) -> Iterator[RegisterValue]:
    from eaa.verdict.reference_set import RegisterValue  # noqa: PLC0415 - --help does not need it

    listed: dict[str, list[str]] = {}
    for each in registers:
        name, found, value = each.partition("=")
        if not found:
            raise click.UsageError(f"{each[:100]!r} is not NAME=VALUE")
        listed.setdefault(name, []).append(value.lower())
    return (RegisterValue(name, tuple(values)) for name, values in listed.items())


def _required(tee: str, registers: Sequence[str]) -> list[str]:
    from eaa.tee.registry import kind_of  # noqa: PLC0415 - --help does not need it

    return sorted(kind_of(tee).required(registers) - set(registers))


def _artifacts(tee: str, options: Mapping[str, Any]) -> Iterator[Artifact]:
    """Return each file that was measured, and the command line, under the option's name."""
    from eaa.verdict.statement import Artifact  # noqa: PLC0415 - --help does not need it

    for name in _artefacts_of(tee):
        value = options[name]
        content = value.encode() if name == "cmdline" and value is not None else value
        if isinstance(content, bytes):
            yield Artifact.of(name.replace("_", "-"), content)
