# SPDX-License-Identifier: Apache-2.0
"""Event logs from bytes, whatever wrote them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.eventlog.dstack import parse_dstack
from eaa.eventlog.tcg import parse_tcg

if TYPE_CHECKING:
    from eaa.eventlog.model import EventLog, Registers

__all__ = ["parse_event_log"]

_BLANK: Final = b" \t\r\n"
_LOOK: Final = 64


def parse_event_log(data: bytes, registers: Registers | None = None) -> EventLog:
    """Parse a binary log of firmware (TCG or CC event log) or dstack's JSON.

    ``registers`` says what the numbers of registers in a binary log mean, where the caller knows; else see :func:`~eaa.eventlog.tcg.parse_tcg`.

    :raises EvidenceError: with ``check="eventlog.format"``, when it is neither.
    """
    if data[:_LOOK].lstrip(_BLANK)[:1] in {b"{", b"["}:
        return parse_dstack(data)
    return parse_tcg(data, registers)
