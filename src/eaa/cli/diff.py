# SPDX-License-Identifier: Apache-2.0
"""``eaa diff``: what two boots, two pieces of evidence or two verdicts have differently."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.cli.eventlog import MAX_FILE, read_log, replayed
from eaa.cli.verify import read_evidence

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eaa.eventlog import Change, Event, EventLog, LogDifference

__all__ = ["diff"]

_VERDICT: Final = ("accepted", "tcb_status", "failed_checks")
"""What of a verdict is compared besides its registers."""
_FOR_NONE: Final = "(none)"


@dataclass(frozen=True)
class _Subject:
    """One side: the registers it states, by bank (an empty name when there is but one), and what it is."""

    banks: Mapping[str, Mapping[str, str]]
    log: EventLog | None = None
    verdict: Mapping[str, Any] | None = None


@click.command(epilog="Exit status: 0 the same, 1 they differ, 2 bad usage or input.")
@click.argument("before", metavar="A", type=InputFile(MAX_FILE))
@click.argument("after", metavar="B", type=InputFile(MAX_FILE))
@click.option("--tee", metavar="TEE", help="Kind of TEE, for evidence: tdx, snp, ….")
@json_option
@click.pass_context
def diff(ctx: click.Context, /, before: bytes, after: bytes, *, tee: str | None, as_json: bool) -> None:
    """Say what differs between A and B: two event logs, two pieces of evidence, two verdicts, or a log and what attests to it.

    Of event logs it says which event moved which register, and what changed in words. Of anything else, which registers differ.
    Neither side is verified by this.

    \b
    Examples:
      eaa diff boot-of-monday.bin boot-of-today.bin
      eaa diff monday.quote today.quote --tee tdx
      eaa diff ccel.bin today.quote --tee tdx
    """  # noqa: D301 - click keeps the lines after \b
    sides = [_read(name, data, tee) for name, data in (("A", before), ("B", after))]
    old, new = sides
    if old.log is not None and new.log is not None:
        same = _logs(old.log, new.log, as_json=as_json)
    else:
        same = _registers(old, new, as_json=as_json)
    ctx.exit(EXIT_OK if same else EXIT_REJECTED)


def _read(name: str, data: bytes, tee: str | None) -> _Subject:
    from eaa.rats import EvidenceError  # noqa: PLC0415 - slow, and `--help` does not need it

    verdict = _verdict(data)
    if verdict is not None:
        claims = verdict["claims"]
        return _Subject({"": _named(claims["measurements"], verdict["tee"])}, verdict=verdict)
    try:
        log = read_log(data)
    except EvidenceError as not_a_log:
        if tee is None:
            raise click.UsageError(
                f"{name}: neither a verdict nor an event log ({not_a_log}); evidence needs --tee"
            ) from None
    else:
        return _Subject(replayed(log), log=log)

    from eaa.tee.registry import parse_evidence  # noqa: PLC0415 - as above

    try:
        evidence = parse_evidence(read_evidence(data), tee=tee.lower())
    except EvidenceError as error:
        raise click.UsageError(f"{name}: {error} ({error.check})") from None
    return _Subject({"": _named(evidence.measurements, evidence.tee)})


def _verdict(data: bytes) -> dict[str, Any] | None:
    """Return what ``eaa verify --json`` wrote or Verdictd recorded, or None when ``data`` is neither."""
    if not data.lstrip().startswith(b"{"):
        return None
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        return None
    while isinstance(document, dict) and "checks" not in document:
        document = next((document[name] for name in ("appraisal", "document") if name in document), None)
    if not isinstance(document, dict):
        return None
    claims = document.get("claims")
    measurements = claims.get("measurements") if isinstance(claims, dict) else None
    return document if isinstance(measurements, dict) and isinstance(document.get("tee"), str) else None


def _named(measurements: Mapping[str, Any], tee: str) -> dict[str, str]:
    """Return what a reference value can speak of; a nonce and the like differ each time and mean nothing."""
    from eaa.rats import EvidenceError  # noqa: PLC0415 - as above
    from eaa.tee.registry import kind_of  # noqa: PLC0415 - as above

    try:
        known = kind_of(tee).registers
    except EvidenceError:  # a verdict of a kind that this installation does not have
        known = measurements
    return {name: str(value) for name, value in measurements.items() if name in known}


def _logs(old: EventLog, new: EventLog, *, as_json: bool) -> bool:
    from eaa.eventlog import diff as compare  # noqa: PLC0415 - as above
    from eaa.rats import EvidenceError  # noqa: PLC0415 - as above

    try:
        difference = compare(old, new)
    except EvidenceError as error:
        raise click.UsageError(f"{error}: {error.hint}") from None
    if as_json:
        echo_json({"compared": "event logs", **difference.to_json()})
    else:
        for line in _log_lines(difference):
            click.echo(line)
    return difference.same


def _log_lines(difference: LogDifference) -> Iterator[str]:
    moved = difference.moved
    unmoved = [each.name for each in difference.registers if not each.moved]
    if not moved:
        yield f"{click.style('SAME', fg='green', bold=True)} in every register ({difference.algorithm})"
        return
    names = ", ".join(each.name for each in moved)
    yield f"{click.style('DIFFERENT', fg='yellow', bold=True)}: {names} ({difference.algorithm})"
    for register in moved:
        yield ""
        yield f"{click.style(register.name, bold=True)} {_cause(register.changes)}"
        yield f"  A {register.before.hex()}"
        yield f"  B {register.after.hex()}"
        for change in register.changes:
            yield from _change_lines(change)
    if unmoved:
        yield ""
        yield f"same: {', '.join(unmoved)}"


def _cause(changes: tuple[Change, ...]) -> str:
    if not changes:
        return "begins with another value: the TPM was started at another locality"
    event = changes[0].after or changes[0].before
    assert event is not None
    side = "A" if changes[0].after is None else "B"
    return f"was moved first by event {event.number} of {side}"


def _change_lines(change: Change) -> Iterator[str]:
    from eaa.eventlog import explain  # noqa: PLC0415 - as above

    before, after = change.before, change.after
    if before is not None and after is not None:
        yield f"  ~ {_place(after)}"
        if explain(before) == explain(after):
            yield f"      {change.words()}"
        else:
            yield f"      A: {explain(before)}"
            yield f"      B: {explain(after)}"
    elif before is not None:
        yield f"  - {_place(before)}: {explain(before)}"
    elif after is not None:
        yield f"  + {_place(after)}: {explain(after)}"


def _place(event: Event) -> str:
    proof = {"content": "", "unauthenticated": ", unauthenticated", "mismatch": ", NOT WHAT WAS MEASURED"}
    return f"event {event.number}, {event.type_name}{proof[event.authenticity.value]}"


def _registers(old: _Subject, new: _Subject, *, as_json: bool) -> bool:
    pair = _comparable(old, new)
    rows = [
        {
            "name": name,
            "same": pair[0].get(name) == pair[1].get(name),
            "a": pair[0].get(name),
            "b": pair[1].get(name),
        }
        for name in dict.fromkeys((*pair[0], *pair[1]))
    ]
    same = all(row["same"] for row in rows)
    if as_json:
        echo_json({"compared": "registers", "same": same, "moved": _differing(rows), "registers": rows})
        return same
    if same:
        click.echo(
            f"{click.style('SAME', fg='green', bold=True)}: {', '.join(str(row['name']) for row in rows)}"
        )
        return True
    click.echo(f"{click.style('DIFFERENT', fg='yellow', bold=True)}: {', '.join(_differing(rows))}")
    for row in rows:
        if not row["same"]:
            click.echo(f"\n{click.style(str(row['name']), bold=True)}")
            click.echo(f"  A {row['a'] or _FOR_NONE}")
            click.echo(f"  B {row['b'] or _FOR_NONE}")
    unmoved = [str(row["name"]) for row in rows if row["same"]]
    if unmoved:
        click.echo(f"\nsame: {', '.join(unmoved)}")
    return False


def _differing(rows: list[dict[str, Any]]) -> list[str]:
    return [str(row["name"]) for row in rows if not row["same"]]


def _comparable(old: _Subject, new: _Subject) -> tuple[dict[str, str], dict[str, str]]:
    """Return the registers of both sides. Of a log only those that the other side has, in the bank it has them in."""
    if old.log is None and new.log is None:
        first, second = dict(old.banks[""]), dict(new.banks[""])
        if old.verdict is not None and new.verdict is not None:
            for name in _VERDICT:
                first[name], second[name] = (
                    _text(each.verdict.get(name)) for each in (old, new) if each.verdict
                )
        return first, second
    logged, stated = (old, new) if old.log is not None else (new, old)
    values = stated.banks[""]
    for registers in logged.banks.values():
        common = [
            name for name, value in registers.items() if name in values and len(values[name]) == len(value)
        ]
        if common:
            ours, theirs = ({name: each[name] for name in common} for each in (registers, values))
            return (ours, theirs) if logged is old else (theirs, ours)
    raise click.UsageError("the event log and the other side have no register in common")


def _text(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(str(each) for each in value)
    return "" if value is None else str(value)
