# SPDX-License-Identifier: Apache-2.0
"""Logs as firmware writes them, and recorded ones."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest

from eaa.eventlog import EventType, NewEvent, aael_data, image_data, tagged_data, variable_data
from eaa.eventlog.uefi import GLOBAL_VARIABLE, IMAGE_SECURITY

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="session")
def boot() -> tuple[NewEvent, ...]:
    """A confidential VM's boot."""
    name = "\\EFI\\BOOT\\BOOTX64.EFI\0".encode("utf-16-le")
    path = b"\4\4" + (4 + len(name)).to_bytes(2, "little") + name + b"\x7f\xff\4\0"
    pulled = '{"image":"registry.example/app:1","digest":"sha256:00ff"}'
    return (
        NewEvent(0, EventType.EV_NO_ACTION, b"SP800-155 Event3" + bytes(40)),
        NewEvent(1, EventType.EV_EFI_HANDOFF_TABLES2, b"\x09TdxTable\0" + bytes(8), b"a table"),
        NewEvent(
            1, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\1")
        ),
        NewEvent(1, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG, variable_data(IMAGE_SECURITY, "dbx", b"")),
        NewEvent(1, EventType.EV_SEPARATOR, bytes(4)),
        NewEvent(
            2,
            EventType.EV_EFI_VARIABLE_BOOT,
            variable_data(GLOBAL_VARIABLE, "BootOrder", b"\1\0\0\0"),
            b"\1\0\0\0",
        ),
        NewEvent(2, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, image_data(path, 4096), b"an image"),
        NewEvent(3, EventType.EV_IPL, b"grub_cmd: linux /vmlinuz ro\0", b"linux /vmlinuz ro"),
        NewEvent(3, EventType.EV_IPL, b"/vmlinuz\0", b"a kernel"),
        NewEvent(3, EventType.EV_IPL, b"kernel_cmdline: /vmlinuz ro\0", b"/vmlinuz ro"),
        NewEvent(3, EventType.EV_EVENT_TAG, tagged_data(0x8F3B22EC, b"Linux initrd\0"), b"a file system"),
        NewEvent(2, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation"),
        NewEvent(
            4, EventType.EV_EVENT_TAG, aael_data("github.com/confidential-containers", "PullImage", pulled)
        ),
    )


@dataclass(frozen=True)
class Vector:
    """One recorded log of the manifest, with what is known of it."""

    id: str
    role: str
    data: bytes
    entry: dict[str, Any]
    folder: Path

    def file(self, role: str) -> bytes | None:
        """Return another file of the vector, decoded."""
        file = self.entry["files"].get(role)
        return None if file is None else read(self.folder, file)


def read(folder: Path, file: dict[str, Any]) -> bytes:
    data: bytes = (folder / file["path"]).read_bytes()
    if file["encoding"] == "hex":
        return bytes.fromhex(data.decode())
    return b64decode(data) if file["encoding"] == "base64" else data


@pytest.fixture(scope="session")
def recorded(vectors: Path) -> list[Vector]:
    """Every log of the manifest, of vectors of any kind."""
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    found = [
        Vector(entry["id"], role, read(vectors, file), entry, vectors)
        for entry in listed
        for role, file in entry.get("files", {}).items()
        if role.startswith("event_log")
    ]
    assert sum(each.entry["tee"] == "eventlog" for each in found) == 27
    return found
