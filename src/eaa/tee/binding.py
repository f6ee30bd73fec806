# SPDX-License-Identifier: Apache-2.0
"""What evidence is bound to, the same for every TEE: the report data of one exchange, and the init-data of one launch."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

from eaa.rats import Rule, Stage

if TYPE_CHECKING:
    from eaa.rats import Check

__all__ = ["INIT_DATA", "REPORT_DATA", "check_init_data", "check_report_data"]

REPORT_DATA: Final = Rule(
    "binding.report-data",
    Stage.BINDING,
    "The TEE signed the report data of this very exchange",
    "RFC 9334, section 10 (freshness); all 64 bytes compared, padding included",
    "Ask the TEE again with the current challenge; if it persists, somebody replays or relays evidence.",
)

INIT_DATA: Final = Rule(
    "binding.init-data",
    Stage.BINDING,
    "The TEE was launched with the init-data that the guest sends",
    "CoCo initdata specification; TDX MRCONFIGID, SGX CONFIGID, SNP HOST_DATA",
    "Send the very text that the guest was launched with, or launch it with this one; where its owner demands init-data, send some.",
)


def check_report_data(found: bytes, expected: bytes) -> Check:
    """Compare every byte in constant time (attack A17)."""
    return REPORT_DATA.holds(hmac.compare_digest(found, expected), expected.hex(), found.hex())


def check_init_data(found: bytes, expected: bytes | None, *, required: bool = False) -> Check:
    """Compare the field that carries the digest of init-data (attack A28) with the digest, already of the field's size.

    ``expected`` is None when the guest sends no init-data: that blocks if they are ``required``; else a reference value for the field says
    what it may hold.
    ``found`` is empty when this kind of TEE has no such field.
    """
    if expected is None and required:
        return INIT_DATA.not_made(
            "init-data of this guest's, which its owner demands", "the guest sends none"
        )
    if expected is None:
        return INIT_DATA.not_applicable(
            "the guest sends no init-data; a reference value says what the field may be"
        )
    if not found:
        return INIT_DATA.not_made("a field that carries the digest", "this kind of TEE has none")
    return INIT_DATA.holds(hmac.compare_digest(found, expected), expected.hex(), found.hex())
