# SPDX-License-Identifier: Apache-2.0
"""TDX, as the rest of EAA knows it."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from eaa.eventlog import parse_event_log, to_trustee
from eaa.tee.dcap.claims import header_claims, platform_claims
from eaa.tee.dcap.evidence import quote_bytes
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.dcap.verify import dcap_verifier
from eaa.tee.kind import TeeClaims, TeeKind
from eaa.tee.members import event_log_member
from eaa.tee.tdx.evidence import (
    ATTR_DEBUG,
    ATTR_KEY_LOCKER,
    ATTR_PERFMON,
    ATTR_PROTECTION_KEYS,
    ATTR_SEPT_VE_DISABLE,
    MEASUREMENTS,
    TdxQuote,
    parse_tdx_quote,
)

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from eaa.rats import Appraisal

__all__ = ["KIND"]

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

_REQUIRED: Final = frozenset({"mr_td", "rtmr_0", "rtmr_1", "rtmr_2"})
"""Firmware, virtual hardware, boot loader and kernel, command line. The guest itself extends rtmr_3, which therefore pins nothing
without the others (attack A27)."""


def _required(_: Container[str]) -> frozenset[str]:
    return _REQUIRED


def _from_kbs(evidence: Mapping[str, Any]) -> TdxQuote:
    return replace(parse_tdx_quote(quote_bytes(evidence)), event_log=event_log_member(evidence))


def _claims(appraisal: Appraisal) -> TeeClaims:
    """Trustee's nested claims of the quote, and beside them the plain names (``mr_td``, ``rtmr_0``, …)."""
    quote = appraisal.evidence
    assert isinstance(quote, TdxQuote)
    claims = _quote_claims(quote) | platform_claims(appraisal)
    if not any(check.id.startswith("eventlog.") and check.blocks for check in appraisal.checks):
        claims["uefi_event_logs"] = to_trustee(parse_event_log(quote.event_log)) if quote.event_log else []
    return TeeClaims(claims, quote.report.mr_config_id)


def _quote_claims(quote: TdxQuote) -> dict[str, Any]:
    report, body = quote.report, quote.report.to_claims()
    wire: dict[str, Any] = {
        "header": {
            **header_claims(quote.envelope),
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


KIND: Final = TeeKind(
    name="tdx",
    parse=parse_tdx_quote,
    from_kbs=_from_kbs,
    verifier=dcap_verifier,
    claims=_claims,
    registers={
        "mr_td": "The TD's firmware is one the owner expects",
        "rtmr_0": "The TD's virtual hardware and firmware settings are as the owner expects",
        "rtmr_1": "The TD's boot loader and kernel are as the owner expects",
        "rtmr_2": "The TD's command line and initial disk are as the owner expects",
        "rtmr_3": "What the guest measured while running is as the owner expects",
        "mr_seam": "The TDX module is one the owner expects",
        "mrsigner_seam": "The TDX module's signer is one the owner expects",
        "seam_attributes": "The TDX module's attributes are as the owner expects",
        "mr_config_id": "The TD's configuration (init-data) is as the owner expects",
        "mr_owner": "The TD's owner is as expected",
        "mr_owner_config": "The TD owner's configuration is as expected",
        "td_attributes": "The TD's attributes are as the owner expects",
        "xfam": "The TD's extended features are as the owner expects",
        "mr_service_td": "The TD's service TD is one the owner expects",
    },
    register_source="Intel TDX Module Base Architecture Specification, measurement and attestation; RFC 9334 section 8.3",
    required=_required,
    roots=(INTEL_ROOT,),
)
