# SPDX-License-Identifier: Apache-2.0
"""The maker of SNP chips: kept, limited, and honest about its faults."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import ConfigurationError
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.snp_faults import SNP_FAULTS, combine_snp
from eaa.simulator.snp_mint import mint_snp
from eaa.tee.snp.evidence import make_evidence
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product
from eaa.tee.snp.rules import RULES
from eaa.tee.snp.verify import SnpVerifier

if TYPE_CHECKING:
    from pathlib import Path


def test_the_maker_is_kept_in_its_folder(tmp_path: Path, at: datetime) -> None:
    first = AmdChipMaker.load_or_create(tmp_path, at)
    minted = mint_snp(first, b"challenge", at=at, product=Product.MILAN)
    again = AmdChipMaker.load(tmp_path)
    assert again.root_der(Product.MILAN) == first.root_der(Product.MILAN)
    case = mint_snp(again, b"challenge", at=at, product=Product.MILAN)
    assert case.machine.chip_id == minted.machine.chip_id
    assert case.report == minted.report
    verifier = SnpVerifier(case.trust_anchors, SnpPolicy())
    evidence = make_evidence(case.report)
    assert verifier.verify(evidence, minted.endorsements, at=at, report_data=case.report_data).accepted
    assert {path.stat().st_mode & 0o777 for path in (tmp_path / "amd").iterdir()} == {0o600}
    (tmp_path / "amd" / "milan-ark.pem").write_bytes(b"damaged")
    with pytest.raises(ConfigurationError, match="damaged"):
        AmdChipMaker.load(tmp_path).root_der(Product.MILAN)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"faults": ["nope"]}, "no fault of SNP is named nope"),
        ({"faults": ["vlek-as-vcek"]}, "VLEK only"),
        ({"signer": "VLEK", "faults": ["wrong-chip-id"]}, "VCEK only"),
        ({"signer": "other"}, "no key 'other'"),
        ({"version": 6}, "version 2 to 5"),
        ({"product": Product.TURIN, "version": 2}, "version 3 to 5"),
        ({"registers": {"measurement": b"1"}}, "48 bytes, not 1"),
        ({"registers": {"mr_td": bytes(48)}}, "no register mr_td"),
        ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, "does not know the time"),
    ],
)
def test_what_cannot_be_minted_is_refused(
    amd: AmdChipMaker, at: datetime, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigurationError, match=message):
        mint_snp(amd, b"challenge", **{"at": at, **options})


def test_too_much_report_data_is_refused(amd: AmdChipMaker, at: datetime) -> None:
    with pytest.raises(ConfigurationError, match="65 bytes"):
        mint_snp(amd, bytes(65), at=at)


def test_a_fault_names_what_it_is_and_where() -> None:
    ids = {rule.id for rule in RULES} | {"binding.report-data", "snp.report.length"}
    for fault in SNP_FAULTS.values():
        assert fault.machine or fault.report or fault.collateral, fault.name
        assert fault.summary.endswith(".")
        assert set(fault.checks) | set(fault.warnings) <= ids


def test_faults_add_up() -> None:
    both = combine_snp(["debug", "migrate-ma", "stale-crl", "debug"])
    assert both.names == ("debug", "migrate-ma", "stale-crl")
    assert both.checks == ("snp.policy.debug", "snp.policy.migrate-ma", "snp.crl.dates")
    assert not both.valid
    assert replace(both.report, policy=0).policy == 0
    assert both.report.policy & (1 << 18 | 1 << 19) == 1 << 18 | 1 << 19
