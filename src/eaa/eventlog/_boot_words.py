# SPDX-License-Identifier: Apache-2.0
"""What was booted, in words: images, partitions, boot loader commands, kernel, initial RAM disk, container images."""

from __future__ import annotations

import re
import struct
from typing import TYPE_CHECKING, Final

from eaa.eventlog._words import hex_of, quoted, text_of
from eaa.eventlog.aael import parse_aael
from eaa.eventlog.device_path import device_path_text
from eaa.eventlog.uefi import parse_disk

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["gpt", "image", "ipl", "tag"]

_IMAGE: Final = struct.Struct("<QQQQ")
_TAG: Final = struct.Struct("<II")
_GRUB: Final = {
    "grub_cmd: ": "GRUB command: ",
    "grub_cmd ": "GRUB command: ",
    "kernel_cmdline: ": "kernel command line: ",
    "grub_kernel_cmdline ": "kernel command line: ",
    "module_cmdline: ": "command line of a module: ",
}
_IPL_TEXTS: Final = {
    "MokList": "machine owner keys (MokList)",
    "MokListX": "what the machine's owner forbids (MokListX)",
    "MokListTrusted": "whether shim trusts machine owner keys (MokListTrusted)",
    "MokSBState": "whether shim checks signatures (MokSBState)",
    "MokIgnoreDB": "whether shim ignores Secure Boot's database (MokIgnoreDB)",
    "SbatLevel": "shim's revocation level (SbatLevel)",
    "grub_linuxefi Kernel": "kernel, loaded by GRUB",
    "grub_linuxefi Initrd": "initial RAM disk, loaded by GRUB",
}
_SECTIONS: Final = {
    ".linux": "kernel",
    ".osrel": "description of the system",
    ".cmdline": "kernel command line",
    ".initrd": "initial RAM disk",
    ".ucode": "CPU microcode",
    ".splash": "splash image",
    ".dtb": "device tree",
    ".dtbauto": "device tree",
    ".uname": "kernel version",
    ".sbat": "revocation level (SBAT)",
    ".pcrsig": "signatures of expected PCRs",
    ".pcrpkey": "key of the signatures of expected PCRs",
    ".profile": "profile",
    ".efifw": "firmware",
    ".hwids": "hardware ids",
}
_FILE: Final = re.compile(r"(\([^()]*\))?/\S+")
_KERNEL: Final = re.compile(r"(^|/)(vmlinu[xz]|bzImage|linux-|kernel)", re.IGNORECASE)
_RAM_DISK: Final = re.compile(r"(^|/)(initrd|initramfs)", re.IGNORECASE)
_OPTIONS: Final = re.compile(r"(^|\s)(root|initrd|console|ro|rw|quiet)(=|\s|$)")
_TAGS: Final = {
    0x8F3B22EC: "initial RAM disk, as the kernel's EFI stub loaded it",
    0x8F3B22ED: "kernel command line, as the EFI stub was given it",
    0xF5BC582A: "configuration of the boot loader (systemd-boot)",
    0x6C46F751: "device tree added to the unified kernel image",
    0x49DFFE0F: "initial RAM disk added to the unified kernel image",
    0xDAC08E1A: "CPU microcode added to the unified kernel image",
    0x13AED6DB: "profile of the unified kernel image",
}
"""Linux (drivers/firmware/efi/libstub) and systemd (src/fundamental/tpm2-pcr.h)."""


def image(what: str) -> Callable[[bytes], str]:
    """Return a reader of UEFI_IMAGE_LOAD_EVENT (PFP 1.06, 10.2.3) that says where ``what`` came from."""

    def words(data: bytes) -> str:
        if len(data) < _IMAGE.size:
            return f"{what}: {hex_of(data)}"
        _, size, _, length = _IMAGE.unpack_from(data)
        path = device_path_text(data[_IMAGE.size : _IMAGE.size + length]) or "from memory"
        return f"{what}: {path} ({size} bytes)"

    return words


def gpt(data: bytes) -> str:
    """Say what EV_EFI_GPT_EVENT holds."""
    disk = parse_disk(data)
    if disk is None:
        return f"partition table that cannot be read: {hex_of(data)}"
    listed = [quoted(each.name) if each.name else each.guid for each in disk.partitions]
    if disk.total > len(listed):
        listed.append(f"{disk.total - len(listed)} more")
    return f"partition table of disk {disk.guid}: {', '.join(listed) or 'no partition'}"


def ipl(data: bytes) -> str:
    """Say what EV_IPL holds; each boot loader writes what it likes."""
    text = text_of(data)
    if not text:
        return f"boot loader: {hex_of(data)}"
    for prefix, words in _GRUB.items():
        if text.startswith(prefix):
            return words + text[len(prefix) :]
    if text in _IPL_TEXTS:
        return _IPL_TEXTS[text]
    if text in _SECTIONS:
        return f"{_SECTIONS[text]}, section {text} of the unified kernel image"
    if _FILE.fullmatch(text):
        what = "kernel" if _KERNEL.search(text) else "initial RAM disk" if _RAM_DISK.search(text) else "file"
        return f"{what} read by the boot loader: {text}"
    if _OPTIONS.search(text):
        return f"kernel command line: {text.strip()}"
    return f"boot loader: {text}"


def tag(data: bytes) -> str:
    """Say what EV_EVENT_TAG holds."""
    entry = parse_aael(data)
    if entry is not None:
        return entry.words()
    if len(data) < _TAG.size:
        return f"tagged event that is cut off: {hex_of(data)}"
    number, size = _TAG.unpack_from(data)
    text = text_of(data[_TAG.size : _TAG.size + size])
    known = _TAGS.get(number)
    if known is None:
        return f"tagged event {number:08x}: {text or hex_of(data[_TAG.size :])}"
    return f"{known}: {text}" if number not in {0x8F3B22EC, 0x8F3B22ED} and text else known
