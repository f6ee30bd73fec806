# SPDX-License-Identifier: Apache-2.0
"""Attacks on the handshake: freshness, sessions, concurrency, and what a session may open."""

from __future__ import annotations

import asyncio
import json
import random
import secrets
from base64 import b64decode, urlsafe_b64decode
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy import update

from eaa.kbs import TeeKeyPair, decrypt, report_data
from eaa.storage.schema import sessions, verdicts

if TYPE_CHECKING:
    from tests.attacks.conftest import Attack, Dcap

pytestmark = pytest.mark.anyio
ONE_PATH = """package policy
import rego.v1
default allow := false
allow if {
    data["resource-path"] == ["default", "key", "image"]
    every _, submod in input.submods { submod["ear.status"] == "affirming" }
}
"""


def verdict_of(token: str) -> str:
    """The id of the verdict that a token states."""
    part = token.split(".")[1]
    claims = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return str(claims["submods"]["cpu0"]["ear.eaa.verdict"]["id"])


@pytest.mark.attack(
    "B4",
    title="The challenge can be predicted or is always the same: evidence is collected ahead or played back",
    instance="CVE-2026-6420 (Keylime)",
    checks=("session.nonce", "session.expired", "session.cookie", "binding.report-data"),
)
async def test_b04_challenges_are_random_fresh_and_for_one_answer(
    attack: Attack, dcap: Dcap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """32 bytes from the system's generator, good for one answer by the holder of the cookie, for five minutes."""
    desk, case, key = attack.desk, dcap.case("tdx"), TeeKeyPair.generate()
    drawn: list[int] = []
    genuine = secrets.token_bytes

    def token_bytes(size: int) -> bytes:
        drawn.append(size)
        return genuine(size)

    monkeypatch.setattr(secrets, "token_bytes", token_bytes)
    nonces = set()
    for _ in range(64):
        random.seed(0)
        nonces.add(b64decode((await desk.challenge())[0]))
    assert len(nonces) == 64
    assert {len(nonce) for nonce in nonces} == {32}
    assert drawn.count(32) == 64

    nonce, cookie = await desk.challenge()
    other_nonce, other_cookie = await desk.challenge()
    # Evidence that was made ahead, for a nonce that somebody guessed, under the cookie of another session, or too late.
    guessed = desk.answer(case, "A" * 43 + "=", key)
    attack.denied(await desk.attest(cookie, guessed), "session.nonce")
    ahead = desk.answer(case, nonce, key, bound=report_data("A" * 43 + "=", key.public))
    early = desk.answer(case, other_nonce, key)
    attack.denied(await desk.attest(cookie, early), "session.nonce")
    altered = ("B" if cookie[0] == "A" else "A") + cookie[1:]
    attack.denied(await desk.attest(altered, early), "session.cookie")
    attack.denied(await desk.attest(cookie, ahead), "binding.report-data")
    answer = desk.answer(case, other_nonce, key)
    assert (await desk.attest(other_cookie, answer)).status_code == 200
    attack.denied(await desk.attest(other_cookie, answer), "session.nonce")
    attack.released(await desk.fetch(cookie=other_cookie), key)
    nonce, cookie = await desk.challenge()
    answer = desk.answer(case, nonce, key)
    desk.now = desk.now.replace(minute=5)
    attack.denied(await desk.attest(cookie, answer), "session.expired")


@pytest.mark.attack(
    "B5",
    title="Freshness comes from the attested side: session keys that leaked once, with their old evidence, open a door for ever",
    instance="TOB-WAPI-7 (WhatsApp Private Processing audit)",
    checks=("binding.report-data", "session.nonce", "session.attested", "token.expired"),
)
async def test_b05_freshness_comes_from_who_relies(attack: Attack, dcap: Dcap) -> None:
    """A thief with a guest's key, evidence, cookie and token has them until the session ends, and can begin no other."""
    desk, case, key = attack.desk, dcap.case("tdx"), TeeKeyPair.generate()
    nonce, cookie = await desk.challenge()
    recorded = desk.answer(case, nonce, key)
    response = await desk.attest(cookie, recorded)
    token = response.json()["token"]
    attack.released(await desk.fetch(cookie=cookie), key)

    fresh, fresh_cookie = await desk.challenge()
    attack.denied(await desk.attest(fresh_cookie, recorded), "session.nonce")
    relabelled = recorded | {"runtime-data": {"nonce": fresh, "tee-pubkey": key.public.jwk}}
    attack.denied(await desk.attest(fresh_cookie, relabelled), "binding.report-data")
    attack.denied(await desk.fetch(cookie=fresh_cookie), "session.attested")
    desk.now = desk.now.replace(minute=5)
    attack.denied(await desk.fetch(cookie=cookie), "session.attested")
    attack.denied(await desk.fetch(token=token), "token.expired")


@pytest.mark.attack(
    "B7",
    title="The state changes between check and use: a failure turns into a pass by itself, or two requests race for one challenge",
    instance="Keylime, commits of 2026-04 and 2026-05",
    checks=("session.nonce", "tdx.td.debug", "release.session", "release.verdict", "policy.resource"),
)
async def test_b07_verdict_and_release_are_one(
    attack: Attack, dcap: Dcap, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One answer per challenge, no second try, and a release rests on what the database holds when it is recorded."""
    desk, case, key = attack.desk, dcap.case("tdx"), TeeKeyPair.generate()
    nonce, cookie = await desk.challenge()
    answer = desk.answer(case, nonce, key)
    responses = await asyncio.gather(*(desk.attest(cookie, answer) for _ in range(8)))
    refused = [each for each in responses if each.status_code != 200]
    assert len(refused) == 7
    for response in refused:
        attack.denied(response, "session.nonce")

    nonce, second = await desk.challenge()
    attack.denied(
        await desk.attest(second, desk.answer(dcap.case("tdx", "debug"), nonce, key)), "tdx.td.debug"
    )
    attack.denied(await desk.attest(second, desk.answer(case, nonce, key)), "session.nonce")
    attack.denied(await desk.fetch(cookie=second))

    # While the key is being unwrapped, between the first look and the record, somebody takes the session or the verdict away.
    database = desk.services.database
    sealer = database._sealer

    class Interrupted:
        def __init__(self, statement: Any) -> None:
            self.statement = statement

        async def unwrap(self, sealed: bytes, *, context: bytes) -> bytes:
            content = await sealer.unwrap(sealed, context=context)
            if b"resources" in context:
                await database._connections.write(lambda connection: connection.execute(self.statement))
            return content

    released = await database.releases()
    for statement, check in (
        (update(sessions).values(expires_at=desk.now), "release.session"),
        (update(verdicts).values(accepted=False), "release.verdict"),
    ):
        _, cookie, _ = await desk.attested(case)
        with monkeypatch.context() as patch:
            patch.setattr(database, "_sealer", Interrupted(statement))
            attack.denied(await desk.fetch(cookie=cookie), check)
    assert await database.releases() == released

    response, cookie, key = await desk.attested(case)
    attack.released(await desk.fetch(cookie=cookie), key)
    await database.put_policy("resource", "resource-policy", "package policy\ndefault allow := false\n")
    attack.denied(await desk.fetch(cookie=cookie), "policy.resource")


@pytest.mark.attack(
    "B14",
    title="What was revoked on one replica is still honoured by another",
    instance="infrabroker #145",
    checks=("session.attested", "release.session", "release.verdict", "policy.resource", "session.nonce"),
)
async def test_b14_every_replica_reads_the_shared_store(attack: Attack, dcap: Dcap) -> None:
    """Sessions, verdicts, spent challenges and policies are read from the database at each release, by whichever process."""
    desk, case = attack.desk, dcap.case("tdx")
    elsewhere = await desk.another_database()
    replica = desk.replica(database=elsewhere)
    try:
        response, cookie, key = await desk.attested(case)
        token = response.json()["token"]
        attack.released(await desk.fetch(cookie=cookie, client=replica), key)
        attack.released(await desk.fetch(token=token, client=replica), key)
        nonce, spent = await desk.challenge()
        answer = desk.answer(case, nonce, key)
        assert (await desk.attest(spent, answer)).status_code == 200
        desk.client, here = replica, desk.client
        attack.denied(await desk.attest(spent, answer), "session.nonce")
        desk.client = here

        database = desk.services.database
        _, other, others_key = await desk.attested(case)
        for chosen in ({"verdict": verdict_of(token)}, {"all": True}):
            ended = await desk.client.post("/eaa/v0/sessions/revoke", headers=desk.admin, json=chosen)
            assert ended.status_code == 200, ended.text
            attack.denied(await desk.fetch(cookie=cookie, client=replica), "session.attested")
            attack.denied(await desk.fetch(token=token, client=replica), "release.session")
            if "verdict" in chosen:
                attack.released(await desk.fetch(cookie=other, client=replica), others_key)
        attack.denied(await desk.fetch(cookie=other, client=replica), "session.attested")
        # A release that is under way when its session ends is refused in its transaction.
        _, under_way, _ = await desk.attested(case)
        unwrap = elsewhere._sealer.unwrap

        class Slow:
            async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
                content = await unwrap(wrapped, context=context)
                if b"default/key/image" in context:
                    assert await database.end_sessions(desk.now) == 1
                return content

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(elsewhere, "_sealer", Slow())
            attack.denied(await desk.fetch(cookie=under_way, client=replica), "release.session")
        withdrawn = update(verdicts).where(verdicts.c.id == verdict_of(token)).values(accepted=False)
        await database._connections.write(lambda connection: connection.execute(withdrawn))
        attack.denied(await desk.fetch(token=token, client=replica), "release.verdict")

        _, cookie, key = await desk.attested(case)
        attack.released(await desk.fetch(cookie=cookie, client=replica), key)
        await database.put_policy("resource", "resource-policy", "package policy\ndefault allow := false\n")
        attack.denied(await desk.fetch(cookie=cookie, client=replica), "policy.resource")
    finally:
        await replica.aclose()
        await elsewhere.close()


@pytest.mark.attack(
    "B15",
    title="A key is released for another path or to another guest than the evidence was appraised for",
    instance="a class of defects, seen in key brokers",
    checks=("policy.resource", "binding.report-data", "protocol.violation"),
    open="tenants: there are none yet",
)
async def test_b15_a_release_is_for_one_path_one_key_one_session(attack: Attack, dcap: Dcap) -> None:
    """The policy sees the path, what leaves opens with the attested key only, and the record says which path on which verdict."""
    desk, case = attack.desk, dcap.case("tdx")
    database = desk.services.database
    await database.put_resource("other/key/image", b"of somebody else")
    await database.put_policy("resource", "resource-policy", ONE_PATH)
    response, cookie, key = await desk.attested(case)
    token = response.json()["token"]
    for path in ("other/key/image", "default/key/images", "default/keys/image"):
        attack.denied(await desk.fetch(path, cookie=cookie), "policy.resource")
        attack.denied(await desk.fetch(path, token=token), "policy.resource")
    for path in ("default/key/image/../../../other/key/image", "default%2Fkey%2Fimage%2F..", "other/key"):
        refused = await desk.fetch(path, cookie=cookie)
        attack.denied(refused, status=refused.status_code)
        assert refused.status_code in (401, 404)

    # A thief in the middle can neither put his own key into the answer nor open what comes for the guest's.
    thief = TeeKeyPair.generate()
    nonce, fresh = await desk.challenge()
    swapped: dict[str, Any] = desk.answer(case, nonce, key)
    swapped["runtime-data"]["tee-pubkey"] = thief.public.jwk
    attack.denied(await desk.attest(fresh, swapped), "binding.report-data")
    stolen = await desk.fetch(cookie=cookie)
    with attack.refused("protocol.violation"):
        decrypt(stolen.json(), thief.private)
    attack.released(stolen, key)
    attack.released(await desk.fetch(token=token), key)
    assert {(each.path, each.verdict_id) for each in await database.releases()} == {
        (desk.PATH, verdict_of(token))
    }
