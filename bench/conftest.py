# SPDX-License-Identifier: Apache-2.0
"""What is measured: real quotes with their collateral, for us and for the peer."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import dcap_qvl  # type: ignore[import-untyped]  # it ships no types
import pytest

from eaa.rats import Endorsements
from eaa.tee.dcap.collateral_files import endorsements_from_json

VECTORS = {"tdx": "tdx-phala-uptodate", "sgx": "sgx-zkdcap-v3-a"}


@dataclass(frozen=True)
class Case:
    """One real quote as bytes, its collateral in both forms, and the time to judge at."""

    tee: str
    quote: bytes
    endorsements: Endorsements
    collateral: dcap_qvl.QuoteCollateralV3
    at: datetime


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real evidence, beside the checkout or where ``EAA_VECTORS`` points."""
    folder = Path(os.environ.get("EAA_VECTORS", Path(__file__).parents[2] / "shared" / "vectors"))
    if not (folder / "manifest.json").is_file():
        pytest.skip("real evidence is not here: set EAA_VECTORS to a folder with manifest.json")
    return folder


@pytest.fixture(scope="session", params=sorted(VECTORS))
def case(request: pytest.FixtureRequest, vectors: Path) -> Case:
    """A real TDX and a real SGX quote."""
    listed = json.loads((vectors / "manifest.json").read_bytes())["vectors"]
    vector = next(each for each in listed if each["id"] == VECTORS[request.param])
    files = vector["files"]
    quote = (vectors / files["quote"]["path"]).read_bytes()
    if files["quote"]["encoding"] == "hex":
        quote = bytes.fromhex(quote.decode())
    text = (vectors / (files.get("dcap_qvl_json") or files["collateral_assembled"])["path"]).read_text()
    return Case(
        vector["tee"],
        quote,
        endorsements_from_json(text.encode()),
        dcap_qvl.QuoteCollateralV3.from_json(text),
        datetime.fromisoformat(vector["verify_at"]),
    )
