# SPDX-License-Identifier: Apache-2.0
"""Device paths as text (UEFI 2.10, 10.3 and 10.6.1.6), as far as machines boot from them; any other node in hex."""

from __future__ import annotations

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.eventlog.uefi import guid_text, utf16

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = ["HardDrive", "Node", "device_path_text", "hardware_id", "nodes", "parse_hard_drive"]

_NODE: Final = struct.Struct("<BBH")
_HARD_DRIVE: Final = struct.Struct("<IQQ16sBB")
_END_TYPE: Final = 0x7F
_END_ENTIRE: Final = 0xFF
_MAX_NODES: Final = 64
_MAX_HEX: Final = 32
_PCI_ROOTS: Final = ("PNP0A03", "PNP0A08")


class Node(NamedTuple):
    """One node of a device path."""

    type: int
    subtype: int
    data: bytes


def nodes(path: bytes) -> Iterator[Node]:
    """Yield the nodes of a device path up to its end; a path that is cut off ends where it is cut."""
    at = 0
    while len(path) - at >= _NODE.size:
        kind, subtype, length = _NODE.unpack_from(path, at)
        if length < _NODE.size or at + length > len(path) or (kind, subtype) == (_END_TYPE, _END_ENTIRE):
            return
        yield Node(kind, subtype, path[at + _NODE.size : at + length])
        at += length


def device_path_text(path: bytes) -> str:
    """Return a device path as UEFI's shell prints it, its first 64 nodes at most."""
    words: list[str] = []
    for node in nodes(path):
        if len(words) == _MAX_NODES:
            words.append("…")
            break
        words.append(_node_text(node))
    return "/".join(words)


def hardware_id(number: int) -> str:
    """Return a compressed EISA id as text: three letters and four hex digits (ACPI 6.5, 19.3.4)."""
    letters = "".join(chr(ord("@") + ((number >> shift) & 0x1F)) for shift in (10, 5, 0))
    return f"{letters}{number >> 16:04X}"


class HardDrive(NamedTuple):
    """A partition (UEFI 2.10, 10.3.5.1); ``format`` is ``MBR``, ``GPT`` or a number."""

    number: int
    start: int
    size: int
    signature: bytes
    format: str


def parse_hard_drive(data: bytes) -> HardDrive | None:
    """Read a hard drive media node, or return None when it is too short."""
    if len(data) < _HARD_DRIVE.size:
        return None
    number, start, size, signature, kind, _ = _HARD_DRIVE.unpack_from(data)
    return HardDrive(number, start, size, signature, {1: "MBR", 2: "GPT"}.get(kind, str(kind)))


def _node_text(node: Node) -> str:
    reader = _READERS.get((node.type, node.subtype))
    if reader is not None:
        minimum, text = reader
        if len(node.data) >= minimum:
            return text(node.data)
    shown = node.data[:_MAX_HEX].hex() + ("…" if len(node.data) > _MAX_HEX else "")
    return f"Path({node.type},{node.subtype},{shown})"


def _number(data: bytes, start: int, size: int) -> int:
    return int.from_bytes(data[start : start + size], "little")


def _acpi(data: bytes) -> str:
    identifier, unit = hardware_id(_number(data, 0, 4)), _number(data, 4, 4)
    return f"PciRoot({unit:#x})" if identifier in _PCI_ROOTS else f"Acpi({identifier},{unit:#x})"


def _hard_drive(data: bytes) -> str:
    drive = parse_hard_drive(data)
    if drive is None:
        return "HD()"
    signature = (
        guid_text(drive.signature) if drive.format == "GPT" else f"{_number(drive.signature, 0, 4):#010x}"
    )
    return f"HD({drive.number},{drive.format},{signature},{drive.start:#x},{drive.size:#x})"


def _sata(data: bytes) -> str:
    return f"Sata({_number(data, 0, 2):#x},{_number(data, 2, 2):#x},{_number(data, 4, 2):#x})"


def _nvme(data: bytes) -> str:
    return f"NVMe({_number(data, 0, 4):#x},{'-'.join(f'{byte:02x}' for byte in data[4:12])})"


def _vendor(name: str) -> Callable[[bytes], str]:
    def text(data: bytes) -> str:
        more = f",{data[16 : 16 + _MAX_HEX].hex()}" if len(data) > 16 else ""
        return f"{name}({guid_text(data[:16])}{more})"

    return text


def _guid(name: str) -> Callable[[bytes], str]:
    def text(data: bytes) -> str:
        return f"{name}({guid_text(data[:16])})"

    return text


_READERS: Final[dict[tuple[int, int], tuple[int, Callable[[bytes], str]]]] = {
    (1, 1): (2, lambda data: f"Pci({data[1]:#x},{data[0]:#x})"),
    (1, 3): (
        20,
        lambda data: (
            f"MemoryMapped({_number(data, 0, 4)},{_number(data, 4, 8):#x},{_number(data, 12, 8):#x})"
        ),
    ),
    (1, 4): (16, _vendor("VenHw")),
    (1, 5): (4, lambda data: f"Ctrl({_number(data, 0, 4):#x})"),
    (2, 1): (8, _acpi),
    (3, 2): (4, lambda data: f"Scsi({_number(data, 0, 2):#x},{_number(data, 2, 2):#x})"),
    (3, 5): (2, lambda data: f"USB({data[0]:#x},{data[1]:#x})"),
    (3, 10): (16, _vendor("VenMsg")),
    (3, 11): (33, lambda data: f"MAC({data[:6].hex()},{data[32]:#x})"),
    (3, 12): (8, lambda data: f"IPv4({IPv4Address(data[4:8])})"),
    (3, 13): (32, lambda data: f"IPv6({IPv6Address(data[16:32])})"),
    (3, 18): (6, _sata),
    (3, 23): (12, _nvme),
    (3, 24): (0, lambda data: f"Uri({data.decode('ascii', 'replace')})"),
    (4, 1): (_HARD_DRIVE.size, _hard_drive),
    (4, 2): (
        20,
        lambda data: f"CDROM({_number(data, 0, 4):#x},{_number(data, 4, 8):#x},{_number(data, 12, 8):#x})",
    ),
    (4, 3): (16, _vendor("VenMedia")),
    (4, 4): (0, lambda data: f"File({utf16(data)})"),
    (4, 6): (16, _guid("FvFile")),
    (4, 7): (16, _guid("Fv")),
    (4, 8): (20, lambda data: f"Offset({_number(data, 4, 8):#x},{_number(data, 12, 8):#x})"),
}
"""Type and subtype → the least size of its data, and how it is written."""
