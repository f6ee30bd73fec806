# SPDX-License-Identifier: Apache-2.0
"""What policies see and tokens carry: the claims of a TEE under the names that Trustee gives them.

Under the TEE's name stand Trustee's nested claims (quote header and body, each field as the hex of its bytes in wire order), and
beside them the plain names of the architecture (``mr_td``, ``isv_svn`` as an integer, …), which Trustee does not use.
"""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import EvidenceError
from eaa.tee.sgx.evidence import SgxQuote
from eaa.tee.tdx.evidence import (
    ATTR_DEBUG,
    ATTR_KEY_LOCKER,
    ATTR_PERFMON,
    ATTR_PROTECTION_KEYS,
    ATTR_SEPT_VE_DISABLE,
    MEASUREMENTS,
    TdxQuote,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Appraisal
    from eaa.tee.dcap.quote import Envelope

__all__ = ["policy_input"]

_TDX_BODY: Final = {
    "tee_tcb_svn": "tcb_svn",
    "tee_tcb_svn_2": "tee_tcb_svn2",
    "mr_service_td": "mr_servicetd",
}
"""Our names of body fields whose names differ in Trustee."""
_TD_ATTRIBUTES: Final = {
    "debug": ATTR_DEBUG,
    "septve_disable": ATTR_SEPT_VE_DISABLE,
    "protection_keys": ATTR_PROTECTION_KEYS,
    "key_locker": ATTR_KEY_LOCKER,
    "perfmon": ATTR_PERFMON,
}
_FACTS: Final = {
    "fmspc": "fmspc",
    "sgx_type": "sgx_type",
    "platform_instance_id": "platform_instance_id",
    "dynamic_platform": "is_dynamic_platform",
    "cached_keys": "is_cached_keys",
    "smt_enabled": "is_smt_enabled",
    "tcb_evaluation_number": "tcb_eval_num",
    "collateral_valid_until": "earliest_expiration_date",
}
"""What the PCK certificate and the collateral say: our name and Trustee's."""


def policy_input(
    appraisal: Appraisal,
    runtime_data: Mapping[str, Any] | None,
    *,
    init_data_claims: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the ``input`` of attestation policies, which is also the token's annotated evidence.

    ``runtime_data`` is what the report data binds (``nonce``, ``tee-pubkey``). Only the claims of an accepted appraisal are trusted.

    :raises EvidenceError: when there is no such form for this kind of evidence.
    """
    evidence = appraisal.evidence
    if isinstance(evidence, TdxQuote):
        claims, init_data = _tdx(evidence), evidence.report.mr_config_id
    elif isinstance(evidence, SgxQuote):
        claims, init_data = _sgx(evidence), evidence.report.config_id
    else:
        raise EvidenceError(f"policies cannot read evidence of TEE {evidence.tee!r}", check="evidence.tee")
    values = appraisal.unverified.values
    claims.update({theirs: values[ours] for ours, theirs in _FACTS.items() if ours in values})
    claims["tcb_status"] = appraisal.unverified.tcb_status
    claims["advisory_ids"] = list(appraisal.unverified.advisory_ids)
    claims["collateral_expiration_status"] = _expiration(appraisal)
    return {
        evidence.tee: claims,
        "report_data": evidence.report_data.hex(),
        "init_data": init_data.hex(),
        "init_data_claims": None if init_data_claims is None else dict(init_data_claims),
        "runtime_data_claims": None if runtime_data is None else dict(runtime_data),
    }


def _expiration(appraisal: Appraisal) -> str:
    """Return "0" when every date of the collateral was checked and holds, else "1", as Intel's library counts."""
    dates = [
        check for check in appraisal.checks if check.id.startswith("dcap.") and check.id.endswith("dates")
    ]
    return "0" if dates and not any(check.blocks for check in dates) else "1"


def _tdx(quote: TdxQuote) -> dict[str, Any]:
    report, body = quote.report, quote.report.to_claims()
    wire: dict[str, Any] = {
        "header": {
            **_header(quote.envelope),
            "tee_type": struct.pack("<I", quote.envelope.header.tee_type).hex(),
            "reserved": struct.pack("<HH", quote.envelope.header.qe_svn, quote.envelope.header.pce_svn).hex(),
        },
        "body": {_TDX_BODY.get(name, name): value for name, value in body.items()},
    }
    if quote.envelope.header.version == 5:
        wire["type"] = struct.pack("<H", quote.envelope.body_type).hex()
        wire["size"] = struct.pack("<I", len(quote.envelope.body)).hex()
    return {
        "quote": wire,
        "td_attributes": {name: bool(report.td_attributes & bit) for name, bit in _TD_ATTRIBUTES.items()},
        **{name: body[name] for name in MEASUREMENTS},
    }


def _sgx(quote: SgxQuote) -> dict[str, Any]:
    report, header = quote.report, quote.envelope.header
    return {
        "header": {
            **_header(quote.envelope),
            "att_key_data_0": struct.pack("<I", header.tee_type).hex(),
            "qe_svn": struct.pack("<H", header.qe_svn).hex(),
            "pce_svn": struct.pack("<H", header.pce_svn).hex(),
        },
        "body": {
            "cpu_svn": report.cpu_svn.hex(),
            "misc_select": struct.pack("<I", report.misc_select).hex(),
            "reserved1": report.reserved_1.hex(),
            "isv_ext_prod_id": report.isv_ext_prod_id.hex(),
            "attributes.flags": report.attributes[:8].hex(),
            "attributes.xfrm": report.attributes[8:].hex(),
            "mr_enclave": report.mr_enclave.hex(),
            "reserved2": report.reserved_2.hex(),
            "mr_signer": report.mr_signer.hex(),
            "reserved3": report.reserved_3.hex(),
            "config_id": report.config_id.hex(),
            "isv_prod_id": struct.pack("<H", report.isv_prod_id).hex(),
            "isv_svn": struct.pack("<H", report.isv_svn).hex(),
            "config_svn": struct.pack("<H", report.config_svn).hex(),
            "reserved4": report.reserved_4.hex(),
            "isv_family_id": report.isv_family_id.hex(),
            "report_data": report.report_data.hex(),
        },
        "mr_enclave": report.mr_enclave.hex(),
        "mr_signer": report.mr_signer.hex(),
        "isv_prod_id": report.isv_prod_id,
        "isv_svn": report.isv_svn,
        "debug": report.debug,
    }


def _header(envelope: Envelope) -> dict[str, str]:
    header = envelope.header
    return {
        "version": struct.pack("<H", header.version).hex(),
        "att_key_type": struct.pack("<H", header.att_key_type).hex(),
        "vendor_id": header.qe_vendor_id.hex(),
        "user_data": header.user_data.hex(),
    }
