# SPDX-License-Identifier: Apache-2.0
"""SNP verification, with its complete list of checks, against the one signature that a report needs."""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import Appraisal, Endorsement, Endorsements, Result, Stage
from eaa.tee.snp.evidence import parse_snp_evidence
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.roots import AMD_ROOTS
from eaa.tee.snp.verify import SnpVerifier

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 400
VECTORS = {"milan": "snp-microsoft-milan", "turin": "snp-microsoft-turin"}


@dataclass(frozen=True)
class SnpCase:
    """One real report as bytes, its certificates, and the time to judge at."""

    report: bytes
    endorsements: Endorsements
    at: datetime


@pytest.fixture(scope="session", params=sorted(VECTORS))
def snp(request: pytest.FixtureRequest, vectors: Path) -> SnpCase:
    """A real report of Milan and of Turin."""
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    vector = next(each for each in listed if each["id"] == VECTORS[request.param])

    def read(role: str) -> bytes:
        entry = vector["files"][role]
        data = (vectors / entry["path"]).read_bytes()
        return b64decode(data) if entry["encoding"] == "base64" else data

    items = (Endorsement("snp_vcek", read("vcek")), Endorsement("snp_chain", read("cert_chain")))
    return SnpCase(read("report"), Endorsements(items), datetime.fromisoformat(vector["verify_at"]))


def judge(verifier: SnpVerifier, case: SnpCase, endorsements: Endorsements) -> Appraisal:
    """Everything a verifier does for one report: parse it, verify it, bind it."""
    evidence = parse_snp_evidence(case.report)
    return verifier.verify(evidence, endorsements, at=case.at, report_data=evidence.report_data)


def require_genuine(appraisal: Appraisal) -> None:
    """A benchmark of a verification that fails would be worth nothing; the real reports lack a revocation list."""
    failed = [check for check in appraisal.checks if check.result is Result.FAIL]
    assert not [check for check in failed if check.rule.stage is Stage.AUTHENTICITY]
    assert len(appraisal.checks) > 25


def test_snp_warm(benchmark: BenchmarkFixture, snp: SnpCase) -> None:
    """A further report of a known platform: one signature is verified, everything is judged."""
    verifier = SnpVerifier(AMD_ROOTS, SnpPolicy())
    require_genuine(
        benchmark.pedantic(judge, (verifier, snp, snp.endorsements), rounds=ROUNDS, warmup_rounds=20)
    )


def test_snp_cold(benchmark: BenchmarkFixture, snp: SnpCase) -> None:
    """The first report that a verifier sees: nothing is remembered."""

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (SnpVerifier(AMD_ROOTS, SnpPolicy()), snp, Endorsements(snp.endorsements.items)), {}

    require_genuine(benchmark.pedantic(judge, setup=fresh, rounds=ROUNDS, warmup_rounds=20))


def test_snp_floor(benchmark: BenchmarkFixture, snp: SnpCase) -> None:
    """One P-384 verification, the least that a genuine report costs."""
    key = ec.generate_private_key(ec.SECP384R1())
    algorithm = ec.ECDSA(hashes.SHA384())
    message = parse_snp_evidence(snp.report).signed
    benchmark.pedantic(
        key.public_key().verify,
        (key.sign(message, algorithm), message, algorithm),
        rounds=ROUNDS,
        warmup_rounds=20,
    )
