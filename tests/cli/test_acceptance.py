# SPDX-License-Identifier: Apache-2.0
"""What owners accept of each family of TEEs, as Verdictd's configuration says it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eaa.cli._verdictd_config import VerdictdConfig
from eaa.rats import ConfigurationError
from eaa.tee.azure.policy import AzurePolicy
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.snp.policy import SnpPolicy
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from pathlib import Path


def test_acceptance_is_configured_by_family(tmp_path: Path) -> None:
    """Each table makes that family's policy; what is left out keeps the policy's own default."""
    path = tmp_path / "verdictd.toml"
    path.write_text(
        """
        [accept.dcap]
        tcb_statuses = ["UpToDate", "SWHardeningNeeded"]
        platforms = ["00112233445566778899aabbccddeeff"]
        [accept.snp]
        products = ["genoa"]
        allow_smt = false
        require_page_swap_disable = true
        [accept.azure]
        require_user_data = true
        """
    )
    dcap, snp, azure = VerdictdConfig.load(path, {}).settings(tmp_path).policies
    assert dcap == AcceptancePolicy(
        tcb_statuses=frozenset({"UpToDate", "SWHardeningNeeded"}),
        platforms=frozenset({bytes.fromhex("00112233445566778899aabbccddeeff")}),
    )
    assert snp == SnpPolicy(
        products=frozenset({Product.GENOA}), allow_smt=False, require_page_swap_disable=True
    )
    assert azure == AzurePolicy(require_user_data=True)
    assert VerdictdConfig.load(None, {}).settings(tmp_path).policies == ()


@pytest.mark.parametrize(
    ("value", "kinds"),
    [
        ("true", {"sgx", "tdx", "snp", "tpm", "az-snp-vtpm", "az-tdx-vtpm"}),
        ("false", set()),
        ('["tdx", "snp"]', {"tdx", "snp"}),
    ],
)
def test_init_data_can_be_demanded(tmp_path: Path, value: str, kinds: set[str]) -> None:
    """Of every kind of TEE, or of those that are named."""
    path = tmp_path / "verdictd.toml"
    path.write_text(f"[accept]\nrequire_init_data = {value}\n")
    assert VerdictdConfig.load(path, {}).settings(tmp_path).require_init_data >= kinds
    assert bool(VerdictdConfig.load(path, {}).settings(tmp_path).require_init_data) is bool(kinds)
    assert VerdictdConfig.load(None, {}).settings(tmp_path).require_init_data == frozenset()


@pytest.mark.parametrize(
    "text",
    [
        '[accept]\nrequire_init_data = ["rome"]',
        '[accept]\nrequire_init_data = "tdx"',
        "[accept]\nrequire_init_data = 1",
        '[accept.dcap]\ntcb_statuses = ["Revoked"]',
        "[accept.dcap]\ndebug = true",
        '[accept.dcap]\nplatforms = ["00"]',
        '[accept.dcap]\nplatforms = ["zz"]',
        '[accept.snp]\nproducts = ["rome"]',
        '[accept.tpm]\nroots = ["missing.pem"]',
        "[accept.nvidia]\nx = 1",
    ],
)
def test_what_cannot_be_accepted_is_refused_at_the_start(tmp_path: Path, text: str) -> None:
    """No key accepts debug or a revoked TCB, and a mistyped one is not passed over."""
    path = tmp_path / "verdictd.toml"
    path.write_text(text)
    with pytest.raises(ConfigurationError):
        VerdictdConfig.load(path, {}).settings(tmp_path)
