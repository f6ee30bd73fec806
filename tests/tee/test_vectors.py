# SPDX-License-Identifier: Apache-2.0
"""Real evidence from real machines: every SGX and TDX vector comes out as others found it."""

from __future__ import annotations

import json
from datetime import datetime
from typing import TYPE_CHECKING

import pytest

from eaa.cli._vector_runs import run_vector
from eaa.cli.vectors import compare_outcomes
from eaa.rats import Endorsement, EndorsementError, Endorsements, EvidenceError
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_enclave_identity,
    read_tcb_info,
)
from eaa.tee.dcap.collateral_files import endorsements_from_json
from eaa.tee.registry import parse_evidence
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Any


def load(vectors: Path) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    return listed


def find(vectors: Path, name: str) -> dict[str, Any]:
    return next(vector for vector in load(vectors) if vector["id"] == name)


def test_every_vector_agrees_with_its_expectation(vectors: Path) -> None:
    verifier = Verifier()
    chosen = [vector for vector in load(vectors) if vector["tee"] in {"sgx", "tdx"}]
    differences = {
        vector["id"]: compare_outcomes(
            vector["expected"], run_vector({**vector, "expected": None}, vectors, verifier)
        )
        for vector in chosen
    }
    assert len(chosen) >= 48
    assert not {name: found for name, found in differences.items() if found}


def test_a_comparison_sees_every_difference(vectors: Path) -> None:
    vector = find(vectors, "tdx-phala-uptodate")
    outcome = run_vector(vector, vectors, Verifier())
    assert compare_outcomes(vector["expected"], outcome) == []
    for name, wrong in {
        "outcome": "invalid",
        "tcb_status": "OutOfDate",
        "advisory_ids": ["INTEL-SA-00001"],
        "debug": True,
        "report_data": "00",
        "measurements": {},
    }.items():
        assert compare_outcomes(vector["expected"], {**outcome, name: wrong}), name


def test_another_signing_chain_fails_the_chain(vectors: Path) -> None:
    """The vector carries a chain of another CA; with it, TCB info must not be believed."""
    vector = find(vectors, "sgx-oasis-pck-chain")
    files = {role: (vectors / entry["path"]).read_bytes() for role, entry in vector["files"].items()}
    quote = parse_evidence(files["quote"], tee="sgx")
    for role, chain_fails in (("tcb_info_issuer_chain", False), ("tcb_info_issuer_chain_bad", True)):
        endorsements = Endorsements((Endorsement("tcb_info", files["tcb_info"], files[role]),))
        appraisal = Verifier().verify(
            quote, endorsements, at=quote_time(vector), report_data=quote.report_data
        )
        failed = {check.id for check in appraisal.checks if check.blocks}
        assert ("dcap.tcb-info.chain" in failed) is chain_fails


def quote_time(vector: dict[str, Any]) -> datetime:
    return datetime.fromisoformat(vector["verify_at"])


def test_malformed_statements_are_refused(vectors: Path) -> None:
    accepted = set()
    for vector, read, parse in (
        ("pcs-neg-openenclave-tcbinfo", read_tcb_info, parse_tcb_info),
        ("pcs-neg-openenclave-qeidentity", read_enclave_identity, parse_enclave_identity),
    ):
        for role, entry in find(vectors, vector)["files"].items():
            try:
                parse(read((vectors / entry["path"]).read_bytes()))
            except EndorsementError:
                continue
            accepted.add(role)
    assert accepted == {
        "tcbInfo",
        "tcbInfoAdvisoryIds",
        "tcbInfo_with_pceid",
        "qe_identity_ok",
        "qe_identity_with_advisoryids",
        "qve_identity_ok",
    }


def test_without_endorsements_nothing_is_decided(vectors: Path) -> None:
    vector = find(vectors, "tdx-phala-uptodate")
    quote = parse_evidence((vectors / vector["files"]["quote"]["path"]).read_bytes(), tee="tdx")
    appraisal = Verifier().verify(quote, Endorsements(), at=quote_time(vector), report_data=quote.report_data)
    assert appraisal.undecided
    assert not appraisal.accepted


@pytest.mark.parametrize("name", ["tdx-phala-uptodate", "sgx-openenclave-debug"])
def test_one_changed_bit_anywhere_in_the_quote_is_noticed(vectors: Path, name: str) -> None:
    """Every byte is either signed, certified, compared or refused (attack A13); sampled, the last ones are padding."""
    vector = find(vectors, name)
    files = vector["files"]
    data = (vectors / files["quote"]["path"]).read_bytes()
    collateral = files.get("dcap_qvl_json") or files["collateral_assembled"]
    endorsements = endorsements_from_json((vectors / collateral["path"]).read_bytes())
    verifier, at = Verifier(), quote_time(vector)
    whole = parse_evidence(data, tee=vector["tee"])
    before = {
        check.id
        for check in verifier.verify(whole, endorsements, at=at, report_data=whole.report_data).failing
    }
    unnoticed = []
    for position in range(0, len(whole.raw), 37):
        altered = bytearray(data)
        altered[position] ^= 0x10
        try:
            quote = parse_evidence(bytes(altered), tee=vector["tee"])
        except EvidenceError:
            continue
        appraisal = verifier.verify(quote, endorsements, at=at, report_data=whole.report_data)
        if {check.id for check in appraisal.failing} == before:
            unnoticed.append(position)
    assert unnoticed == []
