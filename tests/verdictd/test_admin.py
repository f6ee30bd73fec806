# SPDX-License-Identifier: Apache-2.0
"""The administration: who may, what it does, and that nothing is stored half."""

from __future__ import annotations

import json
import re
from base64 import b64encode, urlsafe_b64encode
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from fastapi.routing import APIRoute
from joserfc.jwk import OKPKey

from eaa.simulator import measure
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.verdictd.administrator import Credential
from eaa.verdictd.app import PUBLIC_ROUTES

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

pytestmark = pytest.mark.anyio

ALLOW = 'package policy\nimport rego.v1\ndefault allow := false\nallow if data.plugin == "resource"\n'
BAD_POLICIES = ["", "nonsense", "package policy\n", "package policy\nallow if {", "package other\nallow := true\n",
                'package policy\nallow := opa.runtime()["env"]\n', "package policy\nallow := nosuch(1)\n"]  # fmt: skip


def _flat(routes: Any) -> Iterator[APIRoute]:
    """Every route, also those of included routers, which this version of FastAPI keeps apart."""
    for route in routes:
        if (included := getattr(route, "original_router", None)) is not None:
            assert not route.include_context.prefix
            yield from _flat(included.routes)
        else:
            assert isinstance(route, APIRoute), f"{route} has no guard that this test knows"
            yield route


def _routes(kit: Any) -> list[tuple[str, str]]:
    return [(method, route.path) for route in _flat(kit.app.routes) for method in route.methods or ()]


def _administrative(kit: Any) -> list[tuple[str, str]]:
    return [each for each in _routes(kit) if each not in PUBLIC_ROUTES]


def _url(path: str) -> str:
    return (
        re.sub(r"\{kind\}", "resource", re.sub(r"\{path:path\}", "a/b/c", path))
        .replace("{", "")
        .replace("}", "")
    )


def _b64url(text: str) -> str:
    return urlsafe_b64encode(text.encode()).rstrip(b"=").decode()


async def test_public_routes_are_these_and_no_others(kit: Any) -> None:
    """What needs no administrator is a short list that is kept by hand."""
    assert set(_routes(kit)) >= PUBLIC_ROUTES
    assert len(_administrative(kit)) >= 20


@pytest.mark.parametrize(
    "case", ["none", "garbage", "expired", "other-key", "other-role", "attestation-token"]
)
async def test_every_other_route_refuses_wrong_credentials(kit: Any, case: str) -> None:
    """No administrative route does anything for who has no valid token, whatever the body."""
    at = kit.clock()
    stranger = Credential(kit.credential.issuer, dict(OKPKey.generate_key("Ed25519").as_dict(private=True)))
    headers = {
        "none": {},
        "garbage": {"authorization": "Bearer x.y.z"},
        "expired": {"authorization": f"Bearer {kit.credential.mint(at=at - timedelta(minutes=10))}"},
        "other-key": {"authorization": f"Bearer {stranger.mint(at=at)}"},
        "other-role": {"authorization": "Basic YWRtaW46YWRtaW4="},
        "attestation-token": {},
    }[case]
    if case == "attestation-token":
        response, _, _ = await kit.handshake()
        headers = {"authorization": f"Bearer {response.json()['token']}"}
    for method, path in _administrative(kit):
        for body in (b"", b'{"values": {"mr_td": ["00"]}}', b"\xff"):
            response = await kit.client.request(method, _url(path), headers=headers, content=body)
            assert response.status_code == 401, (method, path)
            assert response.headers["www-authenticate"] == "Bearer"
            if path.startswith("/kbs/"):
                assert response.json()["type"].endswith("/AdminAuthAccess")
            else:
                assert response.json()["error"]["check"] == "admin.token"
    assert await kit.services.database.list_reference_values() == []


async def test_valid_credential_reaches_every_route(kit: Any) -> None:
    """The same requests with a token get past the door: the refusals above are about who asks."""
    for method, path in _administrative(kit):
        response = await kit.client.request(method, _url(path), headers=kit.admin, content=b"{}")
        assert response.status_code not in (401, 403, 405, 500), (method, path, response.text)


async def test_unknown_paths_and_methods(kit: Any) -> None:
    """Unknown plugins and methods are answered in the protocol's form."""
    unknown = await kit.client.get("/kbs/v0/nosuch/thing")
    assert unknown.status_code == 404
    assert unknown.json()["type"].endswith("/PluginNotFound")
    assert (await kit.client.get("/kbs/v0/")).json()["type"].endswith("/InvalidRequestPath")
    wrong = await kit.client.get("/kbs/v0/auth")
    assert wrong.status_code == 405
    assert wrong.headers["allow"] == "POST"
    elsewhere = await kit.client.get("/nosuch")
    assert elsewhere.status_code == 404
    assert elsewhere.json()["error"]["code"] == "not-found"


async def test_keys_are_made_listed_deleted_and_never_shown(kit: Any) -> None:
    """A key's bytes appear in no answer; making it twice is a conflict."""
    made = await kit.client.post("/eaa/v0/keys", headers=kit.admin, json={"name": "web"})
    assert made.status_code == 201
    assert made.json() == {"path": "default/key/web", "uri": "kbs:///default/key/web"}
    content = await kit.services.database.get_resource("default/key/web")
    assert len(content) == 32
    again = await kit.client.post("/eaa/v0/keys", headers=kit.admin, json={"name": "kbs:///default/key/web"})
    assert again.status_code == 409
    assert await kit.services.database.get_resource("default/key/web") == content
    random = (await kit.client.post("/eaa/v0/keys", headers=kit.admin, json={})).json()["path"]
    listed = await kit.client.get("/eaa/v0/keys", headers=kit.admin)
    assert {each["path"] for each in listed.json()["keys"]} == {"default/key/web", random}
    for answer in (made, listed):
        assert content.hex() not in answer.text
        assert b64encode(content).decode() not in answer.text
    assert (await kit.client.delete("/eaa/v0/keys/default/key/web", headers=kit.admin)).status_code == 204
    assert (await kit.client.delete("/eaa/v0/keys/default/key/web", headers=kit.admin)).status_code == 404


async def test_keys_and_resources_do_not_mix(kit: Any) -> None:
    """A key is not deleted as a resource, a resource is no key, and neither takes the other's place."""
    await kit.client.post("/eaa/v0/keys", headers=kit.admin, json={"name": "web"})
    assert (
        await kit.client.delete("/eaa/v0/resources/default/key/web", headers=kit.admin)
    ).status_code == 404
    assert (await kit.client.delete(f"/eaa/v0/keys/{kit.PATH}", headers=kit.admin)).status_code == 404
    overwrite = await kit.client.put("/eaa/v0/resources/default/key/web", headers=kit.admin, content=b"x")
    assert overwrite.status_code == 409
    taken = await kit.client.post("/eaa/v0/keys", headers=kit.admin, json={"name": kit.PATH})
    assert taken.status_code == 409
    assert await kit.services.database.get_resource(kit.PATH) == kit.SECRET


async def test_resources_are_stored_in_both_interfaces(kit: Any) -> None:
    """Trustee's form and EAA's store the same; lists show no content."""
    stored = await kit.client.post("/kbs/v0/resource/one/two/three", headers=kit.admin, content=b"\0raw")
    assert (stored.status_code, stored.content) == (200, b"")
    assert await kit.services.database.get_resource("one/two/three") == b"\0raw"
    put = await kit.client.put("/eaa/v0/resources/one/two/three", headers=kit.admin, content=b"second")
    assert put.json()["version"] == 2
    listed = await kit.client.get("/eaa/v0/resources", params={"prefix": "one/"}, headers=kit.admin)
    assert [each["path"] for each in listed.json()["resources"]] == ["one/two/three"]
    assert "second" not in listed.text
    assert (await kit.client.delete("/kbs/v0/resource/one/two/three", headers=kit.admin)).status_code == 200
    assert (await kit.client.delete("/kbs/v0/resource/one/two/three", headers=kit.admin)).status_code == 404


@pytest.mark.parametrize("path", ["a/b", "a/b/c/d", ".a/b/c", "a//c", "a/b/c%2fd", "a/b/%00"])
async def test_bad_resource_paths_are_refused(kit: Any, path: str) -> None:
    """A path that is not three plain segments stores nothing."""
    before = await kit.services.database.list_resources()
    for url in (f"/eaa/v0/resources/{path}",):
        response = await kit.client.put(url, headers=kit.admin, content=b"x")
        assert response.status_code == 400
    response = await kit.client.post(f"/kbs/v0/resource/{path}", headers=kit.admin, content=b"x")
    assert response.status_code == 400
    assert await kit.services.database.list_resources() == before


async def test_policies_are_set_shown_and_kept(kit: Any) -> None:
    """A policy set in either interface is in force at once and can be read back."""
    put = await kit.client.put(
        "/eaa/v0/policies/resource/resource-policy", headers=kit.admin, json={"text": ALLOW}
    )
    assert put.json()["version"] == 2
    shown = await kit.client.get("/eaa/v0/policies/resource/resource-policy", headers=kit.admin)
    assert shown.json()["text"] == ALLOW
    _, cookie, key = await kit.handshake()
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET
    deny = {"policy": _b64url("package policy\ndefault allow := false\n")}
    assert (await kit.client.post("/kbs/v0/resource-policy", headers=kit.admin, json=deny)).status_code == 200
    assert (await kit.fetch(cookie=cookie)).status_code == 401
    assert (await kit.client.get("/kbs/v0/resource-policy", headers=kit.admin)).json() == ["resource-policy"]
    await kit.client.delete("/eaa/v0/policies/resource/resource-policy", headers=kit.admin)
    listed = (await kit.client.get("/eaa/v0/policies", headers=kit.admin)).json()["policies"]
    assert [(each["kind"], each["name"]) for each in listed] == [("attestation", "default_cpu")]


async def test_attestation_policy_in_trustees_form(kit: Any) -> None:
    """The client's ``default_cpu`` is the policy in force."""
    text = 'package policy\nimport rego.v1\ntrust_claims := {"hardware": 2, "executables": 3, "configuration": 2}\n'
    body = {"type": "rego", "policy_id": "default_cpu", "policy": _b64url(text)}
    response = await kit.client.post("/kbs/v0/attestation-policy", headers=kit.admin, json=body)
    assert response.status_code == 200
    assert (await kit.services.database.get_policy("attestation", "default_cpu")).text == text


@pytest.mark.parametrize("text", BAD_POLICIES)
async def test_bad_policies_are_refused_before_anything_is_stored(kit: Any, text: str) -> None:
    """A policy that does not parse, or uses what no policy may, leaves the old one in force."""
    before = await kit.services.database.list_policies()
    for kind, name in (("resource", "resource-policy"), ("attestation", "default_cpu")):
        url = f"/eaa/v0/policies/{kind}"
        put = await kit.client.put(f"{url}/{name}", headers=kit.admin, json={"text": text})
        assert (put.status_code, put.json()["error"]["code"]) == (400, "policy.invalid")
        check = await kit.client.post(f"{url}/check", headers=kit.admin, json={"text": text})
        assert check.status_code == 400
    for url, body in (
        ("/kbs/v0/resource-policy", {"policy": _b64url(text)}),
        ("/kbs/v0/attestation-policy", {"policy_id": "default_cpu", "policy": _b64url(text)}),
        ("/kbs/v0/resource-policy", {"policy": "n*t base64"}),
    ):
        response = await kit.client.post(url, headers=kit.admin, json=body)
        assert (response.status_code, response.json()["type"].rpartition("/")[2]) == (400, "ParsePolicyError")
    assert await kit.services.database.list_policies() == before


async def test_a_corim_sets_the_values_that_trustee_would_read(kit: Any, vectors: Path) -> None:
    """A message of type corim is taken from the owner, under Trustee's names; one of type swid is not."""
    corim = (vectors / "corim" / "corim-trustee-unsigned" / "corim.cbor").read_bytes()
    for kind, status in (("corim", 200), ("swid", 400)):
        message = {"version": "0.1.0", "type": kind, "payload": b64encode(corim).decode()}
        response = await kit.client.post("/kbs/v0/reference-value", headers=kit.admin, json=message)
        assert response.status_code == status, response.text
    name = "ACME/RoadRunner/31fb5abf-023e-4992-aa4e-95f9c1503bfa/digests"
    got = await kit.client.get(f"/kbs/v0/reference-value/{name}", headers=kit.admin)
    assert "a3a5e715f0cc574a73c3f9bebb6bc24f32ffd5b67b387244c2c909da779a1478" in got.json()


async def test_reference_values_in_both_interfaces(kit: Any) -> None:
    """Set in either form, listed, read, deleted; hex is kept in lower case."""
    values = {name: [value.upper()] for name, value in measure(DEFAULT_IMAGE).items()}
    payload = b64encode(json.dumps(values).encode()).decode()
    message = {"version": "0.1.0", "type": "sample", "payload": payload}
    assert (
        await kit.client.post("/kbs/v0/reference-value", headers=kit.admin, json=message)
    ).status_code == 200
    got = await kit.client.get("/kbs/v0/reference-value/mr_td", headers=kit.admin)
    assert got.json() == [measure(DEFAULT_IMAGE)["mr_td"]]
    _, cookie, key = await kit.handshake()
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET
    ends = (kit.clock() + timedelta(minutes=1)).isoformat()
    body = {"values": {"isv_svn": 3, "a/b:c": ["x"]}, "expires_at": ends}
    put = await kit.client.put("/eaa/v0/reference-values", headers=kit.admin, json=body)
    assert put.json() == {"stored": ["isv_svn", "a/b:c"]}
    listed = (await kit.client.get("/eaa/v0/reference-values", headers=kit.admin)).json()["reference_values"]
    assert next(each for each in listed if each["name"] == "isv_svn")["value"] == 3
    assert (await kit.client.get("/kbs/v0/reference-value/a/b:c", headers=kit.admin)).json() == ["x"]
    kit.clock.forward(minutes=1)
    assert (await kit.client.get("/kbs/v0/reference-value/a/b:c", headers=kit.admin)).status_code == 404
    assert (await kit.client.delete("/eaa/v0/reference-values/a%2Fb:c", headers=kit.admin)).status_code == 204
    assert (await kit.client.delete("/eaa/v0/reference-values/a%2Fb:c", headers=kit.admin)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"values": {}},
        {"values": {"": ["x"]}},
        {"values": {"a": None}},
        {"values": {"a": []}},
        {"values": {"a": ["x"], "b": None}},
        {"values": {"a": ["x"]}, "expires_at": "tomorrow"},
        {"values": {"a": ["x"]}, "expires_at": "2026-01-01T00:00:00"},
        {"values": {"a": ["x"]}, "surprise": 1},
        {"values": {"a\n": ["x"]}},
        {"values": [["a", "x"]]},
    ],
    ids=json.dumps,
)
async def test_bad_reference_values_store_nothing(kit: Any, body: Any) -> None:
    """All values are set or none, and unknown members are refused."""
    response = await kit.client.put("/eaa/v0/reference-values", headers=kit.admin, json=body)
    assert response.status_code == 400
    assert await kit.services.database.list_reference_values() == []


@pytest.mark.parametrize(
    "message",
    [
        {"type": "sample", "payload": ""},
        {"type": "sample", "payload": "!"},
        {"type": "sample", "payload": b64encode(b"[]").decode()},
        {"type": "sample", "payload": b64encode(b'{"a":1,"a":2}').decode()},
        {"type": "swid", "payload": b64encode(b'{"a":1}').decode()},
        {"version": "0.2.0", "type": "sample", "payload": b64encode(b'{"a":1}').decode()},
        {"payload": b64encode(b'{"a":1}').decode()},
    ],
    ids=json.dumps,
)
async def test_bad_reference_value_messages_store_nothing(kit: Any, message: Any) -> None:
    """Only messages of type sample, version 0.1.0, with a JSON object are read."""
    response = await kit.client.post("/kbs/v0/reference-value", headers=kit.admin, json=message)
    assert response.status_code == 400
    assert response.json()["type"].endswith("/RvpsError")
    assert await kit.services.database.list_reference_values() == []


async def test_verdicts_explain_themselves(kit: Any) -> None:
    """The owner sees the full list of checks of every attestation, and what was released on it."""
    await kit.expect_software()
    _, cookie, _ = await kit.handshake()
    await kit.fetch(cookie=cookie)
    await kit.handshake(faults=("debug",))
    kit.clock.forward(seconds=1)
    listed = (await kit.client.get("/eaa/v0/verdicts", headers=kit.admin)).json()["verdicts"]
    assert sorted(each["accepted"] for each in listed) == [False, True]
    assert all(each["simulated"] is True for each in listed)
    accepted = next(each for each in listed if each["accepted"])
    full = (await kit.client.get(f"/eaa/v0/verdicts/{accepted['id']}", headers=kit.admin)).json()
    assert [each["path"] for each in full["releases"]] == [kit.PATH]
    assert all(each["result"] != "fail" for each in full["document"]["appraisal"]["checks"])
    rejected = next(each for each in listed if not each["accepted"])
    assert "tdx.td.debug" in rejected["failed_checks"]
    assert (await kit.client.get("/eaa/v0/verdicts/nosuch", headers=kit.admin)).status_code == 404
    assert (await kit.client.get("/eaa/v0/verdicts?limit=0", headers=kit.admin)).status_code == 400
