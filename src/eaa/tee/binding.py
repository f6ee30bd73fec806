# SPDX-License-Identifier: Apache-2.0
"""The binding of evidence to one exchange, the same for every TEE that signs report data."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from eaa.rats import Rule, Stage

if TYPE_CHECKING:
    from eaa.rats import Check

__all__ = ["REPORT_DATA", "check_report_data"]

REPORT_DATA: Final = Rule(
    "binding.report-data",
    Stage.BINDING,
    "The TEE signed the report data of this very exchange",
    "RFC 9334, section 10 (freshness); all 64 bytes compared, padding included",
    "Ask the TEE again with the current challenge; if it persists, somebody replays or relays evidence.",
)


def check_report_data(found: bytes, expected: bytes) -> Check:
    """Compare every byte in constant time (attack A17)."""
    return REPORT_DATA.holds(hmac.compare_digest(found, expected), expected.hex(), found.hex())
