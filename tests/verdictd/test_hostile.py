# SPDX-License-Identifier: Apache-2.0
"""Requests that nobody sane sends: every one gets a clear refusal, and none finds a secret, a traceback or a way through."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eaa.kbs import MAX_ATTESTATION, MAX_REQUEST, TeeKeyPair
from eaa.verdictd._http import RequestGuard
from eaa.verdictd.metrics import Metrics

pytestmark = pytest.mark.anyio

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
WRITES = [
    ("POST", "/kbs/v0/auth"),
    ("POST", "/kbs/v0/attest"),
    ("POST", "/kbs/v0/attestation-policy"),
    ("POST", "/kbs/v0/resource-policy"),
    ("POST", "/kbs/v0/reference-value"),
    ("POST", "/eaa/v0/keys"),
    ("PUT", "/eaa/v0/policies/resource/x"),
    ("POST", "/eaa/v0/policies/attestation/check"),
    ("PUT", "/eaa/v0/reference-values"),
]
MALFORMED = [
    b"",
    b"\xff\xfe",
    b"{",
    b"nul",
    b"[" * 100_000,
    b'{"a":' * 100_000,
    b'{"version":"0.4.0","version":"0.4.0","tee":"tdx","extra-params":""}',
    b'{"version":NaN}',
    b'{"a":1e999}',
    b'{"a":' + b"9" * 5000 + b"}",
    b'{"a":"\\ud800"}',
    b"[]",
    b"null",
    b'"text"',
]


@pytest.mark.parametrize(("method", "path"), WRITES)
async def test_malformed_bodies(kit: Any, method: str, path: str) -> None:
    """Broken, deep, duplicate and non-object JSON is refused on every route that reads any."""
    _, cookie = await kit.auth()
    headers = {**kit.admin, "cookie": f"kbs-session-id={cookie}", "content-type": "application/json"}
    for body in MALFORMED:
        response = await kit.client.request(method, path, content=body, headers=headers)
        assert 400 <= response.status_code < 500, (body[:40], response.text)
        document = response.json()
        assert document.get("detail") or document["error"]["message"]
        assert "Traceback" not in response.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(value=JSON, members=st.dictionaries(st.sampled_from(["version", "tee", "text", "values", "name", "policy",
       "policy_id", "type", "payload", "runtime-data", "tee-evidence", "init-data"]), JSON, max_size=5))  # fmt: skip
async def test_any_json_is_an_answer(kit: Any, value: Any, members: dict[str, Any]) -> None:
    """Whatever JSON comes, no route fails."""
    headers = {**kit.admin, "cookie": "kbs-session-id=x"}
    for method, path in WRITES:
        for body in (value, members):
            response = await kit.client.request(
                method, path, content=json.dumps(body).encode(), headers=headers
            )
            assert response.status_code < 500, (path, body, response.text)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    where=st.sampled_from(
        ["init-data", "runtime-data", "tee-evidence", "nonce", "tee-pubkey", "primary_evidence", "quote"]
    ),
    value=JSON,
)
async def test_any_change_of_an_answer_is_refused_or_accepted(kit: Any, where: str, value: Any) -> None:
    """A genuine answer in which one member is anything at all never makes the server fail."""
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    inner = {"nonce": "runtime-data", "tee-pubkey": "runtime-data", "primary_evidence": "tee-evidence"}
    if where == "quote":
        answer["tee-evidence"]["primary_evidence"]["quote"] = value
    elif where in inner:
        answer[inner[where]][where] = value
    else:
        answer[where] = value
    response = await kit.send_attestation(cookie, answer)
    assert response.status_code == 401 or (where == "init-data" and value is None), response.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.text(max_size=40),
    cookie=st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=40),
)
async def test_any_path_is_an_answer(kit: Any, path: str, cookie: str) -> None:
    """Whatever is asked for, with whatever cookie: a refusal."""
    from urllib.parse import quote

    headers = {"cookie": f"kbs-session-id={cookie}"}
    response = await kit.client.get(f"/kbs/v0/resource/{quote(path, safe='')}", headers=headers)
    assert response.status_code in (401, 404)


async def test_oversize_is_refused_before_it_is_read(kit: Any) -> None:
    """One byte above the limit is too much, announced or not."""
    _, cookie = await kit.auth()
    headers = {**kit.admin, "cookie": f"kbs-session-id={cookie}"}

    async def unannounced(size: int) -> Any:
        for _ in range(size // 1024):
            yield b" " * 1024

    for method, path, limit in (
        ("POST", "/kbs/v0/auth", MAX_REQUEST),
        ("POST", "/kbs/v0/attest", MAX_ATTESTATION),
        ("PUT", "/eaa/v0/resources/a/b/c", 1 << 20),
        ("PUT", "/eaa/v0/reference-values", 2 << 20),
    ):
        for content in (b" " * (limit + 1), unannounced(limit + 2048)):
            response = await kit.client.request(method, path, content=content, headers=headers)
            assert response.status_code == 413, path
    assert not [each for each in await kit.services.database.list_resources() if each.path == "a/b/c"]


@pytest.mark.usefixtures("own_logging")
async def test_our_faults_are_not_shown(
    kit: Any, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """An error nobody foresaw gives a number to ask for, and its text is neither sent nor logged."""
    from eaa._logging import configure_logging

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("the secret is hunter2")

    configure_logging("DEBUG")
    monkeypatch.setattr(type(kit.services.database), "state_version", fail)
    plain = await kit.client.get("/healthz")
    assert (plain.status_code, plain.json()["error"]["code"]) == (500, "internal")
    assert plain.headers["x-request-id"] == plain.json()["error"]["request_id"]
    nonce, cookie = await kit.auth()
    response = await kit.send_attestation(cookie, kit.attestation(nonce, TeeKeyPair.generate()))
    assert response.status_code == 500
    assert response.json()["type"].endswith("/HTTPFailed")
    logged = capfd.readouterr()
    assert "RuntimeError" in logged.err
    assert plain.json()["error"]["request_id"] in logged.err
    assert "hunter2" not in plain.text + response.text + logged.out + logged.err


@pytest.mark.usefixtures("own_logging")
async def test_secrets_do_not_appear_in_logs(kit: Any, capfd: pytest.CaptureFixture[str]) -> None:
    """A whole day of work leaves no secret, cookie, token or key in the log."""
    from eaa._logging import configure_logging

    configure_logging("DEBUG")
    await kit.expect_software()
    response, cookie, _ = await kit.handshake()
    await kit.fetch(cookie=cookie)
    await kit.fetch(token=response.json()["token"])
    await kit.handshake(faults=("debug",))
    admin = kit.admin
    await kit.client.put("/eaa/v0/resources/a/b/c", headers=admin, content=b"hunter2-hunter2")
    await kit.client.put("/eaa/v0/resources/nopath", headers=admin, content=b"hunter2-hunter2")
    await kit.client.post("/eaa/v0/keys", headers=admin, json={"name": "k"})
    logged = capfd.readouterr()
    text = logged.out + logged.err
    assert "resource released" in text
    key = (await kit.services.database.get_resource("default/key/k")).hex()
    secrets = [cookie, response.json()["token"], "hunter2", "owner's secret", admin["authorization"][7:], key]
    assert not [secret for secret in secrets if secret in text]


async def test_slow_clients_are_cut_off() -> None:
    """A request that does not end in time is answered, and the application's work on it ends."""
    cancelled = asyncio.Event()

    async def hang(scope: Any, receive: Any, send: Any) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            cancelled.set()

    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    async def receive() -> Any:
        return {"type": "http.request", "body": b"", "more_body": False}

    guard = RequestGuard(hang, metrics=Metrics(), deadline=0.02)
    await guard({"type": "http", "method": "POST", "path": "/kbs/v0/attest", "headers": []}, receive, send)
    assert sent[0]["status"] == 408
    assert cancelled.is_set()


async def test_parallel_replays_have_one_winner(kit: Any) -> None:
    """Of many answers to one challenge at once exactly one counts."""
    key = TeeKeyPair.generate()
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, key)
    responses = await asyncio.gather(*(kit.send_attestation(cookie, answer) for _ in range(8)))
    assert sorted(each.status_code for each in responses) == [200] + [401] * 7
