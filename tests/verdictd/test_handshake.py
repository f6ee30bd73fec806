# SPDX-License-Identifier: Apache-2.0
"""The KBS protocol from challenge to release, and each way in which it is refused."""

from __future__ import annotations

import json
from base64 import b64decode, urlsafe_b64decode
from typing import Any

import pytest

from eaa.kbs import TeeKeyPair
from eaa.rats import ConfigurationError, ProtocolError

pytestmark = pytest.mark.anyio
ERRORS = "https://github.com/confidential-containers/kbs/errors/"


def _refused(response: Any, variant: str, *checks: str, status: int = 401) -> dict[str, Any]:
    assert response.status_code == status, response.text
    body = response.json()
    assert body["type"] == ERRORS + variant
    for check in checks:
        assert f"check {check}" in body["detail"]
    assert body["request_id"] == response.headers["x-request-id"]
    assert body["request_id"] in body["detail"]
    assert response.headers["cache-control"] == "no-store"
    return dict(body)


def _claims(token: str) -> dict[str, Any]:
    part = token.split(".")[1]
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


@pytest.mark.parametrize("tee", ["tdx", "sgx"])
@pytest.mark.parametrize("key", ["P-256", "P-521", "RSA-OAEP-256"])
async def test_expected_software_gets_the_secret(kit: Any, tee: str, key: str) -> None:
    """A genuine TEE with the owner's software gets an affirming token and the resource, which its key alone opens."""
    await kit.expect_software()
    pair = TeeKeyPair.generate(key)
    response, cookie, _ = await kit.handshake(tee=tee, key=pair)
    assert response.status_code == 200, response.text
    submod = _claims(response.json()["token"])["submods"]["cpu0"]
    assert submod["ear.status"] == "affirming"
    runtime = submod["ear.veraison.annotated-evidence"]["runtime_data_claims"]
    assert runtime["tee-pubkey"] == pair.public.jwk
    assert submod["ear.eaa.verdict"]["simulated"] is True

    released = await kit.fetch(cookie=cookie)
    assert released.status_code == 200
    assert released.headers["content-type"] == "application/json"
    assert list(released.json()) == ["protected", "encrypted_key", "iv", "ciphertext", "tag"]
    assert kit.opened(released, pair) == kit.SECRET
    if key != "RSA-OAEP-256":
        with pytest.raises(ProtocolError):
            kit.opened(released, TeeKeyPair.generate(key))


async def test_challenge_is_as_clients_expect_it(kit: Any) -> None:
    """A nonce of 44 characters, empty extra-params, and a cookie that lives by the guest's own count of seconds."""
    body = {"version": "0.4.0", "tee": "tdx", "extra-params": {"supported-hash-algorithms": ["sha384"]}}
    response = await kit.client.post("/kbs/v0/auth", json=body)
    assert response.json()["extra-params"] == ""
    assert len(b64decode(response.json()["nonce"], validate=True)) == 32
    cookie = response.headers["set-cookie"]
    assert cookie.startswith("kbs-session-id=")
    assert all(part in cookie for part in ("HttpOnly", "Secure", "Path=/kbs/v0", "Max-Age=300"))
    assert "expires=" not in cookie


async def test_token_opens_the_resource_without_a_cookie(kit: Any) -> None:
    """A bearer of the attestation token gets the resource wrapped to the key in the token, so that a thief gains nothing."""
    await kit.expect_software()
    response, _, key = await kit.handshake()
    released = await kit.fetch(token=response.json()["token"])
    assert kit.opened(released, key) == kit.SECRET


async def test_token_counts_when_the_cookie_does_not(kit: Any) -> None:
    """A stale cookie beside a good token does no harm."""
    await kit.expect_software()
    response, _, key = await kit.handshake()
    _, unattested = await kit.auth()
    released = await kit.fetch(cookie=unattested, token=response.json()["token"])
    assert kit.opened(released, key) == kit.SECRET


async def test_token_verifies_against_the_published_keys(kit: Any) -> None:
    """A relying party verifies the token by the key set, found by kid."""
    from joserfc import jws
    from joserfc.jwk import KeySet

    response, _, _ = await kit.handshake()
    keys = KeySet.import_key_set((await kit.client.get("/.well-known/jwks.json")).json())
    signed = jws.deserialize_compact(response.json()["token"], keys, algorithms=["ES256"])
    assert json.loads(signed.payload)["iss"] == "verdictd"


async def test_other_software_gets_a_token_but_no_secret(kit: Any) -> None:
    """Genuine hardware with other software: the token says so, the release is denied, and no reference value is shown."""
    await kit.expect_software("what the owner built")
    response, cookie, _ = await kit.handshake(image="something else")
    assert response.status_code == 200
    assert _claims(response.json()["token"])["submods"]["cpu0"]["ear.status"] != "affirming"
    body = _refused(
        await kit.fetch(cookie=cookie), "PolicyDeny", "reference.tdx.mr_td", "reference.tdx.rtmr_1"
    )
    values = [info.value for info in await kit.services.database.list_reference_values()]
    for value in values:
        assert value[0] not in json.dumps(body)
        assert value[0][:16] not in json.dumps(body)
    assert "expected" not in next(each for each in body["checks"] if each["id"] == "reference.tdx.mr_td")


async def test_without_reference_values_nothing_is_released(kit: Any) -> None:
    """The default denies: nobody has said which software is expected."""
    _, cookie, _ = await kit.handshake()
    _refused(await kit.fetch(cookie=cookie), "PolicyDeny", "reference.tdx.mr_td", "policy.trust-vector")


@pytest.mark.parametrize(
    ("fault", "check"),
    [
        ("debug", "tdx.td.debug"),
        ("stale-tcb", "dcap.tcb.status"),
        ("revoked-tcb", "dcap.tcb.revoked"),
        ("revoked-pck", "dcap.pck.revocation"),
        ("wrong-root", "dcap.pck.chain"),
        ("altered-report", "dcap.quote.signature"),
        ("wrong-report-data", "binding.report-data"),
    ],
)
async def test_bad_evidence_gets_no_token(kit: Any, fault: str, check: str) -> None:
    """What is not genuine, not bound or not in an acceptable state gets no token; the answer names check and verdict."""
    await kit.expect_software()
    response, cookie, _ = await kit.handshake(faults=(fault,))
    body = _refused(response, "AttestationError", check)
    assert {"expected", "found", "remedy"} <= next(e for e in body["checks"] if e["id"] == check).keys()
    record = await kit.services.database.verdict(body["verdict"])
    assert record.accepted is False
    assert check in record.document["failed_checks"]
    assert record.request_id == body["request_id"]
    _refused(await kit.fetch(cookie=cookie), "HTTPFailed", "session.attested")


@pytest.mark.parametrize("fault", ["expired-collateral", "missing-crl", "altered-tcb-info"])
async def test_bad_collateral_gets_no_token(kit: Any, fault: str) -> None:
    """Collateral that does not hold is the evidence's end, and the answer says what is missing."""
    kit.collateral.faults = (fault,)
    response, _, _ = await kit.handshake()
    _refused(response, "AttestationError", "dcap.")


@pytest.mark.parametrize(
    ("fault", "noted"),
    [(None, True), ("debug", True), ("stale-tcb", True), ("altered-report", False), ("wrong-root", False)],
)
async def test_platforms_are_noted_once_they_are_proven(kit: Any, fault: str | None, *, noted: bool) -> None:
    """The Endorser keeps collateral for every genuine platform, accepted or not, and for no invented one."""
    await kit.handshake(**({"faults": (fault,)} if fault else {}))
    assert bool(kit.collateral.observed) is noted


async def test_replayed_answer_is_refused(kit: Any) -> None:
    """A recorded answer, cookie and all, works once."""
    await kit.expect_software()
    key = TeeKeyPair.generate()
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, key)
    assert (await kit.send_attestation(cookie, answer)).status_code == 200
    _refused(await kit.send_attestation(cookie, answer), "AttestationError", "session.nonce")
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET


async def test_failed_answer_spends_the_nonce(kit: Any) -> None:
    """There is no second try on one challenge, not even with better evidence."""
    key = TeeKeyPair.generate()
    nonce, cookie = await kit.auth()
    _refused(
        await kit.send_attestation(cookie, kit.attestation(nonce, key, faults=("debug",))), "AttestationError"
    )
    again = await kit.send_attestation(cookie, kit.attestation(nonce, key))
    _refused(again, "AttestationError", "session.nonce")


async def test_answer_to_another_challenge_is_refused(kit: Any) -> None:
    """The nonce must be the one in the cookie."""
    nonce, _ = await kit.auth()
    _, other = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    _refused(await kit.send_attestation(other, answer), "AttestationError", "session.nonce")


async def test_old_evidence_under_a_new_nonce_is_refused(kit: Any) -> None:
    """Evidence that was made for an earlier challenge is not bound to this one."""
    key = TeeKeyPair.generate()
    old, _ = await kit.auth()
    nonce, cookie = await kit.auth()
    answer = kit.attestation(old, key)
    answer["runtime-data"]["nonce"] = nonce
    _refused(await kit.send_attestation(cookie, answer), "AttestationError", "binding.report-data")


async def test_key_that_the_evidence_does_not_bind_is_refused(kit: Any) -> None:
    """Somebody in the middle cannot put a key of his own into a genuine answer."""
    await kit.expect_software()
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    answer["runtime-data"]["tee-pubkey"] = TeeKeyPair.generate().public.jwk
    _refused(await kit.send_attestation(cookie, answer), "AttestationError", "binding.report-data")


async def test_members_that_are_not_attested_do_not_count(kit: Any) -> None:
    """What a client adds to its JWK is lost before hashing, as with every server of this protocol."""
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    answer["runtime-data"]["tee-pubkey"]["kid"] = "added"
    assert (await kit.send_attestation(cookie, answer)).status_code == 200


async def test_evidence_of_another_kind_than_announced_is_refused(kit: Any) -> None:
    """An SGX quote does not answer a challenge for TDX."""
    key = TeeKeyPair.generate()
    nonce, cookie = await kit.auth("tdx")
    _refused(
        await kit.send_attestation(cookie, kit.attestation(nonce, key, tee="sgx")),
        "AttestationError",
        "dcap.quote.tee-type",
    )


async def test_expired_challenge_is_refused(kit: Any) -> None:
    """After five minutes a challenge can no longer be answered."""
    key = TeeKeyPair.generate()
    nonce, cookie = await kit.auth()
    kit.clock.forward(minutes=5)
    _refused(
        await kit.send_attestation(cookie, kit.attestation(nonce, key)), "AttestationError", "session.expired"
    )


async def test_tampered_and_missing_cookies_are_refused(kit: Any) -> None:
    """A cookie that this server did not seal opens nothing."""
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    tampered = ("B" if cookie[0] == "A" else "A") + cookie[1:]
    _refused(await kit.send_attestation(tampered, answer), "AttestationError", "session.cookie")
    _refused(await kit.client.post("/kbs/v0/attest", json=answer), "AttestationError", "session.cookie")
    _refused(await kit.fetch(cookie=tampered), "HTTPFailed", "session.attested")


async def test_session_ends(kit: Any) -> None:
    """Five minutes after the attestation, cookie and token are worthless."""
    await kit.expect_software()
    response, cookie, _ = await kit.handshake()
    kit.clock.forward(minutes=5)
    _refused(await kit.fetch(cookie=cookie), "HTTPFailed", "session.attested")
    _refused(await kit.fetch(token=response.json()["token"]), "HTTPFailed", "token.expired")


async def test_stranger_learns_nothing_about_paths(kit: Any) -> None:
    """Without attestation a path that exists and one that does not look alike."""
    answers = [await kit.fetch(path) for path in (kit.PATH, "default/secrets/none", "x")]
    seen = [_refused(each, "HTTPFailed", "session.attested") for each in answers]
    assert len({each["detail"].replace(each["request_id"], "") for each in seen}) == 1


async def test_missing_resource_is_not_found(kit: Any) -> None:
    """Who is attested and allowed is told that there is nothing."""
    await kit.expect_software()
    _, cookie, _ = await kit.handshake()
    for path in ("default/secrets/none", "default/secrets", "a/b/c/d", "a/../b/c", "%2e%2e/a/b"):
        response = await kit.fetch(path, cookie=cookie)
        assert response.status_code == 404, path
        assert response.json()["type"].startswith(ERRORS)


@pytest.mark.parametrize("tee", ["sample", "sampledevice", "nvidia", "cca", "", "x" * 65])
async def test_unknown_tees_get_no_challenge(kit: Any, tee: str) -> None:
    """There is no challenge for what nobody here can verify, and none for samples ever."""
    body = {"version": "0.4.0", "tee": tee, "extra-params": ""}
    _refused(await kit.client.post("/kbs/v0/auth", json=body), "AttestationError")


async def test_other_versions_are_told_so(kit: Any) -> None:
    """Guests look for this very text."""
    body = {"version": "0.2.0", "tee": "tdx", "extra-params": ""}
    refused = _refused(await kit.client.post("/kbs/v0/auth", json=body), "AttestationError")
    assert (
        "KBS Client Protocol Version Mismatch: expect =0.4.0 while the request is 0.2.0" in refused["detail"]
    )


async def test_what_is_not_verified_is_refused(kit: Any) -> None:
    """Evidence of devices is named as unsupported, and not waved through."""
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    answer["tee-evidence"]["additional_evidence"] = '{"nvidia":{}}'
    refused = _refused(await kit.send_attestation(cookie, answer), "AttestationError")
    assert "not supported" in refused["detail"]


@pytest.mark.parametrize(
    "quote",
    [None, 5, "", "AAAA", "!!!!", "A" * 4000],
    ids=["null", "number", "empty", "short", "no-base64", "zeros"],
)
async def test_unreadable_evidence_is_a_verdict_too(kit: Any, quote: Any) -> None:
    """Bytes that are no quote are refused by a named check, recorded, and spend the nonce."""
    nonce, cookie = await kit.auth()
    answer = kit.attestation(nonce, TeeKeyPair.generate())
    answer["tee-evidence"]["primary_evidence"] = {"quote": quote}
    body = _refused(await kit.send_attestation(cookie, answer), "AttestationError")
    assert body["checks"][0]["id"] in body["detail"]
    record = await kit.services.database.verdict(body["verdict"])
    assert record.document["failed_checks"] == [body["checks"][0]["id"]]
    _refused(await kit.send_attestation(cookie, answer), "AttestationError", "session.nonce")


async def test_release_is_recorded(kit: Any) -> None:
    """What left, when, and on which verdict, stays on record; what was denied does not appear as released."""
    await kit.expect_software()
    response, cookie, _ = await kit.handshake()
    verdict = _claims(response.json()["token"])["submods"]["cpu0"]["ear.eaa.verdict"]["id"]
    await kit.fetch(cookie=cookie)
    releases = await kit.services.database.releases(verdict_id=verdict)
    assert [each.path for each in releases] == [kit.PATH]
    _, other, _ = await kit.handshake(image="other")
    await kit.fetch(cookie=other)
    assert len(await kit.services.database.releases()) == 1


async def test_policy_change_counts_at_once(kit: Any) -> None:
    """A session that was allowed a moment ago is denied by the policy of now."""
    await kit.expect_software()
    _, cookie, _ = await kit.handshake()
    assert (await kit.fetch(cookie=cookie)).status_code == 200
    await kit.services.database.put_policy(
        "resource", "resource-policy", "package policy\ndefault allow := false\n"
    )
    _refused(await kit.fetch(cookie=cookie), "PolicyDeny", "policy.resource")


@pytest.mark.parametrize("kind", ["attestation", "resource"])
async def test_missing_policy_denies(kit: Any, kind: str) -> None:
    """Without a policy in force nothing is released."""
    await kit.expect_software()
    name = {"attestation": "default_cpu", "resource": "resource-policy"}[kind]
    await kit.services.database.delete_policy(kind, name)
    response, cookie, _ = await kit.handshake()
    assert response.status_code == 200
    _refused(await kit.fetch(cookie=cookie), "PolicyDeny", f"policy.{kind}")


async def test_policy_that_fails_denies(kit: Any) -> None:
    """A resource policy that cannot be evaluated denies, and its text is not shown to the guest."""
    await kit.expect_software()
    _, cookie, _ = await kit.handshake()
    await kit.services.database.put_policy("resource", "resource-policy", "package other\nallow := true\n")
    refused = _refused(await kit.fetch(cookie=cookie), "PolicyDeny", "policy.resource")
    assert "package" not in refused["detail"]


async def test_policy_sees_path_and_query(kit: Any) -> None:
    """The resource policy decides about path segments and query."""
    policy = """package policy
import rego.v1
default allow := false
allow if {
    data.plugin == "resource"
    data["resource-path"] == ["default", "secrets", "db"]
    data.query.stage == "late"
}
"""
    await kit.services.database.put_policy("resource", "resource-policy", policy)
    _, cookie, key = await kit.handshake()
    _refused(await kit.fetch(cookie=cookie), "PolicyDeny")
    assert kit.opened(await kit.fetch(f"{kit.PATH}?stage=late", cookie=cookie), key) == kit.SECRET


async def test_expired_reference_value_expects_nothing(kit: Any) -> None:
    """A reference value counts until its end and not a second longer."""
    from eaa.simulator import measure
    from eaa.simulator.measure import DEFAULT_IMAGE

    values = {name: [value] for name, value in measure(DEFAULT_IMAGE).items()}
    ends = kit.clock().replace(minute=1)
    await kit.services.database.put_reference_values(values, expires_at=ends)
    _, cookie, _ = await kit.handshake()
    assert (await kit.fetch(cookie=cookie)).status_code == 200
    kit.clock.forward(minutes=1)
    _, cookie, _ = await kit.handshake()
    _refused(await kit.fetch(cookie=cookie), "PolicyDeny", "reference.tdx.mr_td")


async def test_damaged_endorsement_store_is_our_fault(kit: Any) -> None:
    """The guest is told to come again, and nothing about our disk."""
    kit.collateral.error = ConfigurationError("the store /somewhere is damaged")
    response, _, _ = await kit.handshake()
    body = _refused(response, "HTTPFailed", status=503)
    assert "/somewhere" not in body["detail"]


async def test_metrics_count_outcomes_and_checks(kit: Any) -> None:
    """Attestations count by outcome and failing check, releases by outcome."""
    await kit.expect_software()
    _, cookie, _ = await kit.handshake()
    await kit.fetch(cookie=cookie)
    await kit.handshake(faults=("debug",))
    await kit.fetch()
    text = (await kit.client.get("/metrics")).text
    assert 'eaa_attestations_total{outcome="affirming",tee="tdx"} 1.0' in text
    assert 'eaa_attestations_total{outcome="rejected",tee="tdx"} 1.0' in text
    assert 'eaa_attestation_failed_checks_total{check="tdx.td.debug",tee="tdx"} 1.0' in text
    assert 'eaa_releases_total{outcome="released"} 1.0' in text
    assert 'eaa_releases_total{outcome="unauthorized"} 1.0' in text
