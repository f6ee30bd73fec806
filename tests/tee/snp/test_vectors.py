# SPDX-License-Identifier: Apache-2.0
"""Real SNP reports of real machines: every vector comes out as others found it, and the bad ones for the right reason."""

from __future__ import annotations

import json
from base64 import b64decode
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import Appraisal, Endorsement, Endorsements, EvidenceError, Result, Stage
from eaa.tee.snp.collateral_files import endorsements_from_snp_json
from eaa.tee.snp.evidence import parse_snp_evidence
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.snp.verify import SnpVerifier

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

KINDS = {"vcek": "snp_vcek", "vlek": "snp_vlek", "cert_chain": "snp_chain", "crl": "snp_crl"}
"""The manifest's roles of files → kinds of endorsement."""
WITHOUT_CRL = {"snp.crl", "snp.vcek.revocation"}
"""What cannot be checked as no vector has a revocation list; it does not count against one."""

REASONS = {
    "snp-neg-cmc-report-data": {"snp.report.version"},
    "snp-neg-flip-measurement": {"snp.report.signature"},
    "snp-neg-flip-policy-debug": {"snp.report.signature"},
    "snp-neg-trustee-vcek-legacy": {"snp.vcek.chain", "snp.vcek.chip-id", "snp.vcek.tcb"},
    "snp-neg-trustee-vcek-new": {"snp.vcek.chain", "snp.vcek.chip-id", "snp.vcek.tcb"},
    "snp-neg-vlek-expired": {"snp.vcek.validity"},
    "snp-neg-wrong-product-chain": {"snp.vcek.chain"},
}
"""Exactly the checks of authenticity that each bad vector must fail."""


def load(vectors: Path) -> dict[str, dict[str, Any]]:
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    return {vector["id"]: vector for vector in listed if vector["tee"] == "snp"}


def read(vectors: Path, vector: Mapping[str, Any], role: str) -> bytes:
    entry = vector["files"][role]
    data = (vectors / entry["path"]).read_bytes()
    return b64decode(data) if entry["encoding"] == "base64" else data


def endorsements_of(vectors: Path, vector: Mapping[str, Any]) -> Endorsements:
    """The mapping of the manifest's file roles to endorsements."""
    items = [
        Endorsement(kind, read(vectors, vector, role))
        for role, kind in KINDS.items()
        if role in vector["files"]
    ]
    if "host_certificates_json" in vector["files"]:
        azure = endorsements_from_snp_json(read(vectors, vector, "host_certificates_json"))
        items += [each for each in azure.items if each.kind == "snp_chain"]
    return Endorsements(tuple(items))


def run_snp(vector: Mapping[str, Any], folder: Path, verifier: SnpVerifier) -> Appraisal:
    """Run one vector without looking at what is expected of it.

    :raises EvidenceError: when its evidence is malformed.
    """
    role = "tsm_report_json" if "tsm_report_json" in vector["files"] else "report"
    evidence = parse_snp_evidence(read(folder, vector, role))
    at = datetime.fromisoformat(vector["verify_at"])
    return verifier.verify(evidence, endorsements_of(folder, vector), at=at, report_data=evidence.report_data)


def broken(appraisal: Appraisal) -> set[str]:
    """The checks of authenticity that failed, or that could not be made although their material was given."""
    failed = {
        check.id
        for check in appraisal.checks
        if check.result is Result.FAIL and check.rule.stage is Stage.AUTHENTICITY
    }
    unmade = {check.id for check in appraisal.checks if check.result is Result.NOT_MADE} - WITHOUT_CRL
    return failed or unmade


@pytest.fixture(scope="module")
def verifier() -> SnpVerifier:
    return SnpVerifier(AMD_ROOTS, SnpPolicy())


def outcome(
    vector: Mapping[str, Any], vectors: Path, verifier: SnpVerifier
) -> tuple[set[str], Appraisal | None]:
    try:
        appraisal = run_snp({**vector, "expected": None}, vectors, verifier)
    except EvidenceError as error:
        return {error.check}, None
    return broken(appraisal), appraisal


def test_every_vector_agrees_with_its_expectation(vectors: Path, verifier: SnpVerifier) -> None:
    listed = load(vectors)
    assert len(listed) >= 19
    for name, vector in listed.items():
        expected = vector["expected"]
        reasons, appraisal = outcome(vector, vectors, verifier)
        assert reasons == REASONS.get(name, set()), name
        assert (not reasons) is expected["valid"], name
        assert appraisal is None or not appraisal.accepted, name
        if expected["valid"]:
            assert appraisal is not None
            claims = appraisal.unverified
            assert claims.debug is expected["debug"], name
            assert expected["measurements"].items() <= dict(claims.measurements).items(), name
            assert claims.report_data.hex() == expected["report_data"], name
            assert str(claims.values["product"]).lower() == vector["facts"]["product"], name
            assert claims.values["signing_key"] == vector["facts"]["signing_key"], name


def test_debug_is_refused_though_genuine(vectors: Path, verifier: SnpVerifier) -> None:
    appraisal = run_snp(load(vectors)["snp-google-milan-v2-debug"], vectors, verifier)
    assert "snp.policy.debug" in {check.id for check in appraisal.failing_at(Stage.POSTURE)}


@pytest.mark.parametrize(
    "name", ["snp-cdai-genoa-v5", "snp-eternis-gcp-v5", "snp-microsoft-turin", "snp-microsoft-milan"]
)
def test_platforms_that_are_kept_up_pass_the_default_policy(
    vectors: Path, verifier: SnpVerifier, name: str
) -> None:
    """Usable: nothing but the revocation list, which the vectors lack, keeps them from being accepted."""
    appraisal = run_snp(load(vectors)[name], vectors, verifier)
    assert {check.id for check in appraisal.failing} == WITHOUT_CRL


def test_certificates_inside_the_evidence_suffice(vectors: Path, verifier: SnpVerifier) -> None:
    """A certificate table after the report, and CoCo's neighbour with the VCEK inside; AMD's authorities are shipped."""
    listed = load(vectors)
    documents = [read(vectors, listed["snp-eternis-gcp-v5"], "report")]
    inner = json.loads(read(vectors, listed["snp-cdai-genoa-v5"], "evidence_json"))["evidence"]
    documents.append(json.dumps(inner).encode())
    documents.append(read(vectors, listed["snp-veraison-genoa-v3"], "tsm_report_json"))
    at = datetime.fromisoformat("2026-07-01T00:00:00Z")
    for document in documents:
        evidence = parse_snp_evidence(document)
        assert evidence.certificates
        appraisal = verifier.verify(evidence, Endorsements(), at=at, report_data=evidence.report_data)
        assert broken(appraisal) == set()


def test_without_endorsements_nothing_is_decided(vectors: Path, verifier: SnpVerifier) -> None:
    vector = load(vectors)["snp-microsoft-turin"]
    evidence = parse_snp_evidence(read(vectors, vector, "report"))
    at = datetime.fromisoformat(vector["verify_at"])
    appraisal = verifier.verify(evidence, Endorsements(), at=at, report_data=evidence.report_data)
    assert appraisal.undecided
    assert not appraisal.accepted


@pytest.mark.parametrize("name", ["snp-microsoft-genoa", "snp-trustee-milan-v3-vlek"])
def test_one_changed_bit_anywhere_in_the_report_is_noticed(
    vectors: Path, verifier: SnpVerifier, name: str
) -> None:
    """Every byte is either signed, compared or refused (attack A13); sampled."""
    vector = load(vectors)[name]
    data, endorsements = read(vectors, vector, "report"), endorsements_of(vectors, vector)
    at = datetime.fromisoformat(vector["verify_at"])
    nonce = parse_snp_evidence(data).report_data
    unnoticed = []
    for position in range(0, len(data), 23):
        altered = bytearray(data)
        altered[position] ^= 0x10
        try:
            evidence = parse_snp_evidence(bytes(altered))
        except EvidenceError:
            continue
        if not broken(verifier.verify(evidence, endorsements, at=at, report_data=nonce)):
            unnoticed.append(position)
    assert unnoticed == []


@pytest.mark.parametrize("name", ["snp-microsoft-genoa", "snp-trustee-milan-v3-vlek"])
def test_one_changed_bit_anywhere_in_the_certificate_is_noticed(
    vectors: Path, verifier: SnpVerifier, name: str
) -> None:
    vector = load(vectors)[name]
    evidence = parse_snp_evidence(read(vectors, vector, "report"))
    at = datetime.fromisoformat(vector["verify_at"])
    sound = endorsements_of(vectors, vector)
    key = sound.items[0]
    from eaa.tee.x509 import split_pem

    der = split_pem(key.content)[0] if key.content.startswith(b"-----") else key.content
    unnoticed = []
    for position in range(0, len(der), 41):
        altered = bytearray(der)
        altered[position] ^= 0x01
        endorsements = Endorsements((Endorsement(key.kind, bytes(altered)), *sound.items[1:]))
        if not broken(verifier.verify(evidence, endorsements, at=at, report_data=evidence.report_data)):
            unnoticed.append(position)
    assert unnoticed == []
