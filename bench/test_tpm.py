# SPDX-License-Identifier: Apache-2.0
"""TPM verification, with its complete list of checks, against the one signature that a quote needs."""

from __future__ import annotations

import json
from base64 import b64encode
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import rsa

from eaa.rats import Appraisal, Endorsements
from eaa.simulator.tpm import SoftwareTpm
from eaa.tee.tpm.enrolment import EnrolledAk
from eaa.tee.tpm.evidence import parse_tpm_evidence
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.public import load_spki, verifies
from eaa.tee.tpm.verify import TpmVerifier

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 400
AT = datetime(2026, 3, 16, tzinfo=UTC)
DIGEST = bytes(range(1, 49))


@dataclass(frozen=True)
class TpmCase:
    """Evidence as CoCo's attester sends it, and the enrolment of its key."""

    evidence: bytes
    endorsements: Endorsements


@pytest.fixture(scope="session", params=["p256", "rsa2048"])
def tpm(request: pytest.FixtureRequest) -> TpmCase:
    """A TPM with each kind of attestation key."""
    key = rsa.generate_private_key(65537, 2048) if request.param == "rsa2048" else None
    machine = SoftwareTpm(b"bench", ak=key)
    message, signature, values = machine.quote(DIGEST)
    quote = {
        "message": b64encode(message).decode(),
        "signature": b64encode(signature).decode(),
        "pcrs": [values[index].hex() for index in range(24)],
    }
    document = {"ak_public": b64encode(machine.ak_area.key).decode(), "tpm_quote": quote}
    record = EnrolledAk.of_area(machine.ak_area).to_endorsement()
    return TpmCase(json.dumps(document).encode(), Endorsements((record,)))


def judge(verifier: TpmVerifier, case: TpmCase, endorsements: Endorsements) -> Appraisal:
    """Everything a verifier does for one quote: parse it, verify it, bind it."""
    evidence = parse_tpm_evidence(case.evidence)
    return verifier.verify(evidence, endorsements, at=AT, report_data=DIGEST.ljust(64, b"\0"))


def test_tpm_warm(benchmark: BenchmarkFixture, tpm: TpmCase) -> None:
    """A further quote of a known key: one signature is verified, everything is judged."""
    verifier = TpmVerifier(TpmPolicy())
    arguments = (verifier, tpm, tpm.endorsements)
    assert benchmark.pedantic(judge, arguments, rounds=ROUNDS, warmup_rounds=20).accepted


def test_tpm_cold(benchmark: BenchmarkFixture, tpm: TpmCase) -> None:
    """The first quote of a key that a verifier sees."""

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (TpmVerifier(TpmPolicy()), tpm, Endorsements(tpm.endorsements.items)), {}

    assert benchmark.pedantic(judge, setup=fresh, rounds=ROUNDS, warmup_rounds=20).accepted


def test_tpm_floor(benchmark: BenchmarkFixture, tpm: TpmCase) -> None:
    """The quote's own signature, the least that it costs."""
    evidence = parse_tpm_evidence(tpm.evidence)
    arguments = (load_spki(evidence.key.spki), evidence.quote.signature, evidence.quote.message)
    assert benchmark.pedantic(verifies, arguments, rounds=ROUNDS, warmup_rounds=20)
