# SPDX-License-Identifier: Apache-2.0
"""What SGX and TDX claims share under Trustee's names: the quote's header, and what PCK certificate and collateral say."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eaa.rats import Appraisal
    from eaa.tee.dcap.quote import Envelope

__all__ = ["header_claims", "platform_claims"]

_FACTS: Final = {
    "fmspc": "fmspc",
    "ppid": "ppid",
    "sgx_type": "sgx_type",
    "platform_instance_id": "platform_instance_id",
    "dynamic_platform": "is_dynamic_platform",
    "cached_keys": "is_cached_keys",
    "smt_enabled": "is_smt_enabled",
    "tcb_evaluation_number": "tcb_eval_num",
    "collateral_valid_until": "earliest_expiration_date",
}
"""Our name and Trustee's."""


def header_claims(envelope: Envelope) -> dict[str, str]:
    """Return the quote header's fields as the hex of their bytes in wire order."""
    header = envelope.header
    return {
        "version": struct.pack("<H", header.version).hex(),
        "att_key_type": struct.pack("<H", header.att_key_type).hex(),
        "vendor_id": header.qe_vendor_id.hex(),
        "user_data": header.user_data.hex(),
    }


def platform_claims(appraisal: Appraisal) -> dict[str, Any]:
    """Return what the PCK certificate and the collateral say of the platform."""
    claims = appraisal.unverified
    return {
        **{theirs: claims.values[ours] for ours, theirs in _FACTS.items() if ours in claims.values},
        "tcb_status": claims.tcb_status,
        "advisory_ids": list(claims.advisory_ids),
        "collateral_expiration_status": _expiration(appraisal),
    }


def _expiration(appraisal: Appraisal) -> str:
    """Return "0" when every date of the collateral was checked and holds, else "1", as Intel's library counts."""
    dates = [
        check for check in appraisal.checks if check.id.startswith("dcap.") and check.id.endswith("dates")
    ]
    return "0" if dates and not any(check.blocks for check in dates) else "1"
