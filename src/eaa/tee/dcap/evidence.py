# SPDX-License-Identifier: Apache-2.0
"""The JSON in which CoCo's attesters send a DCAP quote."""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Any

from eaa.rats import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["quote_bytes"]


def quote_bytes(evidence: Mapping[str, Any]) -> bytes:
    """Return the quote of ``{"quote": "<standard base64>", …}``.

    :raises EvidenceError: when there is none.
    """
    quote = evidence.get("quote")
    if isinstance(quote, str):
        try:
            return b64decode(quote, validate=True)
        except ValueError:
            pass
    raise EvidenceError("the evidence holds no quote in standard base64", check="evidence.quote")
