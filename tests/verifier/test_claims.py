# SPDX-License-Identifier: Apache-2.0
"""What policies see: Trustee's names and encodings."""

from __future__ import annotations

import base64
import json
from typing import TYPE_CHECKING

import pytest

from eaa.rats import Appraisal, Claims, EvidenceError
from eaa.tee.dcap.quote import pack_envelope
from eaa.tee.registry import parse_evidence
from eaa.tee.sgx.evidence import SgxQuote
from eaa.tee.tdx.evidence import TdxQuote
from eaa.verifier.claims import policy_input

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .conftest import Attest

RUNTIME = {"nonce": "AAEC", "tee-pubkey": {"kty": "EC"}, "additional-evidence": ""}


def test_a_td_is_told_in_trustees_form(attest: Attest) -> None:
    appraisal = attest("tdx")
    given = policy_input(appraisal, RUNTIME)
    measured = appraisal.evidence.measurements
    tdx = given["tdx"]
    assert tdx["quote"]["header"] == {
        "version": "0400",
        "att_key_type": "0200",
        "tee_type": "81000000",
        "reserved": "00000000",
        "vendor_id": "939a7233f79c4ca9940a0db3957f0607",
        "user_data": tdx["quote"]["header"]["user_data"],
    }
    assert tdx["quote"]["body"]["mr_td"] == measured["mr_td"] == tdx["mr_td"]
    assert tdx["quote"]["body"]["tcb_svn"] == measured["tee_tcb_svn"]
    assert tdx["quote"]["body"]["td_attributes"] == "0000001000000000"
    assert "type" not in tdx["quote"]
    assert tdx["td_attributes"] == {
        "debug": False,
        "septve_disable": True,
        "protection_keys": False,
        "key_locker": False,
        "perfmon": False,
    }
    assert tdx["tcb_status"] == "UpToDate"
    assert tdx["advisory_ids"] == []
    assert tdx["collateral_expiration_status"] == "0"
    assert given["report_data"] == b"challenge".hex() + "00" * 55
    assert given["init_data"] == "00" * 48
    assert given["init_data_claims"] is None
    assert given["runtime_data_claims"] == RUNTIME
    json.dumps(given)


def test_a_quote_of_version_5_tells_its_body_and_the_fields_of_tdx_1_5(attest: Attest) -> None:
    quote = policy_input(attest("tdx", version=5), None)["tdx"]["quote"]
    assert quote["header"]["version"] == "0500"
    assert (quote["type"], quote["size"]) in {("0200", "48020000"), ("0300", "88020000")}
    assert ("mr_servicetd" in quote["body"]) is (quote["type"] == "0300")


def test_debug_and_expired_collateral_are_told(attest: Attest) -> None:
    assert policy_input(attest("tdx", "debug"), None)["tdx"]["td_attributes"]["debug"] is True
    assert policy_input(attest("sgx", "debug"), None)["sgx"]["debug"] is True
    assert (
        policy_input(attest("tdx", "expired-collateral"), None)["tdx"]["collateral_expiration_status"] == "1"
    )


def test_an_enclave_is_told_as_in_trustees_example_token(vectors: Path, attest: Attest, at: datetime) -> None:
    token = json.loads((vectors / "tokens/ear-trustee-example-claims/claims.json").read_text())
    expected = token["submods"]["cpu0"]["ear.veraison.annotated-evidence"]
    header, body = expected["sgx"]["header"], expected["sgx"]["body"]
    names = [
        "cpu_svn",
        "misc_select",
        "reserved1",
        "isv_ext_prod_id",
        "attributes.flags",
        "attributes.xfrm",
        "mr_enclave",
    ]
    names += [
        "reserved2",
        "mr_signer",
        "reserved3",
        "config_id",
        "isv_prod_id",
        "isv_svn",
        "config_svn",
        "reserved4",
    ]
    names += ["isv_family_id", "report_data"]
    fields = ["version", "att_key_type", "att_key_data_0", "qe_svn", "pce_svn", "vendor_id", "user_data"]
    signed = bytes.fromhex("".join([*(header[name] for name in fields), *(body[name] for name in names)]))
    given = policy_input(_appraised(signed, attest("sgx"), at), None)
    assert given["sgx"]["header"] == header
    assert given["sgx"]["body"] == body
    assert given["report_data"] == expected["report_data"]
    assert given["init_data"] == expected["init_data"]
    assert (given["sgx"]["isv_prod_id"], given["sgx"]["isv_svn"]) == (0, 0)


def test_a_td_is_told_as_in_a_token_of_trustees(vectors: Path, attest: Attest, at: datetime) -> None:
    payload = (vectors / "tokens/ear-trustee-tdx/token.txt").read_text().strip().split(".")[1]
    token = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    expected = token["submods"]["cpu"]["ear.veraison.annotated-evidence"]
    quote = expected["tdx"]["quote"]
    names = [
        "tcb_svn",
        "mr_seam",
        "mrsigner_seam",
        "seam_attributes",
        "td_attributes",
        "xfam",
        "mr_td",
        "mr_config_id",
    ]
    names += [
        "mr_owner",
        "mr_owner_config",
        "rtmr_0",
        "rtmr_1",
        "rtmr_2",
        "rtmr_3",
        "report_data",
        "tee_tcb_svn2",
    ]
    names += ["mr_servicetd"]
    fields = ["version", "att_key_type", "tee_type", "reserved", "vendor_id", "user_data"]
    parts = [quote["header"][name] for name in fields] + [quote["type"], quote["size"]]
    signed = bytes.fromhex("".join(parts + [quote["body"][name] for name in names]))
    given = policy_input(_appraised(signed, attest("tdx"), at), None)
    assert given["tdx"]["quote"] == quote
    assert given["report_data"] == expected["report_data"]
    assert given["init_data"] == expected["init_data"]


def _appraised(signed: bytes, like: Appraisal, at: datetime) -> Appraisal:
    """Give the signed part of a quote the signature of another quote, of version 3 or of a later one."""
    assert isinstance(like.evidence, SgxQuote | TdxQuote)
    quote = pack_envelope(signed, like.evidence.envelope.signature)
    evidence = parse_evidence(quote, tee=like.evidence.tee)
    return Appraisal(evidence, at, (), Claims(evidence.tee, evidence.report_data, {}, debug=False))


def test_other_evidence_has_no_such_form(at: datetime) -> None:
    class Other:
        tee = "other"
        raw = report_data = b""
        debug = False
        measurements: dict[str, str] = {}  # noqa: RUF012

    with pytest.raises(EvidenceError, match="other"):
        policy_input(Appraisal(Other(), at, (), Claims("other", b"", {}, debug=False)), None)
