# SPDX-License-Identifier: Apache-2.0
"""Attack A24: an owner lists the platforms that evidence may come from; no other is accepted, however genuine."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eaa.rats import ConfigurationError, Endorsements, Result
from eaa.simulator.mint import mint
from eaa.simulator.vendor import ChipMaker
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.registry import kind_of, parse_evidence
from eaa.verifier import Verifier

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
def test_only_listed_platforms_are_accepted(tee: str) -> None:
    maker = ChipMaker.create(AT)
    minted = mint(maker, tee, b"challenge", at=AT)
    evidence = parse_evidence(minted.quote, tee=tee)

    def result(
        *listed: str, endorsements: Endorsements = minted.endorsements, trusted: bool = True
    ) -> Result:
        policy = AcceptancePolicy(platforms=frozenset(bytes.fromhex(each) for each in listed))
        anchor = maker if trusted else ChipMaker.create(AT)
        verifier = Verifier((anchor.trust_anchor(),), policy)
        appraisal = verifier.verify(evidence, endorsements, at=AT, report_data=b"challenge")
        (check,) = (each for each in appraisal.checks if each.id == "dcap.platform.allowed")
        assert appraisal.accepted is (trusted and not check.blocks)
        return check.result

    appraisal = Verifier((maker.trust_anchor(),)).verify(
        evidence, minted.endorsements, at=AT, report_data=b"challenge"
    )
    claims = kind_of(tee).claims(appraisal).claims
    assert result() is Result.NOT_APPLICABLE
    for known in (claims["ppid"], claims["platform_instance_id"]):
        assert result(known) is Result.PASS
        assert result("00" * 16, known) is Result.PASS
    assert result("00" * 16) is Result.FAIL
    assert result(claims["ppid"], trusted=False) is Result.NOT_MADE


def test_what_is_no_platform_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="16 bytes"):
        AcceptancePolicy(platforms=frozenset({b"short"}))
