# SPDX-License-Identifier: Apache-2.0
"""Real quotes of real TPMs, and of Azure's: every vector comes out as others found it, or says why not."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._tpm_vectors import EXCUSED, azure_vector, tpm_vector
from eaa.rats import Appraisal, Endorsement, Endorsements, Result, Stage
from eaa.tee.azure.kind import AZ_SNP, AZ_TDX
from eaa.tee.azure.verify import azure_verifier
from eaa.tee.dcap.collateral_files import endorsements_from_json
from eaa.tee.tpm.kind import KIND
from eaa.tee.tpm.verify import tpm_verifier

if TYPE_CHECKING:
    from pathlib import Path

TEES = ("tpm2", "az-snp-vtpm", "az-tdx-vtpm")
AT = datetime(2026, 3, 16, tzinfo=UTC)
NOT_GIVEN = {
    "snp.crl", "snp.vcek.revocation",  # no vector has AMD's list
    *(check for checks in EXCUSED.values() for check in checks),
}  # fmt: skip


def load(vectors: Path) -> dict[str, dict[str, Any]]:
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    return {each["id"]: each for each in listed if each["tee"] in TEES}


def files_of(vector: dict[str, Any], vectors: Path) -> dict[str, bytes]:
    return {role: (vectors / entry["path"]).read_bytes() for role, entry in vector["files"].items()}


def appraise(vector: dict[str, Any], vectors: Path, collateral: bytes = b"") -> Appraisal:
    files = files_of(vector, vectors)
    at = datetime.fromisoformat(vector["verify_at"]) if "verify_at" in vector else AT
    if vector["tee"] == "tpm2":
        evidence, endorsements = tpm_vector(files)
        expected = evidence.report_data.ljust(64, b"\0")
        return tpm_verifier((), ()).verify(evidence, endorsements, at=at, report_data=expected)
    azure = azure_vector(vector["tee"], files)
    text = files.get("collateral_assembled", collateral)
    endorsements = endorsements_from_json(text) if text else Endorsements()
    if "cert_chain" in files:
        endorsements = Endorsements((Endorsement("snp_chain", files["cert_chain"]),))
    verifier = azure_verifier((*AZ_SNP.roots, *AZ_TDX.roots), ())
    return verifier.verify(azure, endorsements, at=at, report_data=azure.report_data.ljust(64, b"\0"))


def failed(appraisal: Appraisal) -> set[str]:
    """Authenticity alone, as a manifest's ``valid`` means it; what a vector does not give counts for nothing."""
    return {
        check.id
        for check in appraisal.failing_at(Stage.AUTHENTICITY)
        if check.result is Result.FAIL or check.id not in NOT_GIVEN
    }


def test_every_vector_agrees_with_its_expectation(vectors: Path) -> None:
    listed = load(vectors)
    assert len(listed) == 18
    for name, vector in listed.items():
        collateral = b""
        if name == "az-tdx-cmc-parts":  # its collateral is in another vector, as its notes say
            collateral = (vectors / "tdx/tdx-cmc-azure/collateral_assembled.json").read_bytes()
        appraisal = appraise(vector, vectors, collateral)
        expected, claims = vector["expected"], appraisal.unverified
        assert (not failed(appraisal)) is expected.get("valid", True), (name, failed(appraisal))
        assert claims.debug is expected.get("debug", False), name
        if "tpm_nonce" in expected:
            assert claims.report_data.hex() == expected["tpm_nonce"]
        if "hardware_report_data" in expected:
            assert claims.values["hardware_report_data"] == expected["hardware_report_data"]
        if "tcb_status" in expected:
            assert claims.tcb_status == expected["tcb_status"], name
            assert sorted(claims.advisory_ids) == expected["advisory_ids"], name
        ours = {**claims.measurements, "mrtd": claims.measurements.get("mr_td")}
        ours |= {f"rtmr{n}": claims.measurements.get(f"rtmr_{n}") for n in range(4)}
        for register, value in expected.get("measurements", {}).items():
            assert ours[register] == value, (name, register)


@pytest.mark.parametrize(
    ("name", "check"),
    [
        ("tpm-neg-enacttrust-digest", "tpm.quote.signature"),
        ("tpm-neg-trustee-pcr", "tpm.quote.pcr-digest"),
        ("az-snp-neg-akpub", "az.hcl.binding"),
        ("az-snp-neg-quote-nonce", "tpm.quote.signature"),
        ("az-tdx-neg-pcr", "tpm.quote.pcr-digest"),
    ],
)
def test_a_negative_vector_fails_for_its_reason(vectors: Path, name: str, check: str) -> None:
    assert check in failed(appraise(load(vectors)[name], vectors))


@pytest.mark.parametrize(
    ("name", "pcr00"),
    [
        ("az-snp-trustee-v2", "84275b2f4312cd4fc6cbe6b152ad3c3683e513d9f1e23c34fca160c8cca7a6a7"),
        ("az-snp-trustee-genoa", "afd689d0bb1c5f36f023fbaf574135f555a28a10c1f6b938d2a25e70c7783338"),
        ("az-tdx-trustee-v0", "782b20b10f55cc46e2142cc2145d548698073e5beb82752c8d7f9279f0d8a273"),
    ],
)
def test_registers_are_those_that_trustee_reads(vectors: Path, name: str, pcr00: str) -> None:
    appraisal = appraise(load(vectors)[name], vectors)
    kind = AZ_SNP if name.startswith("az-snp") else AZ_TDX
    assert kind.claims(appraisal).claims["tpm"]["pcr00"] == pcr00
    assert appraisal.unverified.measurements["pcr00"] == pcr00


def test_trustees_own_evidence_is_genuine_but_of_nobody_known(vectors: Path) -> None:
    """Trustee accepts this quote for the key it brings along; here it is real, and not accepted."""
    appraisal = appraise(load(vectors)["tpm-trustee-evidence"], vectors)
    assert {check.id for check in appraisal.failing} == {"tpm.ak.anchored"}
    assert KIND.claims(appraisal).claims["ak_public"].startswith("MIIBIjAN")


def test_a_quote_over_sha1_is_genuine_but_refused(vectors: Path) -> None:
    """The Windows machine's TPM signed it, but others could have made a collision: the signature holds, the posture does not."""
    appraisal = appraise(load(vectors)["tpm-google-windows-gce"], vectors)
    assert not failed(appraisal)
    assert "tpm.quote.hash" in {check.id for check in appraisal.failing_at(Stage.POSTURE)}


def test_every_changed_bit_of_azures_evidence_is_noticed(vectors: Path) -> None:
    """What is neither signed nor bound is refused (attack A13): all of HCL report and quote, sampled."""
    from eaa.rats import EvidenceError
    from eaa.tee.azure.evidence import azure_snp_from_kbs

    vector = load(vectors)["az-snp-trustee-v0"]
    document = json.loads(files_of(vector, vectors)["evidence"])
    chain = Endorsements((Endorsement("snp_chain", files_of(vector, vectors)["cert_chain"]),))
    verifier = azure_verifier(AZ_SNP.roots, ())
    expected = b"challenge".ljust(64, b"\0")
    at = datetime.fromisoformat(vector["verify_at"])

    def blocking(changed: dict[str, Any]) -> set[str]:
        evidence = azure_snp_from_kbs(changed)
        return {check.id for check in verifier.verify(evidence, chain, at=at, report_data=expected).failing}

    before = blocking(document)
    unnoticed = []
    places: list[tuple[str, str | None, int]] = [("report", None, at) for at in range(0, 2600, 61)]
    places += [("quote", part, at) for part in ("message", "signature") for at in range(0, 122, 11)]
    for outer, inner, place in places:
        changed = json.loads(json.dumps(document))
        target = changed[outer] if inner is None else changed[outer][inner]
        target[place] ^= 0x10
        try:
            if blocking(changed) == before:
                unnoticed.append((outer, inner, place))
        except EvidenceError:
            continue
    assert unnoticed == []
