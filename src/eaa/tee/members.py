# SPDX-License-Identifier: Apache-2.0
"""Members of the JSON in which attesters send evidence, whatever the kind of TEE."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EVENT_LOG", "base64_member", "event_log_member"]

EVENT_LOG: Final = "cc_eventlog"
"""The log of firmware, as CoCo's attesters name it for every kind of TEE that has one."""


def base64_member(value: Any, name: str) -> bytes:
    """Return the bytes of a member in standard base64.

    :raises EvidenceError: when it is something else.
    """
    if isinstance(value, str):
        try:
            return b64decode(value, validate=True)
        except ValueError:
            pass
    raise EvidenceError(f"the evidence holds no {name} in standard base64", check=f"evidence.{name}")


def event_log_member(evidence: Mapping[str, Any]) -> bytes:
    """Return the event log that came with evidence, unread, or nothing.

    :raises EvidenceError: when it is not in standard base64.
    """
    log = evidence.get(EVENT_LOG)
    return b"" if log is None or log == "" else base64_member(log, EVENT_LOG)
