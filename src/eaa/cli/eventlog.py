# SPDX-License-Identifier: Apache-2.0
"""``eaa eventlog``: what a log says was measured, and what it adds up to."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, echo_json, json_option
from eaa.cli._run import EXIT_OK, EXIT_REJECTED
from eaa.cli.verify import read_evidence

if TYPE_CHECKING:
    from eaa.eventlog import Event, EventLog

__all__ = ["eventlog", "read_log"]

MAX_FILE: Final = 8 * 1024 * 1024
"""Bytes of a file with an event log, which may be base64 or JSON."""
_MARKS: Final = {
    "content": ("✓", "green"),
    "unauthenticated": ("·", "bright_black"),
    "mismatch": ("✗", "red"),
}
_LEGEND: Final = (
    "✓ the digest is that of this content   · the digest is of something that is not in the log   "
    "✗ the content is not what was measured"
)


def read_log(data: bytes) -> EventLog:
    """Return the event log in ``data``: binary, its hex or base64, or JSON.

    :raises EvidenceError: when there is none.
    """
    from eaa.eventlog import parse_event_log  # noqa: PLC0415 - slow, and `--help` does not need it

    return parse_event_log(read_evidence(data))


@click.group()
def eventlog() -> None:
    """Show and replay event logs of firmware and guests (TCG, CC event log, dstack).

    \b
    Examples:
      eaa eventlog show /sys/firmware/acpi/tables/data/CCEL
      eaa eventlog replay binary_bios_measurements --json
    """  # noqa: D301 - click keeps the lines after \b


@eventlog.command(
    epilog="Exit status: 0 shown, 1 malformed, or an event's content is not what was measured, 2 bad usage."
)
@click.argument("log", metavar="FILE", type=InputFile(MAX_FILE))
@json_option
@click.pass_context
def show(ctx: click.Context, /, log: bytes, *, as_json: bool) -> None:
    """Say what each event of the log in FILE measured, in words, and whether its words can be believed.

    They can only if the log replays to registers that a TEE or TPM signed; see `eaa eventlog replay`.

    \b
    Example:
      eaa eventlog show /sys/firmware/acpi/tables/data/CCEL
    """  # noqa: D301 - click keeps the lines after \b
    parsed = read_log(log)
    entries = [_entry(parsed, event) for event in parsed.events]
    count = Counter(entry["authenticity"] for entry in entries)
    if as_json:
        echo_json(
            {
                "format": parsed.format,
                "registers": parsed.registers.value,
                "algorithms": list(parsed.algorithms),
                "events": entries,
            }
        )
    else:
        for entry in entries:
            mark, colour = _MARKS[entry["authenticity"]]
            click.echo(
                f"{entry['number']:>4} {entry['register']} {click.style(mark, fg=colour)} {entry['explanation']}"
            )
        click.echo(f"\n{len(entries)} events in {', '.join(parsed.algorithms)}. {_LEGEND}", err=True)
    ctx.exit(EXIT_REJECTED if count["mismatch"] else EXIT_OK)


@eventlog.command(epilog="Exit status: 0 replayed, 1 malformed, 2 bad usage.")
@click.argument("log", metavar="FILE", type=InputFile(MAX_FILE))
@json_option
def replay(log: bytes, *, as_json: bool) -> None:
    """Say which registers the events of the log in FILE end in, for every bank.

    \b
    Example:
      eaa eventlog replay binary_bios_measurements
    """  # noqa: D301 - click keeps the lines after \b
    parsed = read_log(log)
    banks = replayed(parsed)
    if as_json:
        echo_json({"format": parsed.format, "registers": parsed.registers.value, "banks": banks})
        return
    for algorithm, registers in banks.items():
        click.echo(f"{algorithm}:")
        for name, value in registers.items():
            click.echo(f"  {name} {value}")


def replayed(log: EventLog) -> dict[str, dict[str, str]]:
    """Return the registers by name, in hex, for each bank that can be replayed."""
    from eaa.eventlog.algorithms import BY_NAME  # noqa: PLC0415 - as above

    return {
        algorithm: {
            log.registers.name_of(index): value.hex()
            for index, value in sorted(log.replay(algorithm).items())
        }
        for algorithm in log.algorithms
        if algorithm in BY_NAME
    }


def _entry(log: EventLog, event: Event) -> dict[str, Any]:
    from eaa.eventlog import explain  # noqa: PLC0415 - as above

    finding = event.finding
    return {
        "number": event.number,
        "register": log.name_of(event),
        "type": event.type_name,
        "explanation": explain(event),
        "authenticity": finding.authenticity.value,
        "covers": finding.covers,
        "digests": {name: digest.hex() for name, digest in event.digests.items()},
        "data": event.data.hex(),
    }
