# SPDX-License-Identifier: Apache-2.0
"""A log in the form of Trustee's claim ``uefi_event_logs``, so that policies written for Trustee find what they look for.

Compatible on purpose where Trustee is peculiar: GUIDs in the byte order of the wire, the last character of a description dropped, PCI
nodes as function before device. For people there is :func:`~eaa.eventlog.explain.explain`.
"""

from __future__ import annotations

import unicodedata
from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from eaa.eventlog.aael import parse_aael
from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.device_path import Node, hardware_id, nodes, parse_hard_drive
from eaa.eventlog.types import EventType
from eaa.eventlog.uefi import guid_text, parse_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.eventlog.model import Event, EventLog

__all__ = ["to_trustee"]

_IMAGE_HEADER: Final = 32
_VARIABLE_HEADER: Final = 32
_TAG_HEADER: Final = 8
_MAX_NODES: Final = 256


def to_trustee(log: EventLog) -> list[dict[str, Any]]:
    """Return one object per event: ``details``, ``digest_matches_event``, ``digests``, ``event`` (base64), ``index``, ``type_name``.

    ``digest_matches_event`` says that the digest is of the event's whole data, no more: see :attr:`Event.authenticity` for a rule per type.
    """
    return [_entry(event) for event in log.events]


def _entry(event: Event) -> dict[str, Any]:
    reader = _READERS.get(event.type)
    known = [(BY_NAME[name], digest) for name, digest in event.digests.items() if name in BY_NAME]
    return {
        "details": reader(event.data) if reader is not None else {},
        "digest_matches_event": bool(known)
        and all(algorithm.digest(event.data) == digest for algorithm, digest in known),
        "digests": [
            {"alg": BY_NAME[name].title if name in BY_NAME else name, "digest": digest.hex()}
            for name, digest in event.digests.items()
        ],
        "event": b64encode(event.data).decode(),
        "index": event.register,
        "type_name": event.type_name,
    }


def _text(data: bytes) -> dict[str, Any]:
    try:
        return {"string": data.decode()}
    except UnicodeDecodeError:
        return {}


def _flags(data: bytes) -> dict[str, Any]:
    text = _text(data).get("string", "").replace("\x10", " ")
    return {"string": "".join(each for each in text if unicodedata.category(each) != "Cc")}


def _described(data: bytes) -> dict[str, Any]:
    return _text(data[1 : data[0]]) if data and data[0] and len(data) >= data[0] else {}


def _ipl(data: bytes) -> dict[str, Any]:
    if data[:2] == b".\0":
        return {"string": data[2 : len(data) - 2].decode("utf-16-le", "replace")}
    text = data.partition(b"\0")[0]
    return _text(text) or {"string": data.hex()}


def _tag(data: bytes) -> dict[str, Any]:
    entry = parse_aael(data)
    if entry is not None:
        value = {"content": entry.value(), "domain": entry.domain, "operation": entry.operation}
        return {"data": value, "string": entry.text, "unicode_name": "AAEL"}
    size = int.from_bytes(data[4:_TAG_HEADER], "little")
    if len(data) < _TAG_HEADER or size > len(data) - _TAG_HEADER:
        return {}
    found = _text(data[_TAG_HEADER : _TAG_HEADER + size])
    return {name: text.replace("\0", "") for name, text in found.items()}


def _variable(data: bytes) -> dict[str, Any]:
    variable = parse_variable(data)
    if variable is None:
        return {}
    name = data[_VARIABLE_HEADER : variable.end - len(variable.data)]
    guid = variable.guid.hex()
    return {
        "unicode_name": name.decode("utf-16-le", "replace"),
        "unicode_name_length": len(name) // 2,
        "variable_data": b64encode(variable.data).decode(),
        "variable_data_length": len(variable.data),
        "variable_name": f"{guid[:8]}-{guid[8:12]}-{guid[12:16]}-{guid[16:20]}-{guid[20:]}",
    }


def _image(data: bytes) -> dict[str, Any]:
    length = int.from_bytes(data[_IMAGE_HEADER - 8 : _IMAGE_HEADER], "little")
    path = data[_IMAGE_HEADER : _IMAGE_HEADER + length]
    if len(data) < _IMAGE_HEADER or not path:
        return {}
    return {"device_paths": [_node(node) for _, node in zip(range(_MAX_NODES), nodes(path), strict=False)]}


def _node(node: Node) -> str:
    kind, data = (node.type, node.subtype), node.data
    text = ""
    if kind == (1, 1) and len(data) >= 2:
        text = f"Pci({data[0]},{data[1]})"
    elif kind == (2, 1) and len(data) >= 8:
        identifier = hardware_id(int.from_bytes(data[:4], "little"))
        text = f"ACPI({identifier},{int.from_bytes(data[4:8], 'little')})"
    elif kind == (3, 5) and len(data) >= 2:
        text = f"USB({data[0]},{data[1]})"
    elif kind == (4, 1):
        text = _hard_drive(data)
    elif kind == (4, 3) and len(data) >= 16:
        text = f"VenMedia({guid_text(data[:16]).upper()},{data[16:].hex()})"
    elif kind == (4, 4) and data and len(data) % 2 == 0:
        text = f"File({data[:-2].decode('utf-16-le', 'replace')})"
    return text or f"Path({node.type},{node.subtype},{data.hex()})"


def _hard_drive(data: bytes) -> str:
    drive = parse_hard_drive(data)
    if drive is None or drive.format not in {"GPT", "MBR"}:
        return ""
    mbr = drive.format == "MBR"
    signature = (
        f"{int.from_bytes(drive.signature[:4], 'little'):#010x}"
        if mbr
        else guid_text(drive.signature).upper()
    )
    place = f",{drive.start:#x},{drive.size:#x}" if drive.number else ""
    return f"HD({drive.number},{drive.format},{signature}{place})"


_READERS: Final[Mapping[int, Callable[[bytes], dict[str, Any]]]] = {
    EventType.EV_POST_CODE: _text,
    EventType.EV_ACTION: _text,
    EventType.EV_EVENT_TAG: _tag,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _flags,
    EventType.EV_COMPACT_HASH: _text,
    EventType.EV_IPL: _ipl,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: _text,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _variable,
    EventType.EV_EFI_VARIABLE_BOOT: _variable,
    EventType.EV_EFI_VARIABLE_BOOT2: _variable,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _variable,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: _image,
    EventType.EV_EFI_ACTION: _text,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _described,
    EventType.EV_EFI_HANDOFF_TABLES2: _described,
}
"""The types that Trustee takes apart; of all others ``details`` is empty."""
