# SPDX-License-Identifier: Apache-2.0
"""DCAP verification, with its complete list of checks, against dcap-qvl in the same process."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import dcap_qvl  # type: ignore[import-untyped]  # it ships no types
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from eaa.rats import Appraisal, Endorsements, Stage
from eaa.tee.registry import parse_evidence
from eaa.verifier import Verifier

if TYPE_CHECKING:
    from bench.conftest import Case
    from pytest_benchmark.fixture import BenchmarkFixture

ROUNDS = 400


def judge(verifier: Verifier, case: Case, endorsements: Endorsements) -> Appraisal:
    """Everything a verifier does for one quote: parse it, verify it, bind it."""
    evidence = parse_evidence(case.quote, tee=case.tee)
    return verifier.verify(evidence, endorsements, at=case.at, report_data=evidence.report_data)


def require_genuine(appraisal: Appraisal) -> None:
    """A benchmark of a verification that fails would be worth nothing."""
    assert not appraisal.failing_at(Stage.AUTHENTICITY)
    assert len(appraisal.checks) > 40


def test_peer(benchmark: BenchmarkFixture, case: Case) -> None:
    now = int(case.at.timestamp())
    result = benchmark.pedantic(
        dcap_qvl.verify, (case.quote, case.collateral, now), rounds=ROUNDS, warmup_rounds=20
    )
    assert result.status


def test_warm(benchmark: BenchmarkFixture, case: Case) -> None:
    """A further quote of a known platform: one signature is verified, everything is judged."""
    verifier = Verifier()
    require_genuine(
        benchmark.pedantic(judge, (verifier, case, case.endorsements), rounds=ROUNDS, warmup_rounds=20)
    )


def test_cold(benchmark: BenchmarkFixture, case: Case) -> None:
    """The first quote that a verifier sees: nothing is remembered."""

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        return (Verifier(), case, Endorsements(case.endorsements.items)), {}

    require_genuine(benchmark.pedantic(judge, setup=fresh, rounds=ROUNDS, warmup_rounds=20))


def test_floor(benchmark: BenchmarkFixture, case: Case) -> None:
    """One P-256 verification, the least that a genuine quote costs."""
    key = ec.generate_private_key(ec.SECP256R1())
    algorithm = ec.ECDSA(hashes.SHA256())
    message = parse_evidence(case.quote, tee=case.tee).envelope.signed
    benchmark.pedantic(
        key.public_key().verify,
        (key.sign(message, algorithm), message, algorithm),
        rounds=ROUNDS,
        warmup_rounds=20,
    )
