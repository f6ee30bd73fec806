# SPDX-License-Identifier: Apache-2.0
"""A unified kernel image (UKI) that UEFI firmware boots from a disk, and the events of that boot. Pure.

systemd's stub (``src/boot/efi/stub.c``, ``measure.c``) measures the sections that it uses into PCR 11, each as its name with its NUL, then its
content, in the order of its own list. The stub of version 252 knows fewer of them than its successors.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final
from uuid import UUID

from eaa.eventlog.types import EventType
from eaa.eventlog.write import variable_data
from eaa.rats import InputError
from eaa.tee.authority import authority_of
from eaa.tee.measured import Input, MeasuredEvent
from eaa.tee.pe import authenticode_digest, sections
from eaa.tee.uefi import (
    CALLING_BOOT_OPTION,
    IMAGE_SECURITY,
    SecureBoot,
    exit_events,
    file_path,
    firmware_ends,
    image_event,
    stub_events,
)

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from eaa.tee.uefi import Platform

__all__ = ["UkiBoot", "boot_option_events", "partition_table", "uki_events"]

_BOOT_PATH: Final = "\\EFI\\BOOT\\BOOTX64.EFI"
_STUB_KERNEL: Final = UUID("55c5d1f8-04cd-46b5-8a20-e56cbb3052d0")
_MAGIC: Final = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9]{3})[^#]{0,100} ####")
_MEASURED: Final = {
    ".linux": (Input.KERNEL, 0),
    ".osrel": (Input.KERNEL, 0),
    ".cmdline": (Input.CMDLINE, 0),
    ".initrd": (Input.INITRD, 0),
    ".ucode": (Input.INITRD, 256),
    ".splash": (Input.KERNEL, 0),
    ".dtb": (Input.KERNEL, 0),
    ".uname": (Input.KERNEL, 253),
    ".sbat": (Input.KERNEL, 254),
    ".pcrpkey": (Input.KERNEL, 0),
}
"""The sections in the order of measurement, the input that each is, and the first version of the stub that measures it."""
_CHOSEN_AT_BOOT: Final = frozenset({".profile", ".dtbauto", ".hwids", ".efifw"})
_LAST_WITH_LOAD_IMAGE: Final = 257
_NO_EVENT_IF_SECURE: Final = 252
_GPT_HEADER: Final = struct.Struct("<8s64xQII4x")
_BLOCK: Final = 512
_ENTRY_SIZE: Final = 128
_MAX_ENTRIES: Final = 1024
_HINT: Final = "Give a unified kernel image as ukify and objcopy make it, with systemd's stub."


@dataclass(frozen=True, slots=True)
class UkiBoot:
    """A UKI that firmware finds on a disk under the path for removable media.

    ``failed_options`` is how many boot options firmware tries in vain before; ``table`` is what :func:`partition_table` gives, or empty for a
    disk without a GUID partition table, or ``None`` where it is not known. ``kernel_measures`` is false of a kernel whose EFI stub finds
    no protocol to measure with, as older ones in a TD.
    """

    image: bytes = field(repr=False)
    failed_options: int = 0
    table: bytes | None = field(default=None, repr=False)
    kernel_measures: bool = True


def partition_table(disk: bytes) -> bytes:
    """Return UEFI_GPT_DATA (PFP 1.06, 10.2.7) of a disk that begins with these bytes; nothing where it has no GUID partition table.

    :raises InputError: when the table does not hold together, or lies beyond the bytes.
    """
    if disk[_BLOCK : _BLOCK + 8] != b"EFI PART":
        return b""
    header = disk[_BLOCK : _BLOCK + 92]
    if len(header) < _GPT_HEADER.size:
        raise InputError("the partition table is cut off")
    _, first, count, size = _GPT_HEADER.unpack(header)
    start = first * _BLOCK
    if size != _ENTRY_SIZE or count > _MAX_ENTRIES or start + count * size > len(disk):
        raise InputError(
            "the partition table does not hold together", hint="Give at least the first 64 KiB of the disk."
        )
    entries = (disk[start + index * size : start + (index + 1) * size] for index in range(count))
    used = [entry for entry in entries if any(entry[:16])]
    return header + struct.pack("<Q", len(used)) + b"".join(used)


def uki_events(platform: Platform, boot: UkiBoot, policy: SecureBoot) -> Iterator[MeasuredEvent]:
    """Yield the events from the moment that firmware starts boot options; those that cannot be known have no digest.

    :raises InputError: when the image is no UKI, or one whose stub chooses sections when it boots.
    """
    parts, version = _read(boot.image)
    what = "the unified kernel image"
    yield from boot_option_events(
        platform, boot.image, what, Input.KERNEL, policy, boot.failed_options, boot.table
    )
    yield from _sections(platform, parts, version)
    yield from _kernel(platform, boot, parts, version, secure=policy.enabled)
    yield from exit_events(platform)


def boot_option_events(
    platform: Platform,
    image: bytes,
    what: str,
    source: Input,
    policy: SecureBoot,
    failed_options: int,
    table: bytes | None,
) -> Iterator[MeasuredEvent]:
    """Yield what firmware measures from starting boot options to starting ``image`` from a disk with this partition table."""
    yield platform.action(4, CALLING_BOOT_OPTION)
    yield from firmware_ends(platform)
    for _ in range(failed_options):
        yield platform.action(4, "Returning from EFI Application from Boot Option")
        yield platform.action(4, CALLING_BOOT_OPTION)
    if policy.enabled:
        yield _authority(platform, image, policy)
    if table != b"":
        kind, partitions = EventType.EV_EFI_GPT_EVENT, "the disk's partition table"
        yield platform.event(5, kind, partitions, table, Input.BOOT_OPTIONS, table or b"")
    digest = authenticode_digest(image, platform.algorithm)
    yield image_event(platform, what, digest, len(image), file_path(_BOOT_PATH), source)


def _read(image: bytes) -> tuple[Mapping[str, bytes], int]:
    found: dict[str, bytes] = {}
    for section in sections(image):
        if section.name in found and section.name in _MEASURED:
            raise InputError(f"the image has two sections {section.name}", hint=_HINT)
        found[section.name] = section.content
    magic = _MAGIC.search(found.get(".sdmagic", b""))
    if magic is None or ".linux" not in found:
        raise InputError("this is no unified kernel image with systemd's stub", hint=_HINT)
    if chosen := sorted(_CHOSEN_AT_BOOT & set(found)):
        raise InputError(
            f"the stub chooses by {chosen[0]} when it boots, so what it measures is not known in advance",
            hint="Build an image for one profile and one machine.",
        )
    return found, int(magic[1])


def _sections(platform: Platform, parts: Mapping[str, bytes], version: int) -> Iterator[MeasuredEvent]:
    kind = EventType.EV_IPL
    for name, (source, since) in _MEASURED.items():
        if name in parts and version >= since:
            data = f"{name}\0".encode("utf-16-le")
            yield platform.event(11, kind, f"{name}, its name", f"{name}\0".encode(), Input.CONSTANT, data)
            yield platform.event(11, kind, name, parts[name], source, data)


def _kernel(
    platform: Platform, boot: UkiBoot, parts: Mapping[str, bytes], version: int, *, secure: bool
) -> Iterator[MeasuredEvent]:
    """Yield the kernel inside of the image, which the stub starts, and what the kernel's own EFI stub measures."""
    kernel = parts[".linux"]
    if not (secure and version == _NO_EVENT_IF_SECURE):
        known = version <= _LAST_WITH_LOAD_IMAGE and not secure
        digest = authenticode_digest(kernel, platform.algorithm) if known else None
        path = struct.pack("<BBH", 4, 3, 20) + _STUB_KERNEL.bytes_le + struct.pack("<BBH", 0x7F, 0xFF, 4)
        yield image_event(platform, "the kernel inside of the image", digest, len(kernel), path, Input.KERNEL)
    if not boot.kernel_measures:
        return
    text = parts.get(".cmdline", b"").rstrip(b"\0").decode("ascii", "replace")
    if not text.isprintable() or text != text.strip() or "\ufffd" in text:
        what = "the command line as the stub hands it on: it has other characters than printable ASCII, or blanks around it"
        yield platform.event(9, EventType.EV_EVENT_TAG, what, None, Input.CMDLINE, b"")
        return
    options = f"{text}\0".encode("utf-16-le") if text else b""
    yield from stub_events(platform, options, parts.get(".initrd", b""))


def _authority(platform: Platform, image: bytes, policy: SecureBoot) -> MeasuredEvent:
    entry = authority_of(image, policy.db)
    data = variable_data(IMAGE_SECURITY.bytes_le, "db", entry or b"")
    what = (
        "the certificate in db that allows the image"
        if entry
        else "what in db allows the image: no certificate there signed it"
    )
    kind = EventType.EV_EFI_VARIABLE_AUTHORITY
    return platform.event(7, kind, what, data if entry else None, Input.SECURE_BOOT, data)
