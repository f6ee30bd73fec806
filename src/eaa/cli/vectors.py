# SPDX-License-Identifier: Apache-2.0
"""``eaa vectors``: run recorded evidence, and hold the outcomes against what others found."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eaa.cli._options import echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["compare_outcomes", "vectors"]


@click.group()
def vectors() -> None:
    """Run recorded evidence and compare the outcomes."""


@vectors.command(epilog="Exit status: 0 every vector was run, 2 the manifest cannot be read.")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option(
    "--json",
    "out",
    metavar="OUT",
    type=click.Path(dir_okay=False, allow_dash=True),
    help="Write the outcomes as JSON.",
)
def run(manifest: Path, out: str | None) -> None:
    """Run every vector of MANIFEST, without reading what is expected of it.

    \b
    Example:
      eaa vectors run vectors/manifest.json --json outcomes.json
      eaa vectors compare vectors/manifest.json outcomes.json
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.cli._vector_runs import run_vector  # noqa: PLC0415 - slow, and `--help` does not need it
    from eaa.verifier import Verifier  # noqa: PLC0415

    verifier = Verifier()
    outcomes = [run_vector(vector, manifest.parent, verifier) for vector in _vectors(manifest)]
    if out is None:
        for outcome in outcomes:
            failed = ", ".join(outcome["failed_checks"])
            click.echo(
                f"{outcome['outcome']:<12}{outcome['id']:<36}{outcome['tcb_status'] or '':<20}{failed}"
            )
    else:
        with click.open_file(out, "w", encoding="utf-8", atomic=out != "-") as file:
            json.dump(outcomes, file, indent=1)
            file.write("\n")
    counts = Counter(outcome["outcome"] for outcome in outcomes)
    click.echo(", ".join(f"{count} {name}" for name, count in sorted(counts.items())), err=True)


@vectors.command(epilog="Exit status: 0 all agree, 1 some differ, 2 bad usage or input.")
@click.argument("manifest", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.argument("out", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@json_option
@click.pass_context
def compare(ctx: click.Context, manifest: Path, out: Path, as_json: bool) -> None:  # noqa: FBT001 - click passes by name
    """Hold the outcomes in OUT against what MANIFEST expects."""
    outcomes = {each["id"]: each for each in _read_json(out, list)}
    agreed, unsupported = 0, 0
    differences: dict[str, list[str]] = {}
    for vector in _vectors(manifest):
        outcome = outcomes.get(vector["id"])
        found = compare_outcomes(vector.get("expected", {}), outcome) if outcome else ["was not run"]
        if found:
            differences[vector["id"]] = found
        elif outcome and outcome["outcome"] == "unsupported":
            unsupported += 1
        else:
            agreed += 1
    if as_json:
        echo_json({"agreed": agreed, "unsupported": unsupported, "differences": differences})
    else:
        for name, found in differences.items():
            click.echo(f"{name}: {'; '.join(found)}")
        click.echo(
            f"{agreed} agree, {len(differences)} differ, {unsupported} of a kind that is not verified yet"
        )
    ctx.exit(EXIT_REJECTED if differences else EXIT_OK)


def _vectors(manifest: Path) -> list[dict[str, Any]]:
    listed = _read_json(manifest, dict).get("vectors")
    if not isinstance(listed, list) or not all(isinstance(each, dict) and "id" in each for each in listed):
        raise click.UsageError(f"{manifest}: no list of vectors with ids")
    return listed


def _read_json(path: Path, kind: type[Any]) -> Any:
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise click.UsageError(f"{path}: not JSON: {error}") from error
    if not isinstance(value, kind):
        raise click.UsageError(f"{path}: a JSON {kind.__name__} is expected")
    return value


def compare_outcomes(expected: Mapping[str, Any], outcome: Mapping[str, Any]) -> list[str]:
    """Return every difference between what a manifest expects and what was found, in words; empty when they agree."""
    if outcome["outcome"] == "unsupported":
        return []
    differences = []
    valid, found = expected.get("valid"), outcome["outcome"]
    if valid is not None and found != ("valid" if valid else "invalid"):
        differences.append(f"expected {'valid' if valid else 'invalid'}, found {found}")
    if expected.get("signature_ok") and valid is None and found not in {"valid", "parsed"}:
        differences.append(f"expected good signatures, found {found}")
    differences.extend(
        f"{name}: expected {expected[name]}, found {outcome[name]}"
        for name in ("tcb_status", "debug", "report_data")
        if expected.get(name) is not None and outcome[name] is not None and expected[name] != outcome[name]
    )
    if expected.get("tcb_status") is not None and outcome["tcb_status"] is None:
        differences.append(f"tcb_status: expected {expected['tcb_status']}, found none")
    advisories = expected.get("advisory_ids")
    if advisories is not None and sorted(advisories) != sorted(outcome["advisory_ids"]):
        differences.append(f"advisory_ids: expected {sorted(advisories)}, found {outcome['advisory_ids']}")
    found_registers = outcome["measurements"]
    if found == "invalid" and not found_registers:
        return differences  # malformed evidence states nothing
    for name, value in _expected_registers(expected).items():
        if found_registers.get(name) != value:
            differences.append(f"{name}: expected {value}, found {found_registers.get(name)}")
    return differences


def _expected_registers(expected: Mapping[str, Any]) -> dict[str, Any]:
    """Return the registers that a manifest states, of evidence and of event logs, under one set of names."""
    rtmrs = {f"rtmr_{number}": value for number, value in expected.get("rtmr", {}).items()}
    return {**expected.get("measurements", {}), **expected.get("pcrs", {}), **rtmrs}
