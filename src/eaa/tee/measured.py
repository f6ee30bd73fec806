# SPDX-License-Identifier: Apache-2.0
"""What a measurement before the fact consists of: events, the input that decides each, and the registers they leave. Pure."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING

from eaa.eventlog.model import register_index
from eaa.eventlog.write import NewEvent, write_event_log

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eaa.eventlog.types import EventType

__all__ = [
    "Input",
    "LaunchMeasurement",
    "MeasuredEvent",
    "event_log",
    "inputs_of",
    "measurement_of",
    "replay",
    "unknown_of",
]


class Input(StrEnum):
    """What the owner decides on and what, changed, changes a register."""

    FIRMWARE = "firmware"
    SHIM = "shim"
    GRUB = "grub"
    GRUB_CONFIG = "grub-config"
    KERNEL = "kernel"
    INITRD = "initrd"
    CMDLINE = "cmdline"
    MEMORY = "memory"
    ACPI = "acpi"
    SECURE_BOOT = "secure-boot"
    BOOT_OPTIONS = "boot-options"
    MACHINE = "machine"
    SVSM = "svsm"
    INIT_DATA = "init-data"
    AGENT_POLICY = "agent-policy"
    CONSTANT = "constant"
    """The same for every guest that boots this way."""


@dataclass(frozen=True, slots=True)
class MeasuredEvent:
    """One extension of a register, as an event log would have it, and the ``input`` that decides it.

    ``digest`` is absent where it cannot be known. ``type`` is absent where no log tells of it, because the launch measures it as a whole (MRTD,
    a launch digest); the digest is then one of the input alone. ``data`` is what a log shows of the event; addresses in it are zero.
    """

    register: str
    type: EventType | None
    what: str
    digest: bytes | None
    input: Input
    data: bytes = field(default=b"", repr=False)


@dataclass(frozen=True, slots=True)
class LaunchMeasurement:
    """The registers that are known, by claim name, the events behind them in their order, and why others are not known."""

    registers: Mapping[str, bytes]
    events: tuple[MeasuredEvent, ...]
    unknown: tuple[str, ...]


def replay(digests: Iterable[bytes], algorithm: str = "sha384") -> bytes:
    """Return the register that these digests leave, extended in this order (TDX Module ABI, TDG.MR.RTMR.EXTEND; TPM2_PCR_Extend)."""
    register = bytes(hashlib.new(algorithm).digest_size)
    for digest in digests:
        register = hashlib.new(algorithm, register + digest).digest()
    return register


def inputs_of(events: Iterable[MeasuredEvent]) -> dict[str, tuple[tuple[Input, bytes], ...]]:
    """Return, for each register whose events are all known, what went into it: each input with its digest, in the order of measurement.

    Stored beside reference values, this names the input that changed when a register does: with an event log, the first digest that
    differs; without one (MRTD, launch digests), the inputs that are possible.
    """
    listed: dict[str, list[tuple[Input, bytes]]] = {}
    unknown = set()
    for event in events:
        if event.digest is None:
            unknown.add(event.register)
        else:
            listed.setdefault(event.register, []).append((event.input, event.digest))
    return {name: tuple(parts) for name, parts in listed.items() if name not in unknown}


def unknown_of(events: Iterable[MeasuredEvent]) -> dict[str, tuple[str, ...]]:
    """Return, for each register with events that are not known, what those are."""
    listed: dict[str, tuple[str, ...]] = {}
    for event in events:
        if event.digest is None:
            listed[event.register] = (*listed.get(event.register, ()), event.what)
    return listed


def measurement_of(
    launched: Mapping[str, bytes],
    logged: Iterable[str],
    events: Iterable[MeasuredEvent],
    algorithm: str = "sha384",
) -> LaunchMeasurement:
    """Return the registers ``launched``, known as wholes, and those that the events leave in the registers ``logged``."""
    events = tuple(events)
    missing, registers = unknown_of(events), dict(launched)
    for name in logged:
        if name not in missing:
            digests = (event.digest for event in events if event.register == name)
            registers[name] = replay((digest for digest in digests if digest is not None), algorithm)
    unknown = tuple(f"{name}: not known without {', '.join(what)}" for name, what in missing.items())
    return LaunchMeasurement(registers, events, unknown)


def event_log(measured: LaunchMeasurement, algorithm: str = "sha384") -> bytes:
    """Return the log that firmware and kernel would write, as ACPI's CCEL or a TPM's log has it; events that are not known are left out."""
    return write_event_log(
        (
            NewEvent(
                _number(event.register, algorithm), event.type, event.data, digests={algorithm: event.digest}
            )
            for event in measured.events
            if event.type is not None and event.digest is not None
        ),
        (algorithm,),
    )


def _number(register: str, algorithm: str) -> int:
    return register_index(register.removeprefix(f"{algorithm}_"))
