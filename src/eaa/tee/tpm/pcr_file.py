# SPDX-License-Identifier: Apache-2.0
"""The file of PCR values that ``tpm2_quote --pcr`` and ``tpm2_pcrread --output`` write (tpm2-tools 4 and later).

It is the memory of C structures, little-endian: TPML_PCR_SELECTION with room for 16 banks, then how many TPML_DIGEST follow, then
those, each with room for 8 digests of 64 bytes. The digests stand in the order of the selection.
"""

from __future__ import annotations

import struct
from typing import Final

from eaa.tee.tpm.quote import MAX_BANKS, PcrSelection, bank_name
from eaa.tee.tpm.wire import Reader, digest_size

__all__ = ["pack_pcr_file", "parse_pcr_file"]

_CHECK: Final = "tpm.quote.pcr-selection"
_COUNT: Final = struct.Struct("<I")
_SELECTION: Final = struct.Struct("<HB4sx")
_DIGEST: Final = struct.Struct("<H64s")
_DIGESTS: Final = 8
"""Digests in one TPML_DIGEST."""
_MAX_LISTS: Final = 64


def parse_pcr_file(data: bytes) -> dict[int, dict[int, bytes]]:
    """Return bank → index → value.

    :raises EvidenceError: when it is malformed, or holds more or fewer values than it selects.
    """
    reader = Reader(data, "the file of PCR values", _CHECK)
    (banks,) = reader.unpack(_COUNT)
    if banks > MAX_BANKS:
        raise reader.error(f"{banks} banks, at most {MAX_BANKS} exist")
    rows = [reader.unpack(_SELECTION) for _ in range(MAX_BANKS)][:banks]
    selections = [PcrSelection(bank, int.from_bytes(mask[:size], "little")) for bank, size, mask in rows]
    values = _read_digests(reader)
    reader.finish()
    wanted = [(selection.bank, index) for selection in selections for index in selection.indices]
    if len(values) != len(wanted) or len(set(wanted)) != len(wanted):
        raise reader.error(f"{len(values)} values for {len(wanted)} selected PCRs")
    found: dict[int, dict[int, bytes]] = {}
    for (bank, index), value in zip(wanted, values, strict=True):
        if len(value) != digest_size(bank, _CHECK):
            raise reader.error(f"a value of {len(value)} bytes in the {bank_name(bank)} bank")
        found.setdefault(bank, {})[index] = value
    return found


def _read_digests(reader: Reader) -> list[bytes]:
    (lists,) = reader.unpack(_COUNT)
    if lists > _MAX_LISTS:
        raise reader.error(f"{lists} lists of digests, at most {_MAX_LISTS} are read")
    values: list[bytes] = []
    for _ in range(lists):
        (count,) = reader.unpack(_COUNT)
        rows = [reader.unpack(_DIGEST) for _ in range(_DIGESTS)]
        if count > _DIGESTS or any(size > len(content) for size, content in rows[:count]):
            raise reader.error("a list of digests is longer than its place")
        values.extend(content[:size] for size, content in rows[:count])
    return values


def pack_pcr_file(pcrs: dict[int, dict[int, bytes]]) -> bytes:
    """Return such a file; the inverse of :func:`parse_pcr_file`."""
    rows = [
        _SELECTION.pack(bank, 3, sum(1 << index for index in values).to_bytes(4, "little"))
        for bank, values in pcrs.items()
    ]
    values = [value for bank in pcrs.values() for _, value in sorted(bank.items())]
    groups = [values[at : at + _DIGESTS] for at in range(0, len(values), _DIGESTS)]
    lists = b"".join(
        _COUNT.pack(len(group))
        + b"".join(_DIGEST.pack(len(value), value) for value in group).ljust(_DIGESTS * _DIGEST.size, b"\0")
        for group in groups
    )
    selection = b"".join(rows).ljust(MAX_BANKS * _SELECTION.size, b"\0")
    return _COUNT.pack(len(rows)) + selection + _COUNT.pack(len(groups)) + lists
