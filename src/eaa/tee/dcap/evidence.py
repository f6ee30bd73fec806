# SPDX-License-Identifier: Apache-2.0
"""The JSON in which CoCo's attesters send a DCAP quote."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eaa.tee.members import base64_member

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["quote_bytes"]


def quote_bytes(evidence: Mapping[str, Any]) -> bytes:
    """Return the quote of ``{"quote": "<standard base64>", …}``.

    :raises EvidenceError: when there is none.
    """
    return base64_member(evidence.get("quote"), "quote")
