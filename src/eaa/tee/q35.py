# SPDX-License-Identifier: Apache-2.0
"""The memory of QEMU's q35 machine: how it is written, and how much of it lies low."""

from __future__ import annotations

import re
from typing import Final

from eaa.rats import ConfigurationError

__all__ = ["low_memory", "memory_size"]

# QEMU's q35 gives all memory below this to low addresses, and 2 GiB of more (hw/i386/pc_q35.c).
_ALL_LOW: Final = 0xB000_0000
_SPLIT_LOW: Final = 0x8000_0000


def memory_size(text: str) -> int:
    """Return the bytes of an amount as QEMU's ``-m`` takes it: a number of MiB, or with one of K, M, G, T.

    :raises ConfigurationError: when it is none.
    """
    match = re.fullmatch(r"([1-9][0-9]{0,14})([KMGT]?)", text, re.ASCII | re.IGNORECASE)
    if match is None:
        raise ConfigurationError(
            f"{text[:40]!r} is no amount of memory", hint="Give it as QEMU's -m has it, such as 2G or 512M."
        )
    return int(match[1]) << {"K": 10, "": 20, "M": 20, "G": 30, "T": 40}[match[2].upper()]


def low_memory(memory: int) -> int:
    """Return how many of a q35 machine's ``memory`` bytes lie below 4 GiB."""
    return memory if memory < _ALL_LOW else _SPLIT_LOW
