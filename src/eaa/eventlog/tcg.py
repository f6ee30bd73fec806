# SPDX-License-Identifier: Apache-2.0
"""The binary logs of firmware: TCG's crypto-agile log, its SHA-1 predecessor, and the CC event log of the same layout.

TCG PC Client Platform Firmware Profile 1.06, 10.2 (TCG_PCClientPCREvent, TCG_PCR_EVENT2) and 10.4.5.1 (the Spec ID event that names the
banks); the CC event log is UEFI 2.10, 38.4. All numbers are little-endian. One pass, linear in the bytes; event data is copied once.
"""

from __future__ import annotations

import struct
from typing import Final, NoReturn

from eaa.eventlog.algorithms import ALGORITHMS
from eaa.eventlog.model import Event, EventLog, Registers
from eaa.eventlog.types import EventType, is_known
from eaa.rats import EvidenceError

__all__ = ["MAX_EVENTS", "MAX_SIZE", "SPEC_ID", "parse_tcg"]

MAX_SIZE: Final = 4 * 1024 * 1024
"""Bytes, padding included. Firmware reserves 64 KiB to 1 MiB."""
MAX_EVENTS: Final = 16_384
MAX_BANKS: Final = 8
_MAX_REGISTER: Final = 31
SPEC_ID: Final = b"Spec ID Event03\0"
_LEGACY: Final = struct.Struct("<II20sI")
_AGILE: Final = struct.Struct("<III")
_SPEC: Final = struct.Struct("<16sIBBBBI")
_BANK: Final = struct.Struct("<HH")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")
_MARKER: Final = 8
_CC_LAST: Final = 4


def parse_tcg(data: bytes, registers: Registers | None = None) -> EventLog:
    """Parse a log as firmware or the kernel hands it out; padding of zeros or ones behind the last event is dropped.

    Nothing in the bytes says whether the numbers of registers are PCRs or those of a confidential VM: without ``registers``, a log with
    one bank and none but the registers 0 to 4 counts as the latter.

    :raises EvidenceError: when it is malformed, cut off or beyond the limits.
    """
    if len(data) > MAX_SIZE:
        _refuse(f"an event log of {len(data)} bytes, at most {MAX_SIZE} are read")
    if len(data) < _LEGACY.size:
        _refuse(f"an event log of {len(data)} bytes, too short for one event")
    number, kind, _, size = _LEGACY.unpack_from(data)
    end = _LEGACY.size + size
    if end > len(data):
        _refuse("the first event goes beyond the log")
    if kind == EventType.EV_NO_ACTION and data.startswith(SPEC_ID, _LEGACY.size):
        banks = _banks(data[_LEGACY.size : end])
        events = _agile(data, end, banks)
        names = tuple(_name(bank) for bank in banks)
        return EventLog("tcg2", registers or _registers(names, events), names, events)
    if number > _MAX_REGISTER or not is_known(kind):
        _refuse("the first event is neither a Spec ID event nor any other known event")
    events = _sha1(data)
    if not events:
        _refuse("there is no event, only padding")
    return EventLog("tcg12", registers or Registers.TPM, ("sha1",), events)


def _refuse(what: str) -> NoReturn:
    raise EvidenceError(
        what,
        check="eventlog.format",
        hint="Send the event log exactly as the firmware or the kernel hands it out.",
    )


def _name(bank: int) -> str:
    algorithm = ALGORITHMS.get(bank)
    return f"0x{bank:04x}" if algorithm is None else algorithm.name


def _banks(data: bytes) -> dict[int, int]:
    """Read TCG_EfiSpecIDEvent (PFP 10.4.5.1): the ids of the algorithms and the sizes of their digests."""
    if len(data) < _SPEC.size:
        _refuse("the Spec ID event is cut off")
    count = _SPEC.unpack_from(data)[6]
    at = _SPEC.size + count * _BANK.size
    if not 1 <= count <= MAX_BANKS or at >= len(data) or at + 1 + data[at] != len(data):
        _refuse("the Spec ID event does not end where its lists end")
    banks = dict(_BANK.iter_unpack(data[_SPEC.size : at]))
    if len(banks) != count:
        _refuse("the Spec ID event names an algorithm twice")
    for bank, size in banks.items():
        known = ALGORITHMS.get(bank)
        if size == 0 or (known is not None and known.size != size):
            _refuse(f"the Spec ID event gives {_name(bank)} a digest of {size} bytes")
    return banks


def _agile(data: bytes, at: int, banks: dict[int, int]) -> tuple[Event, ...]:
    """Read TCG_PCR_EVENT2 entries. Each must have a digest for every bank: one that lacks a bank would not show in its replay."""
    events: list[Event] = []
    names = {bank: _name(bank) for bank in banks}
    # Every event has the same banks, and so the same size before its data.
    entry = struct.Struct("<III" + "".join(f"H{size}s" for size in banks.values()) + "I")
    in_order = tuple(banks)
    listed = tuple(names.values())
    while not _ends(data, at):
        number = len(events) + 1
        if number > MAX_EVENTS:
            _refuse(f"more than {MAX_EVENTS} events")
        if len(data) - at < entry.size:
            _refuse(f"event {number} is cut off")
        register, kind, count, *fields, size = entry.unpack_from(data, at)
        if count != len(banks):
            _refuse(f"event {number} has {count} digests, the log has {len(banks)} banks")
        if tuple(fields[::2]) == in_order:
            digests = dict(zip(listed, fields[1::2], strict=True))
        else:
            digests = _digests(number, data[at + _AGILE.size : at + entry.size - _U32.size], banks, names)
        at += entry.size
        events.append(_event(number, register, kind, digests, data, at, size))
        at += size
    return tuple(events)


def _digests(number: int, data: bytes, banks: dict[int, int], names: dict[int, str]) -> dict[str, bytes]:
    """Read an event's digests in any order; ``data`` has room for one of each bank."""
    digests: dict[str, bytes] = {}
    at = 0
    for _ in banks:
        bank = int.from_bytes(data[at : at + _U16.size], "little")
        size = banks.get(bank)
        if size is None:
            _refuse(f"event {number} has a digest of {_name(bank)}, which is no bank of the log")
        at += _U16.size
        digests[names[bank]] = data[at : at + size]
        at += size
    if len(digests) != len(banks):
        _refuse(f"event {number} has two digests of one algorithm")
    return digests


def _sha1(data: bytes) -> tuple[Event, ...]:
    """Read TCG_PCClientPCREvent entries, the only kind before TPM 2.0."""
    events: list[Event] = []
    at = 0
    while not _ends(data, at):
        number = len(events) + 1
        if number > MAX_EVENTS:
            _refuse(f"more than {MAX_EVENTS} events")
        if len(data) - at < _LEGACY.size:
            _refuse(f"event {number} is cut off")
        register, kind, digest, size = _LEGACY.unpack_from(data, at)
        at += _LEGACY.size
        events.append(_event(number, register, kind, {"sha1": digest}, data, at, size))
        at += size
    return tuple(events)


def _event(
    number: int, register: int, kind: int, digests: dict[str, bytes], data: bytes, at: int, size: int
) -> Event:
    if size > len(data) - at:
        _refuse(f"event {number} claims {size} bytes, {len(data) - at} are left")
    if register > _MAX_REGISTER and kind != EventType.EV_NO_ACTION:
        _refuse(f"event {number} extends register {register}, which no TPM or TEE has")
    return Event(number, register, kind, digests, data[at : at + size])


def _ends(data: bytes, at: int) -> bool:
    """Whether only padding is left: all zeros or all ones. An end marker with anything else behind it is refused."""
    rest = len(data) - at
    marker = data[at : at + _MARKER]
    byte = marker[:1]
    if byte not in {b"", b"\0", b"\xff"} or marker != byte * len(marker):
        return False
    if rest and not data.endswith(byte * rest):
        _refuse(f"there is content behind the end of the log at byte {at}")
    return True


def _registers(names: tuple[str, ...], events: tuple[Event, ...]) -> Registers:
    used = {event.register for event in events if event.extends}
    return Registers.CC if len(names) == 1 and used and max(used) <= _CC_LAST else Registers.TPM
