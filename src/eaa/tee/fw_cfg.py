# SPDX-License-Identifier: Apache-2.0
"""fw_cfg, the device through which QEMU hands files to firmware: its directory, and a request to read a file.

QEMU, ``docs/specs/fw_cfg.rst``.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.rats import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["DIRECTORY", "DMA_ADDRESS", "ENTRY_SIZE", "MAX_FILES", "File", "dma_read", "parse_directory"]

DIRECTORY: Final = 0x19
"""Key of the list of files."""
DMA_ADDRESS: Final = 0x514
"""Port that takes the upper half of the request's address; the lower half, four ports on, starts it. Both are big-endian."""
MAX_FILES: Final = 4096
ENTRY_SIZE: Final = 64

_COUNT: Final = struct.Struct(">I")
_ENTRY: Final = struct.Struct(">IHxx56s")
_REQUEST: Final = struct.Struct(">IIQ")
_READ: Final = 1 << 1
_SELECT: Final = 1 << 3


class File(NamedTuple):
    """Where a file is found, and how many bytes it has."""

    key: int
    size: int


def dma_read(file: File, address: int) -> bytes:
    """Return the FWCfgDmaAccess that has ``file`` written to guest memory at ``address``."""
    return _REQUEST.pack(file.key << 16 | _SELECT | _READ, file.size, address)


def parse_directory(data: bytes) -> Mapping[str, File]:
    """Return the files of a directory by name.

    :raises InputError: when it is cut off, lists too many, or names one twice or not in ASCII.
    """
    if len(data) < _COUNT.size:
        raise InputError("the directory of fw_cfg is cut off")
    (count,) = _COUNT.unpack_from(data)
    if count > MAX_FILES or len(data) < _COUNT.size + count * ENTRY_SIZE:
        raise InputError(f"the directory of fw_cfg claims {count} files in {len(data)} bytes")
    files: dict[str, File] = {}
    for index in range(count):
        size, key, name = _ENTRY.unpack_from(data, _COUNT.size + index * ENTRY_SIZE)
        text = name.partition(b"\0")[0].decode("ascii", "replace")
        if not text or "\ufffd" in text or text in files:
            raise InputError(f"file {index} of fw_cfg has no name of its own")
        files[text] = File(key, size)
    return files
