# SPDX-License-Identifier: Apache-2.0
"""Event logs written as firmware writes them: for simulators, tests, and what is measured in advance."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.tcg import SPEC_ID
from eaa.eventlog.types import EventType

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

__all__ = ["NewEvent", "image_data", "tagged_data", "variable_data", "write_event_log"]

_LEGACY: Final = struct.Struct("<II20sI")
_AGILE: Final = struct.Struct("<III")
_SPEC: Final = struct.Struct("<16sIBBBBI")
_BANK: Final = struct.Struct("<HH")
_SIZE: Final = struct.Struct("<I")
_VARIABLE: Final = struct.Struct("<16sQQ")
_TAG: Final = struct.Struct("<II")
_IMAGE: Final = struct.Struct("<QQQQ")


class NewEvent(NamedTuple):
    """An event to be written. ``measured`` is what its digests are of, by default ``data``; EV_NO_ACTION has digests of zeros.

    Where what was measured is not at hand, its ``digests`` are given by algorithm name.
    """

    register: int
    type: int
    data: bytes
    measured: bytes | None = None
    digests: Mapping[str, bytes] | None = None

    def digest(self, algorithm: str) -> bytes:
        """Return what the event extends into a register of this bank."""
        if self.type == EventType.EV_NO_ACTION:
            return bytes(BY_NAME[algorithm].size)
        if self.digests is not None:
            return self.digests[algorithm]
        return BY_NAME[algorithm].digest(self.data if self.measured is None else self.measured)


def write_event_log(
    events: Iterable[NewEvent],
    algorithms: Sequence[str] = ("sha384",),
    *,
    size: int = 0,
    padding: bytes = b"\xff",
) -> bytes:
    """Return a crypto-agile log with one bank per algorithm, padded to ``size`` bytes with ``padding`` if it is shorter."""
    banks = [BY_NAME[name] for name in algorithms]
    spec = _SPEC.pack(SPEC_ID, 0, 0, 2, 0, 2, len(banks))
    spec += b"".join(_BANK.pack(bank.id, bank.size) for bank in banks) + b"\0"
    parts = [_LEGACY.pack(0, EventType.EV_NO_ACTION, bytes(20), len(spec)), spec]
    for event in events:
        parts.append(_AGILE.pack(event.register, event.type, len(banks)))
        parts.extend(bank.id.to_bytes(2, "little") + event.digest(bank.name) for bank in banks)
        parts += [_SIZE.pack(len(event.data)), event.data]
    written = b"".join(parts)
    return written + padding * (size - len(written))


def variable_data(guid: bytes, name: str, value: bytes) -> bytes:
    """Return UEFI_VARIABLE_DATA (PFP 1.06, 10.2.6), the data of the EV_EFI_VARIABLE_… events."""
    encoded = name.encode("utf-16-le")
    return _VARIABLE.pack(guid, len(encoded) // 2, len(value)) + encoded + value


def tagged_data(tag: int, text: bytes) -> bytes:
    """Return TCG_PCClientTaggedEvent (PFP 1.06, 10.4.2.1), the data of an EV_EVENT_TAG event."""
    return _TAG.pack(tag, len(text)) + text


def image_data(path: bytes, size: int, *, at: int = 0) -> bytes:
    """Return UEFI_IMAGE_LOAD_EVENT (PFP 1.06, 10.2.3): an image of ``size`` bytes from the device path ``path``, loaded ``at``."""
    return _IMAGE.pack(at, size, 0, len(path)) + path
