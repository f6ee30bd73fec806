# SPDX-License-Identifier: Apache-2.0
"""Firmware made up here, and the real one where it is installed."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

FOOTER = UUID("96b582de-1fb2-45f7-baea-a366c55a082d")


def build_firmware(size: int, entries: Mapping[str, bytes], contents: Mapping[int, bytes]) -> bytes:
    """An image of ``size`` bytes with a table of GUIDs; ``contents`` lie at offsets counted from its end."""
    table = b"".join(
        content + struct.pack("<H", len(content) + 18) + UUID(guid).bytes_le
        for guid, content in entries.items()
    )
    table += struct.pack("<H", len(table) + 18) + FOOTER.bytes_le
    image = bytearray(bytes(range(251)) * (size // 251 + 1))[:size]
    image[-32 - len(table) : -32] = table
    for from_end, content in contents.items():
        image[size - from_end : size - from_end + len(content)] = content
    return bytes(image)


@pytest.fixture(scope="session")
def firmware() -> Callable[[int, Mapping[str, bytes], Mapping[int, bytes]], bytes]:
    return build_firmware


@pytest.fixture(scope="session")
def debian_ovmf() -> bytes:
    """Debian's OVMF.fd, from the package ovmf or where ``EAA_OVMF`` points."""
    path = Path(os.environ.get("EAA_OVMF", "/usr/share/ovmf/OVMF.fd"))
    if not path.is_file():
        pytest.skip("OVMF.fd is not here: install the package ovmf, or set EAA_OVMF")
    return path.read_bytes()
