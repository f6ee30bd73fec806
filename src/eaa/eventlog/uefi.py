# SPDX-License-Identifier: Apache-2.0
"""The structures of UEFI that events hold: GUIDs, variables, signature lists, boot options, partition tables.

All readers are total: they return what they could read, or None, and never raise on content. Events are text for people; what a log
*proves* rests on its digests alone.
"""

from __future__ import annotations

import struct
import warnings
from functools import lru_cache
from threading import Lock
from typing import Final, NamedTuple
from uuid import UUID

from cryptography import x509

__all__ = [
    "GLOBAL_VARIABLE",
    "IMAGE_SECURITY",
    "SHIM_LOCK",
    "BootOption",
    "Disk",
    "Partition",
    "Signatures",
    "Variable",
    "certificate_name",
    "forget_certificates",
    "guid_text",
    "parse_boot_option",
    "parse_disk",
    "parse_signatures",
    "parse_variable",
    "signature_data_text",
    "utf16",
]

_VARIABLE: Final = struct.Struct("<16sQQ")
_SIGNATURE_LIST: Final = struct.Struct("<16sIII")
_LOAD_OPTION: Final = struct.Struct("<IH")
_GPT_HEADER: Final = struct.Struct("<8s4sII4sQQQQ16sQIII")
_GPT_ENTRY: Final = struct.Struct("<16s16sQQQ72s")
_GUID_SIZE: Final = 16
_WARNINGS: Final = Lock()
"""The filter of warnings belongs to the process: one thread at a time changes it."""
_MAX_CERTIFICATE: Final = 8 * 1024
_MAX_NAMED: Final = 16
"""Certificates and partitions that are named one by one; of the rest only the number is told."""

GLOBAL_VARIABLE: Final = UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c").bytes_le
IMAGE_SECURITY: Final = UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f").bytes_le
SHIM_LOCK: Final = UUID("605dab50-e046-4300-abb6-3dd810dd8b23").bytes_le
_X509: Final = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072").bytes_le
_HASHES: Final = {
    UUID("c1c41626-504c-4092-aca9-41f936934328").bytes_le: "SHA-256 digests",
    UUID("826ca512-cf10-4ac9-b187-be01496631bd").bytes_le: "SHA-1 digests",
    UUID("3bd2a492-96c0-4079-b420-fcf98ef103ed").bytes_le: "digests of certificates",
}


def guid_text(guid: bytes) -> str:
    """Return 16 bytes as a GUID in lower case."""
    return str(UUID(bytes_le=guid))


def utf16(data: bytes) -> str:
    """Return little-endian UTF-16 text up to its NUL; what is no character is replaced."""
    return data.decode("utf-16-le", "replace").partition("\0")[0]


class Variable(NamedTuple):
    """UEFI_VARIABLE_DATA (PFP 1.06, 10.2.6). ``end`` is where it ends in the event's data."""

    guid: bytes
    name: str
    data: bytes
    end: int


def parse_variable(data: bytes) -> Variable | None:
    """Read a variable, or return None when its lengths go beyond the event."""
    if len(data) < _VARIABLE.size:
        return None
    guid, name_length, data_length = _VARIABLE.unpack_from(data)
    middle = _VARIABLE.size + 2 * name_length
    end = middle + data_length
    if end > len(data):
        return None
    return Variable(guid, utf16(data[_VARIABLE.size : middle]), data[middle:end], end)


class Signatures(NamedTuple):
    """What an EFI_SIGNATURE_LIST chain holds: the first certificates by name, and how many entries there are of each kind."""

    names: tuple[str, ...]
    counts: dict[str, int]


def parse_signatures(data: bytes) -> Signatures | None:
    """Read EFI_SIGNATURE_LISTs (UEFI 2.10, 32.4.1), or return None when they do not fill ``data`` exactly."""
    names: list[str] = []
    counts: dict[str, int] = {}
    at = 0
    while at < len(data):
        if len(data) - at < _SIGNATURE_LIST.size:
            return None
        kind, size, header, each = _SIGNATURE_LIST.unpack_from(data, at)
        start, end = at + _SIGNATURE_LIST.size + header, at + size
        if each <= _GUID_SIZE or start > end or end > len(data) or (end - start) % each:
            return None
        what = "certificates" if kind == _X509 else _HASHES.get(kind, "entries of another kind")
        number = (end - start) // each
        counts[what] = counts.get(what, 0) + number
        if kind == _X509:
            wanted = min(number, _MAX_NAMED - len(names))
            names.extend(
                certificate_name(data[entry + _GUID_SIZE : entry + each])
                for entry in range(start, start + wanted * each, each)
            )
        at = end
    return Signatures(tuple(names), counts)


def certificate_name(der: bytes) -> str:
    """Return the subject of a certificate as RFC 4514 text, or why there is none in brackets."""
    if len(der) > _MAX_CERTIFICATE:
        return f"(a certificate of {len(der)} bytes)"
    return _subject(der)


@lru_cache(maxsize=256)
def _subject(der: bytes) -> str:
    """Read a subject. What pyca warns of (a serial number of zero, a country of three letters) is common in firmware."""
    try:
        with _WARNINGS, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return x509.load_der_x509_certificate(der).subject.rfc4514_string() or "(no subject)"
    except Exception:  # noqa: BLE001 - pyca documents no complete list for hostile certificates
        return "(a certificate that cannot be read)"


def forget_certificates() -> None:
    """Drop the names that are remembered, so that a measurement begins with nothing."""
    _subject.cache_clear()


def signature_data_text(data: bytes) -> str:
    """Return who an EFI_SIGNATURE_DATA names: a certificate's subject, or a digest. Old shims leave the owner's GUID out."""
    der = data[_GUID_SIZE:] if data[_GUID_SIZE : _GUID_SIZE + 1] == b"\x30" and data[:1] != b"\x30" else data
    if der[:1] == b"\x30" and len(der) > 64:
        return f"certificate {certificate_name(der)}"
    if len(data) == _GUID_SIZE + 32:
        return f"SHA-256 digest {data[_GUID_SIZE:].hex()}"
    return f"{len(data)} bytes"


class BootOption(NamedTuple):
    """EFI_LOAD_OPTION (UEFI 2.10, 3.1.3)."""

    active: bool
    description: str
    device_path: bytes
    optional_data: bytes


def parse_boot_option(data: bytes) -> BootOption | None:
    """Read the value of a ``Boot####`` variable, or return None when it is cut off."""
    if len(data) < _LOAD_OPTION.size:
        return None
    attributes, path_length = _LOAD_OPTION.unpack_from(data)
    at = data.find(b"\0\0", _LOAD_OPTION.size)
    while at >= 0 and at % 2:
        at = data.find(b"\0\0", at + 1)
    if at < 0:
        return None
    start = at + 2
    end = start + path_length
    if end > len(data):
        return None
    return BootOption(bool(attributes & 1), utf16(data[_LOAD_OPTION.size : at]), data[start:end], data[end:])


class Partition(NamedTuple):
    """One entry of a GUID partition table; places in blocks."""

    name: str
    guid: str
    first: int
    last: int


class Disk(NamedTuple):
    """UEFI_GPT_DATA (PFP 1.06, 10.2.7): the disk that was booted from. ``total`` may exceed the partitions listed."""

    guid: str
    total: int
    partitions: tuple[Partition, ...]


def parse_disk(data: bytes) -> Disk | None:
    """Read a partition table, or return None when it is none or is cut off."""
    if len(data) < _GPT_HEADER.size + 8 or data[:8] != b"EFI PART":
        return None
    header = _GPT_HEADER.unpack_from(data)
    size = header[12]
    count = int.from_bytes(data[_GPT_HEADER.size : _GPT_HEADER.size + 8], "little")
    start = _GPT_HEADER.size + 8
    if size < _GPT_ENTRY.size or count > (len(data) - start) // size:
        return None
    partitions = []
    for number in range(min(count, _MAX_NAMED)):
        _, guid, first, last, _, name = _GPT_ENTRY.unpack_from(data, start + number * size)
        partitions.append(Partition(utf16(name), guid_text(guid), first, last))
    return Disk(guid_text(header[9]), count, tuple(partitions))
