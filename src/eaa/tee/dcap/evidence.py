# SPDX-License-Identifier: Apache-2.0
"""The JSON in which CoCo's attesters send a DCAP quote."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from eaa.rats import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["base64_member", "quote_bytes"]


def quote_bytes(evidence: Mapping[str, Any]) -> bytes:
    """Return the quote of ``{"quote": "<standard base64>", …}``.

    :raises EvidenceError: when there is none.
    """
    return base64_member(evidence.get("quote"), "quote")


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
