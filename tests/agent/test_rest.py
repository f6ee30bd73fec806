# SPDX-License-Identifier: Apache-2.0
"""The REST API for the guest's processes: its routes, statuses and texts, and who may call."""

from __future__ import annotations

import json
from base64 import b64encode, urlsafe_b64encode
from typing import TYPE_CHECKING

import httpx2
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from eaa.agent.rest import build_rest
from eaa.rats import UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.agent.conftest import FakeAttester, FakeKbs

    from eaa.agent.client import KbsClient

pytestmark = pytest.mark.anyio


def caller(
    client: KbsClient, attester: FakeAttester, *, feature: str = "all", peer: str = "127.0.0.1"
) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(build_rest(client, attester, feature=feature), client=(peer, 4711))
    return httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8006")


@pytest.fixture
async def rest(client: KbsClient, attester: FakeAttester) -> AsyncIterator[httpx2.AsyncClient]:
    async with caller(client, attester) as made:
        yield made


async def test_a_resource_is_its_bytes(rest: httpx2.AsyncClient) -> None:
    answer = await rest.get("/cdh/resource/default/key/1")
    assert (answer.status_code, answer.content) == (200, bytes(range(32)))
    assert answer.headers["content-type"] == "application/octet-stream"


async def test_a_denial_explains_itself(rest: httpx2.AsyncClient, kbs: FakeKbs) -> None:
    kbs.refuse("resource", "check tdx.td.debug failed. Launch the guest without debug.")
    answer = await rest.get("/cdh/resource/default/key/1")
    assert answer.status_code == 500
    assert "tdx.td.debug" in answer.text
    assert "without debug" in answer.text


async def test_a_missing_resource_explains_itself(rest: httpx2.AsyncClient) -> None:
    answer = await rest.get("/cdh/resource/default/key/none")
    assert (answer.status_code, "default/key/none" in answer.text) == (500, True)


async def test_a_malformed_name_reaches_no_broker(rest: httpx2.AsyncClient, kbs: FakeKbs) -> None:
    answer = await rest.get("/cdh/resource/default/key/.hidden")
    assert (answer.status_code, kbs.calls) == (500, [])


async def test_a_token_comes_with_the_key_that_its_holder_needs(
    rest: httpx2.AsyncClient, kbs: FakeKbs
) -> None:
    answer = await rest.get("/aa/token", params={"token_type": "kbs"})
    assert answer.headers["content-type"] == "application/octet-stream"
    body = json.loads(answer.content)
    key = load_pem_private_key(body["tee_keypair"].encode(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    assert [key.public_key()] == [seen.key for seen in kbs.keys_seen]
    assert body["token"].count(".") == 2


@pytest.mark.parametrize("query", ["", "?token_type=", "?token_type=coco_as", "?type=kbs"])
async def test_another_token_is_a_bad_request(rest: httpx2.AsyncClient, query: str) -> None:
    answer = await rest.get(f"/aa/token{query}")
    assert (answer.status_code, answer.text) == (400, "BAD REQUEST")


@pytest.mark.parametrize(
    ("params", "bound"),
    [
        ({"runtime_data": "hello"}, b"hello"),
        ({"runtime_data": ""}, b""),
        ({"runtime_data": "é"}, "é".encode()),
        ({"runtime_data": "x" * 64}, b"x" * 64),
        ({"runtime_data": b64encode(b"\xff\xfe\x00").decode(), "encoding": "base64"}, b"\xff\xfe\x00"),
        (
            {"runtime_data": urlsafe_b64encode(b"\xff\xfe").decode().rstrip("="), "encoding": "base64"},
            b"\xff\xfe",
        ),
    ],
)
async def test_evidence_binds_the_caller_s_bytes(
    rest: httpx2.AsyncClient, attester: FakeAttester, params: dict[str, str], bound: bytes
) -> None:
    answer = await rest.get("/aa/evidence", params=params)
    assert attester.collected == [bound.ljust(64, b"\0")]
    assert json.loads(answer.content) == {"quote": attester.collected[0].hex()}


@pytest.mark.parametrize(
    "params",
    [
        {},
        {"runtime_data": "x" * 65},
        {"runtime_data": "x", "encoding": "hex"},
        {"runtime_data": "%%%", "encoding": "base64"},
        {"runtime_data": "A", "encoding": "base64"},
        {"runtime_data": b64encode(bytes(65)).decode(), "encoding": "base64"},
    ],
)
async def test_other_runtime_data_is_a_bad_request(
    rest: httpx2.AsyncClient, attester: FakeAttester, params: dict[str, str]
) -> None:
    answer = await rest.get("/aa/evidence", params=params)
    assert (answer.status_code, answer.text, attester.collected) == (400, "BAD REQUEST", [])


async def test_hardware_that_gives_no_evidence_is_a_500_with_its_reason(
    rest: httpx2.AsyncClient, attester: FakeAttester
) -> None:
    attester.fault = UnavailableError("the quoting service does not answer")
    answer = await rest.get("/aa/evidence", params={"runtime_data": "x"})
    assert (answer.status_code, answer.text) == (500, "the quoting service does not answer")


async def test_the_agent_says_what_it_is(rest: httpx2.AsyncClient) -> None:
    body = (await rest.get("/info")).json()
    assert (body["tee"], body["additional_tees"], body["feature"]) == ("tdx", [], "all")


async def test_an_unknown_url_and_a_wrong_method(rest: httpx2.AsyncClient) -> None:
    answer = await rest.get("/cdh/secret")
    assert (answer.status_code, answer.text) == (404, "URL NOT FOUND")
    assert (await rest.post("/aa/token")).status_code == 405


@pytest.mark.parametrize("peer", ["10.0.0.1", "192.0.2.1", "::ffff:10.0.0.1", "fe80::1%eth0", "testclient"])
async def test_other_machines_are_forbidden(
    client: KbsClient, attester: FakeAttester, kbs: FakeKbs, peer: str
) -> None:
    async with caller(client, attester, peer=peer) as stranger:
        answer = await stranger.get("/cdh/resource/default/key/1")
    assert (answer.status_code, answer.text, kbs.calls) == (403, "Forbidden", [])


async def test_ipv6_loopback_is_this_machine(client: KbsClient, attester: FakeAttester) -> None:
    async with caller(client, attester, peer="::1") as local:
        assert (await local.get("/info")).status_code == 200


@pytest.mark.parametrize(
    ("feature", "url", "text"),
    [
        ("resource", "/aa/token?token_type=kbs", "Attestation Feature Not Enabled"),
        ("resource", "/aa/evidence?runtime_data=x", "Attestation Feature Not Enabled"),
        ("attestation", "/cdh/resource/default/key/1", "Resource Feature Not Enabled"),
    ],
)
async def test_a_feature_can_be_off(
    client: KbsClient, attester: FakeAttester, kbs: FakeKbs, feature: str, url: str, text: str
) -> None:
    async with caller(client, attester, feature=feature) as local:
        answer = await local.get(url)
    assert (answer.status_code, answer.text) == (404, text)
    assert (kbs.calls, attester.collected) == ([], [])
