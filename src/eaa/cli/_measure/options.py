# SPDX-License-Identifier: Apache-2.0
"""Parameter types of ``eaa measure``, and how its answers are printed."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._options import InputFile, echo_json
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from eaa.tee.measured import MeasuredEvent
    from eaa.tee.tdx.acpi import AcpiBlobs

__all__ = [
    "ACPI",
    "FIRMWARE",
    "INITRD",
    "KERNEL",
    "AcpiFolder",
    "Memory",
    "Number",
    "events_option",
    "listed",
    "show",
]

FIRMWARE: Final = InputFile(64 << 20)
KERNEL: Final = InputFile(256 << 20)
INITRD: Final = InputFile(2 << 30)
ACPI: Final = InputFile(16 << 20)

events_option = click.option("--events", is_flag=True, help="Show each event or input behind the registers.")


class Memory(click.ParamType[int]):
    """An amount of memory as QEMU's ``-m`` takes it: a number of MiB, or with one of K, M, G, T; the value is in bytes."""

    name = "SIZE"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the bytes, or fail as bad usage."""
        if isinstance(value, int):
            return value
        from eaa.tee.q35 import memory_size  # noqa: PLC0415 - --help does not need it

        try:
            return memory_size(str(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class AcpiFolder(click.ParamType["AcpiBlobs"]):
    """A folder with the three files that ``eaa measure acpi`` writes; the value is their content."""

    name = "DIR"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> AcpiBlobs:
        """Return the tables, or fail as bad usage."""
        from eaa.tee.tdx.acpi import AcpiBlobs, load_acpi  # noqa: PLC0415 - --help does not need it

        if isinstance(value, AcpiBlobs):
            return value
        try:
            return load_acpi(Path(value))
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


class Number(click.ParamType[int]):
    """A number of so many ``bits``, in decimal or in hex with ``0x``."""

    name = "NUMBER"

    def __init__(self, bits: int) -> None:
        self.bits = bits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Return the number, or fail as bad usage."""
        if isinstance(value, int):
            return value
        text = str(value)
        if not re.fullmatch(r"0x[0-9A-Fa-f]{1,16}|[0-9]{1,19}", text, re.ASCII):
            self.fail(f"{text[:40]!r} is no number such as 8392466 or 0x800f12", param, ctx)
        number = int(text, 0) if text.startswith("0x") else int(text)
        if number >> self.bits:
            self.fail(f"{text} has more than {self.bits} bits", param, ctx)
        return number


def listed(events: Iterable[MeasuredEvent]) -> list[dict[str, str | None]]:
    """Return events as ``--events --json`` shows them."""
    return [
        {
            "register": event.register,
            "type": event.type.name if event.type is not None else None,
            "what": event.what,
            "input": event.input.value,
            "digest": event.digest.hex() if event.digest is not None else None,
        }
        for event in events
    ]


def show(
    values: Mapping[str, str],
    notes: Sequence[str],
    events: Sequence[Mapping[str, str | None]] | None,
    *,
    as_json: bool,
) -> None:
    """Print values, and in words what else is to be said; JSON is the values alone, unless events were asked for."""
    if as_json:
        echo_json(
            values if events is None else {"values": values, "events": list(events), "notes": list(notes)}
        )
        return
    for name, value in values.items():
        click.echo(f"{name:<12}  {value}")
    for note in notes:
        click.echo(note)
    for event in events or ():
        kind = f"{event['type']}: " if event["type"] else ""
        click.echo(f"{event['register']:<12}  {event['digest'] or '?' * 96}  {kind}{event['what']}")
