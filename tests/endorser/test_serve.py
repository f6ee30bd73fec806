# SPDX-License-Identifier: Apache-2.0
"""The Endorser as a PCCS, asked by plain HTTP and by a client that nobody here wrote."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import dcap_qvl  # type: ignore[import-untyped]
import pytest
from cryptography import x509
from starlette.testclient import TestClient

from eaa.endorser.files import load_endorsements
from eaa.endorser.serve import create_app
from eaa.endorser.store import Store
from eaa.rats import Endorsements
from eaa.simulator import mint
from eaa.tee.dcap.roots import INTEL_ROOT

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractContextManager
    from pathlib import Path

    from eaa.simulator import ChipMaker

    Serving = Callable[[Any], AbstractContextManager[str]]

pytestmark = pytest.mark.anyio
NOW = datetime(2026, 11, 1, tzinfo=UTC)
API = "/sgx/certification/v4"


@pytest.fixture
async def client(store: Store, maker: ChipMaker) -> TestClient:
    """A client of a service that has the chip maker's collateral for TDX."""
    await store.put(maker.collateral("tdx", NOW))
    return TestClient(create_app(store, maker.trust_anchor()))


async def test_answers_are_what_was_published(client: TestClient, maker: ChipMaker) -> None:
    fmspc = maker.machine().fmspc.upper()
    tcb_info, identity, pck_crl, root_crl = maker.collateral("tdx", NOW).items
    for path, header, item in (
        (f"/tdx/certification/v4/tcb?fmspc={fmspc}", "TCB-Info-Issuer-Chain", tcb_info),
        ("/tdx/certification/v4/qe/identity", "SGX-Enclave-Identity-Issuer-Chain", identity),
        (f"{API}/pckcrl?ca=platform&encoding=der", "SGX-PCK-CRL-Issuer-Chain", pck_crl),
    ):
        response = client.get(path)
        assert response.status_code == 200
        assert response.content == item.content
        assert unquote(response.headers[header]).encode() == item.issuer_chain
        assert "\n" not in response.headers[header]
    assert bytes.fromhex(client.get(f"{API}/rootcacrl").text) == root_crl.content
    in_pem = client.get(f"{API}/pckcrl?ca=PLATFORM").content
    assert x509.load_pem_x509_crl(in_pem) == x509.load_der_x509_crl(pck_crl.content)


@pytest.mark.parametrize(
    "path",
    [
        "/tcb?fmspc=ffffffffffff",
        "/tcb?fmspc=10a06f080000",
        "/qe/identity",
        "/qve/identity",
        "/pckcrl?ca=processor",
    ],
)
async def test_what_is_not_there_is_404_in_the_words_of_pccs(client: TestClient, path: str) -> None:
    response = client.get(API + path)
    assert (response.status_code, response.text) == (404, "No cache data for this platform.")


async def test_empty_store_is_404(store: Store, maker: ChipMaker) -> None:
    assert TestClient(create_app(store, maker.trust_anchor())).get(f"{API}/rootcacrl").status_code == 404


@pytest.mark.parametrize(
    "path",
    [
        "/tcb",
        "/tcb?fmspc=xyz",
        "/tcb?fmspc=10a06f08000",
        "/tcb?fmspc=../../index.js",
        "/tcb?fmspc=10a06f080000&update=never",
        "/tcb?fmspc=10a06f080000&update=early&tcbEvaluationDataNumber=17",
        "/qe/identity?tcbEvaluationDataNumber=-1",
        "/qe/identity?tcbEvaluationDataNumber=²",
        f"/qe/identity?tcbEvaluationDataNumber={'9' * 5000}",
        "/pckcrl",
        "/pckcrl?ca=root",
        "/pckcrl?ca=platform&encoding=xml",
    ],
)
async def test_bad_parameters_are_400_in_the_words_of_pccs(client: TestClient, path: str) -> None:
    response = client.get(API + path)
    assert (response.status_code, response.text) == (400, "Invalid request parameters.")


async def test_channels_and_numbers_are_told_apart(
    client: TestClient, store: Store, maker: ChipMaker
) -> None:
    early = Endorsements(maker.collateral("tdx", NOW, evaluation=19).of_kind("tcb_info"))
    path = f"/tdx/certification/v4/tcb?fmspc={maker.machine().fmspc}"
    assert client.get(f"{path}&update=early").json()["tcbInfo"]["tcbEvaluationDataNumber"] == 18
    await store.put(early, slot="early")
    for query, number in (
        ("", 18),
        ("&update=standard", 18),
        ("&update=EARLY", 19),
        ("&tcbEvaluationDataNumber=18", 18),
        ("&tcbEvaluationDataNumber=19", 19),
    ):
        answer = client.get(path + query)
        assert answer.json()["tcbInfo"]["tcbEvaluationDataNumber"] == number
    assert client.get(f"{path}&tcbEvaluationDataNumber=20").status_code == 404


async def test_status_and_metrics_say_how_it_stands(client: TestClient, store: Store) -> None:
    store.clock = lambda: NOW
    answer = client.get("/status")
    assert (answer.status_code, answer.json()["healthy"]) == (200, True)
    store.clock = lambda: NOW + timedelta(days=40)
    answer = client.get("/status")
    assert (answer.status_code, answer.json()["healthy"]) == (503, False)
    states = {each["name"].partition("/")[0]: each["state"] for each in answer.json()["objects"]}
    assert states == {
        "tcb_info": "expired",
        "qe_identity": "expired",
        "pck_crl": "expired",
        "root_ca_crl": "ok",
    }
    assert 'eaa_endorser_objects{state="expired"} 3.0' in client.get("/metrics").text


async def test_evaluation_number_must_match(client: TestClient) -> None:
    path = "/tdx/certification/v4/qe/identity?tcbEvaluationDataNumber="
    assert client.get(f"{path}18").status_code == 200
    assert client.get(f"{path}17").status_code == 404


async def test_unchanged_answer_is_304_until_a_newer_one_is_there(
    client: TestClient, store: Store, maker: ChipMaker
) -> None:
    path = f"{API}/pckcrl?ca=platform&encoding=der"
    tag = client.get(path).headers["ETag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        response = client.get(path, headers={"If-None-Match": known})
        assert (response.status_code, response.content) == (304, b"")
        assert response.headers["ETag"] == tag
    assert client.get(path, headers={"If-None-Match": '"other"'}).status_code == 200
    await store.put(maker.collateral("tdx", NOW + timedelta(days=1)))
    response = client.get(path, headers={"If-None-Match": tag})
    assert (response.status_code, response.headers["ETag"] != tag) == (200, True)


async def test_one_service_speaks_for_one_chip_maker(store: Store, maker: ChipMaker) -> None:
    await store.put(maker.collateral("tdx", NOW))
    intel = TestClient(create_app(store, INTEL_ROOT))
    assert intel.get("/tdx/certification/v4/qe/identity").status_code == 404


async def test_only_reading_is_offered(client: TestClient) -> None:
    assert client.post(f"{API}/rootcacrl").status_code == 405
    assert client.get("/sgx/certification/v4/../../etc/passwd").status_code == 404


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize("tee", ["tdx", "sgx"])
async def test_independent_client_gets_collateral_that_verifies_simulated_quotes(
    store: Store, maker: ChipMaker, serving: Serving, tee: str
) -> None:
    await store.put(maker.collateral(tee, NOW))
    case = mint(maker, tee, b"challenge", at=NOW)
    with serving(create_app(store, maker.trust_anchor())) as url:
        collateral = await dcap_qvl.get_collateral(url, case.quote)
    report = dcap_qvl.verify_with_root_ca(case.quote, collateral, case.root_der, int(NOW.timestamp()))
    assert report.status == "UpToDate"


@pytest.mark.parametrize("location", ["sqlite", "postgresql"], indirect=True)
@pytest.mark.parametrize(
    ("name", "role"),
    [
        ("tdx-phala-uptodate", "dcap_qvl_json"),
        ("tdx-dstack-lite", "collateral_assembled"),
        ("sgx-zkdcap-v3-a", "collateral_assembled"),
    ],
)
async def test_independent_client_gets_collateral_that_verifies_real_quotes(
    location: str, vectors: Path, serving: Serving, name: str, role: str
) -> None:
    manifest = json.loads((vectors / "manifest.json").read_bytes())
    (vector,) = (each for each in manifest["vectors"] if each["id"] == name)
    store = await Store.open(location)
    await store.put(load_endorsements(vectors / vector["files"][role]["path"]))
    await store.close()
    quote = (vectors / vector["files"]["quote"]["path"]).read_bytes()
    if vector["files"]["quote"]["encoding"] == "hex":
        quote = bytes.fromhex(quote.decode())
    with serving(create_app(store, INTEL_ROOT)) as url:
        collateral = await dcap_qvl.get_collateral(url, quote)
    at = int(datetime.fromisoformat(vector["verify_at"]).timestamp())
    assert dcap_qvl.verify(quote, collateral, at).status == vector["expected"]["tcb_status"]
