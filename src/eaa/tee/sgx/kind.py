# SPDX-License-Identifier: Apache-2.0
"""SGX, as the rest of EAA knows it."""

from __future__ import annotations

import struct
from typing import TYPE_CHECKING, Any, Final

from eaa.tee.dcap.claims import header_claims, platform_claims
from eaa.tee.dcap.evidence import quote_bytes
from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.tee.dcap.verify import dcap_verifier
from eaa.tee.kind import TeeClaims, TeeKind
from eaa.tee.sgx.evidence import SgxQuote, parse_sgx_quote

if TYPE_CHECKING:
    from collections.abc import Container, Mapping

    from eaa.rats import Appraisal

__all__ = ["KIND"]


def _required(named: Container[str]) -> frozenset[str]:
    """Return MRENCLAVE, or, where only the signer has a reference value, the signer with its product and minimum SVN."""
    if "mr_enclave" not in named and "mr_signer" in named:
        return frozenset({"mr_signer", "isv_prod_id", "isv_svn"})
    return frozenset({"mr_enclave"})


def _from_kbs(evidence: Mapping[str, Any]) -> SgxQuote:
    return parse_sgx_quote(quote_bytes(evidence))


def _claims(appraisal: Appraisal) -> TeeClaims:
    """Trustee's claims of the quote, and beside them the plain names (``mr_enclave``, ``isv_svn`` as an integer, …)."""
    quote = appraisal.evidence
    assert isinstance(quote, SgxQuote)
    return TeeClaims(_quote_claims(quote) | platform_claims(appraisal), quote.report.config_id)


def _quote_claims(quote: SgxQuote) -> dict[str, Any]:
    report, header = quote.report, quote.envelope.header
    return {
        "header": {
            **header_claims(quote.envelope),
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
        "config_id": report.config_id.hex(),
        "debug": report.debug,
    }


KIND: Final = TeeKind(
    name="sgx",
    parse=parse_sgx_quote,
    from_kbs=_from_kbs,
    verifier=dcap_verifier,
    claims=_claims,
    registers={
        "mr_enclave": "The enclave is one the owner expects",
        "mr_signer": "The enclave's signer is one the owner expects",
        "isv_prod_id": "The enclave is the product the owner expects",
        "isv_svn": "The enclave is no older than the owner allows",
        "config_id": "The enclave's configuration (init-data) is as the owner expects",
    },
    register_source="Intel SDM volume 3D, enclave identity; RFC 9334 section 8.3",
    required=_required,
    roots=(INTEL_ROOT,),
    minimums=frozenset({"isv_svn"}),
)
