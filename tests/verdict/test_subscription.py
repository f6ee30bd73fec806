# SPDX-License-Identifier: Apache-2.0
"""Verdictds that follow a Verdict: what they take from it, what they refuse, and what they keep when it is gone."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import httpx2
import pytest

from eaa.rats import AccessDenied, ConfigurationError, EaaError, UnavailableError
from eaa.verdict import api
from eaa.verdict.api import SignedIndex, create_app
from eaa.verdict.corim import signed_corim_of
from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.reference_set import RegisterValue
from eaa.verdict.service import ReferenceSets
from eaa.verdict.signers import SignerPolicy, Signers
from eaa.verdict.subscription import Source, Subscriber

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet

pytestmark = pytest.mark.anyio

AT = datetime(2026, 11, 23, 12, tzinfo=UTC)
URL = "https://verdict.test"
TOKEN = "the subscribers' token"
ADMIN = "Bearer the administrator's"
NAMES = ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2")


def _administrator(header: str | None) -> str:
    if header != ADMIN:
        raise AccessDenied("an administrator is needed", check="admin.token")
    return "owner"


class Both:
    """A Verdict, and a Verdictd's own sets that follow it; each with signers of its own."""

    def __init__(self, folder: Path, keys: tuple[PrivateKey, ...], model: ReferenceSet) -> None:
        self.folder, self.keys, self.model = folder, keys, model
        self.there_policy = self.here_policy = self.policy(keys[0])
        self.broken: Exception | None = None
        self.index_key = keys[2]

    @staticmethod
    def policy(*keys: PrivateKey, threshold: int = 1) -> SignerPolicy:
        named = {str(n): key.public_key() for n, key in enumerate(keys)}
        return SignerPolicy((Signers("acme/*", named, threshold),))

    async def open(self) -> None:
        self.there = await ReferenceSets.open(
            f"sqlite:///{self.folder / 'there.db'}", signers=lambda: self.there_policy, clock=lambda: AT
        )
        self.here = await ReferenceSets.open(
            f"sqlite:///{self.folder / 'here.db'}", signers=lambda: self.here_policy, clock=lambda: AT
        )
        app = create_app(
            self.there,
            SignedIndex(self.there, self.index_key),
            reader_token=TOKEN,
            administrator=_administrator,
        )
        self.client = httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=URL)
        self.subscriber = self.subscribe()

    def subscribe(self, **changes: Any) -> Subscriber:
        source = replace(Source(URL, self.index_key.public_key(), TOKEN), **changes)
        return Subscriber(self.here, source, client=self.client)

    async def publish(self, version: int, *, activate: bool = True, **changes: Any) -> str:
        described = replace(
            self.model, version=version, registers=_registers(version), supersedes=None, **changes
        )
        proposed = await self.there.propose(seal(described.to_statement(), self.keys[:1]), who="there")
        if activate:
            await self.there.change(proposed["digest"], "activate", who="there")
        return str(proposed["digest"])

    async def admitted(self) -> list[int]:
        active = await self.here.active()
        return [n for n in range(1, 9) if active.find("tdx", dict.fromkeys(NAMES, f"{n:02x}" * 48), AT)]

    async def source(self) -> dict[str, Any]:
        (found,) = await self.here.sources()
        return found


def _registers(version: int) -> tuple[RegisterValue, ...]:
    return tuple(RegisterValue(name, (f"{version:02x}" * 48,)) for name in NAMES)


@pytest.fixture
async def both(
    tmp_path: Path, keys: tuple[PrivateKey, ...], reference_set: ReferenceSet
) -> AsyncIterator[Both]:
    made = Both(tmp_path, keys, reference_set)
    await made.open()
    yield made
    await made.client.aclose()
    await made.there.close()
    await made.here.close()


async def test_every_state_is_followed(both: Both) -> None:
    first = await both.publish(1)
    assert await both.subscriber.step()
    assert await both.admitted() == [1]
    assert not await both.subscriber.step(), "nothing is new"
    await both.publish(2, activate=False)
    await both.subscriber.step()
    assert await both.admitted() == [1]
    await both.there.change("acme/web@2", "activate", who="there")
    await both.there.change(first, "retire", who="there")
    await both.subscriber.step()
    assert await both.admitted() == [2]
    await both.there.change(first, "rollback", who="there")
    await both.subscriber.step()
    assert await both.admitted() == [1]
    await both.there.change(first, "revoke", who="there")
    await both.subscriber.step()
    assert await both.admitted() == []
    history = (await both.here.get(first))["history"]
    assert {each["who"] for each in history} == {URL}
    assert [each["action"] for each in history] == ["propose", "activate", "retire", "rollback", "revoke"]
    found = await both.source()
    assert (found["error"], found["held"]) == ("", "")


async def test_a_corim_is_followed_too(both: Both) -> None:
    described = replace(both.model, supersedes=None, registers=_registers(2), version=2)
    proposed = await both.there.propose(signed_corim_of(described, both.keys[0]), who="there")
    await both.there.change(proposed["digest"], "activate", who="there")
    assert await both.subscriber.step()
    assert await both.admitted() == [2]


async def test_a_new_subscriber_comes_to_where_the_verdict_is(both: Both) -> None:
    """Sets that were retired long ago, and one that is active beside a newer one, are where they are there."""
    await both.publish(1)
    await both.publish(2)
    await both.publish(3)
    await both.there.change("acme/web@2", "revoke", who="there")
    await both.there.change("acme/web@1", "retire", who="there")
    await both.subscriber.step()
    assert await both.admitted() == [3]


async def test_each_signature_is_verified_here(both: Both) -> None:
    """What this Verdictd's signers have not signed is not taken from any Verdict; once they have, it is."""
    both.here_policy = both.policy(both.keys[1])
    await both.publish(1)
    await both.subscriber.step()
    assert await both.admitted() == []
    assert await both.here.listed() == []
    assert "no key that may sign" in (await both.source())["error"]
    both.here_policy = both.policy(both.keys[0])
    await both.subscriber.step()
    assert await both.admitted() == [1]
    assert (await both.source())["error"] == ""


async def test_a_threshold_here_may_be_higher_than_there(both: Both) -> None:
    both.here_policy = both.policy(*both.keys[:2], threshold=2)
    await both.publish(1)
    await both.subscriber.step()
    assert await both.admitted() == []
    assert [each["state"] for each in await both.here.listed()] == ["proposed"]
    assert "2 must" in (await both.source())["error"]


async def test_an_older_index_is_refused_until_somebody_accepts_it(both: Both) -> None:
    """A Verdict that brings back what it had before, as one restored from a backup does, or an attacker with its key."""
    await both.publish(1)
    await both.subscriber.step()
    old = await both.there.index()
    await both.publish(2)
    await both.there.change("acme/web@1", "retire", who="there")
    await both.subscriber.step()
    with pytest.raises(AccessDenied) as refused:
        await both.here.follow(URL, old)
    assert refused.value.check == "index.older"
    assert await both.admitted() == [2]
    assert (await both.here.set_source(URL, "accept-older"))["sequence"] == -1
    await both.here.follow(URL, old)
    assert await both.admitted() == [1, 2], "what the old index did not know stays"
    with pytest.raises(EaaError):
        await both.here.set_source(URL, "explode")
    with pytest.raises(EaaError):
        await both.here.set_source("https://elsewhere.test", "accept-older")


async def test_what_is_revoked_here_stays_revoked(both: Both) -> None:
    digest = await both.publish(1)
    await both.subscriber.step()
    await both.here.change(digest, "revoke", who="here")
    await both.publish(2)
    await both.subscriber.step()
    assert await both.admitted() == [2]
    assert "acme/web@1 is revoked here, and active there" in (await both.source())["error"]


async def test_going_another_way_here_holds_the_verdict(both: Both) -> None:
    """A rollback on this Verdictd is not undone by the next index; somebody follows the Verdict again when it is time."""
    first = await both.publish(1)
    await both.subscriber.step()
    await both.publish(2)
    await both.there.change(first, "retire", who="there")
    await both.subscriber.step()
    await both.here.change(first, "rollback", who="here")
    assert await both.admitted() == [1]
    await both.publish(3)
    with pytest.raises(AccessDenied, match="rollback of acme/web@1 by here") as refused:
        await both.subscriber.step()
    assert refused.value.check == "index.held"
    assert await both.admitted() == [1]
    await both.here.set_source(URL, "resume")
    await both.subscriber.step()
    assert await both.admitted() == [2, 3]


async def test_what_was_active_stays_while_the_verdict_is_gone(both: Both) -> None:
    await both.publish(1)
    await both.subscriber.step()

    def gone(_: httpx2.Request) -> httpx2.Response:
        raise httpx2.ConnectError("gone")

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(gone), base_url=URL) as client:
        slept = asyncio.Event()
        pauses: list[float] = []

        async def sleep(seconds: float) -> None:
            pauses.append(seconds)
            if len(pauses) >= 4:
                slept.set()
                await asyncio.Event().wait()

        subscriber = Subscriber(
            both.here, Source(URL, both.index_key.public_key(), TOKEN), client=client, sleep=sleep
        )
        task = asyncio.create_task(subscriber.run())
        await asyncio.wait_for(slept.wait(), 60)
        task.cancel()
    assert await both.admitted() == [1]
    assert "cannot be reached" in (await both.source())["error"]
    assert pauses[3] > pauses[0]
    await both.publish(2)
    await both.subscriber.step()
    assert await both.admitted() == [1, 2]
    assert (await both.source())["error"] == ""


async def test_an_index_of_another_key_moves_nothing(both: Both) -> None:
    await both.publish(1)
    with pytest.raises(SignatureRefused):
        await both.subscribe(index_key=both.keys[1].public_key()).step()
    assert await both.here.listed() == []


@pytest.mark.parametrize("body", [b"", b"{}", b"\xff", b"x" * 100_000])
async def test_rubbish_moves_nothing(both: Both, body: bytes) -> None:
    transport = httpx2.MockTransport(lambda _: httpx2.Response(200, content=body))
    async with httpx2.AsyncClient(transport=transport, base_url=URL) as client:
        subscriber = Subscriber(both.here, Source(URL, both.index_key.public_key(), TOKEN), client=client)
        with pytest.raises(EaaError):
            await subscriber.step()
    assert await both.here.listed() == []


async def test_another_set_than_was_asked_for_is_refused(both: Both) -> None:
    await both.publish(1)
    other = await both.publish(2, activate=False)
    wrong = await both.there.envelope(other)
    signed = SignedIndex(both.there, both.index_key)

    async def answer(request: httpx2.Request) -> httpx2.Response:
        if request.url.path.endswith("/index"):
            found = await signed.newer_than(None, 0)
            assert found is not None
            return httpx2.Response(200, content=found[1])
        return httpx2.Response(200, content=wrong)

    async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url=URL) as client:
        await Subscriber(both.here, Source(URL, both.index_key.public_key(), TOKEN), client=client).step()
    assert await both.admitted() == []
    assert "something else" in (await both.source())["error"]


async def test_a_change_is_told_to_who_waits(both: Both) -> None:
    """A subscriber's question is answered when something changes, not after a pause."""
    await both.publish(1)
    await both.subscriber.step()
    waiting = asyncio.create_task(both.subscriber.step(wait=50))
    await asyncio.sleep(0)
    await both.publish(2)
    assert await asyncio.wait_for(waiting, 40)
    assert await both.admitted() == [1, 2]


async def test_not_too_many_wait(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who asks when as many wait as may is answered at once, and waits nowhere."""
    monkeypatch.setattr(api, "MAX_WAITERS", 1)
    await both.publish(1)
    index = SignedIndex(both.there, both.index_key)
    sequence = (await index.newer_than(None, 0) or (0, b""))[0]
    first = asyncio.create_task(index.newer_than(sequence, 50))
    async with asyncio.timeout(40):
        while not index.waiting:  # noqa: ASYNC110 - there is nothing else to wait for
            await asyncio.sleep(0)
    assert await asyncio.wait_for(index.newer_than(sequence, 50), 40) is None
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert index.waiting == 0


async def test_a_verdict_that_does_not_wait_is_not_asked_without_pause(both: Both) -> None:
    """Neither one that says at once that nothing is new, nor one that says each time that something is."""
    await both.publish(1)
    index = (await SignedIndex(both.there, both.index_key).newer_than(None, 0) or (0, b""))[1]
    sets = {
        digest: await both.there.envelope(digest)
        for digest in [each["digest"] for each in await both.there.listed()]
    }
    for status in (304, 200):

        def answer(request: httpx2.Request, status: int = status) -> httpx2.Response:
            if "/sets/" in str(request.url):
                return httpx2.Response(200, content=sets[request.url.path.rpartition("/")[2]])
            return httpx2.Response(status, content=index if status == 200 else b"")

        pauses: list[float] = []

        async def sleep(seconds: float, pauses: list[float] = pauses) -> None:
            pauses.append(seconds)
            if len(pauses) == 3:
                raise asyncio.CancelledError

        async with httpx2.AsyncClient(transport=httpx2.MockTransport(answer), base_url=URL) as client:
            subscriber = Subscriber(
                both.here, Source(URL, both.index_key.public_key(), TOKEN), client=client, sleep=sleep
            )
            with pytest.raises(asyncio.CancelledError):
                await subscriber.run()
        assert len(pauses) == 3
        assert max(pauses) > 0


def test_a_verdict_is_asked_over_tls_only(keys: tuple[PrivateKey, ...]) -> None:
    with pytest.raises(ConfigurationError):
        Source("http://verdict.test", keys[2].public_key(), TOKEN)
    assert TOKEN not in repr(Source(URL, keys[2].public_key(), TOKEN))


@pytest.mark.parametrize("token", ["", "Bearer wrong", "Basic x", f"Bearer {TOKEN}x"])
async def test_who_may_not_read_is_told_nothing(both: Both, token: str) -> None:
    digest = await both.publish(1)
    base = "/eaa/v0/reference-sets"
    for path in (
        "/verdict/v1/index",
        f"/verdict/v1/sets/{digest}",
        base,
        f"{base}/explain",
        f"{base}/{digest}",
    ):
        got = await both.client.get(path, headers={"authorization": token})
        assert got.status_code == 401
        assert digest not in got.text


async def test_subscribers_read_and_the_administrator_changes(both: Both) -> None:
    digest = await both.publish(1, activate=False)
    base, reader = "/eaa/v0/reference-sets", {"authorization": f"Bearer {TOKEN}"}
    assert (await both.client.post(f"{base}/{digest}/activate", headers=reader, json={})).status_code == 401
    assert (await both.client.post(base, headers=reader, json={})).status_code == 401
    admin = {"authorization": ADMIN}
    dry = await both.client.post(f"{base}/acme/web@1/activate", headers=admin, json={"dry_run": True})
    assert (dry.status_code, dry.json()["done"]) == (200, False)
    done = await both.client.post(f"{base}/acme/web@1/activate", headers=admin, json={"why": "good"})
    assert (done.status_code, done.json()["set"]["state"]) == (200, "active")
    again = await both.client.post(f"{base}/acme/web@1/activate", headers=admin, json={})
    assert (again.status_code, again.json()["error"]["check"]) == (403, "set.state")
    listed = (await both.client.get(base, headers=reader)).json()["reference_sets"]
    assert [each["state"] for each in listed] == ["active"]
    explained = await both.client.get(f"{base}/explain", headers=reader, params={"value": "01" * 48})
    assert explained.json()["reference_sets"][0]["history"][1]["who"] == "owner"
    envelope = json.loads(await both.there.envelope(digest))
    proposed = await both.client.post(base, headers=admin, json={"envelope": envelope, "provenance": []})
    assert proposed.status_code == 201
    for body in (b"", b"[]", b'{"x":1}', b'{"envelope":1}'):
        assert (await both.client.post(base, headers=admin, content=body)).status_code == 400
    for wait in ("x", "-1", "9999"):
        got = await both.client.get("/verdict/v1/index", headers=reader, params={"wait": wait})
        assert got.status_code == 400
    assert (await both.client.get("/healthz")).status_code == 200


async def test_a_service_that_breaks_says_nothing_of_why(both: Both, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a secret")

    monkeypatch.setattr(both.there, "listed", broken)
    got = await both.client.get("/eaa/v0/reference-sets", headers={"authorization": f"Bearer {TOKEN}"})
    assert got.status_code == 500
    assert "secret" not in got.text
    with pytest.raises(UnavailableError):
        await both.subscribe(token="wrong").step()
