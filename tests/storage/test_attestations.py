# SPDX-License-Identifier: Apache-2.0
"""Attestations: one use for a nonce, verdicts for good, sessions for a while, and no release without its record."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from sqlalchemy.exc import StatementError

from eaa.rats import AccessDenied, InputError, NotFound
from eaa.storage import NonceReused, attestations

if TYPE_CHECKING:
    from eaa.storage import Database

pytestmark = pytest.mark.anyio

PATH = "default/key/web"
MICROSECOND = timedelta(microseconds=1)


async def test_verdict_and_session_come_back(database: Database, records: Any) -> None:
    """Both records are returned exactly as they were given."""
    await records.attest(database)
    assert await database.verdict("v") == records.verdict("v")
    assert await database.session(b"credential s", records.now) == records.session("s", "v")


async def test_a_rejection_is_recorded_without_session(database: Database, records: Any) -> None:
    """A nonce is spent by bad evidence too."""
    rejected = records.verdict("no", accepted=False)
    await database.record_attestation(nonce=b"n", expires_at=records.now, verdict=rejected, session=None)
    assert await database.verdict("no") == rejected
    with pytest.raises(NonceReused):
        await records.attest(database)


async def test_a_nonce_is_good_once(database: Database, records: Any) -> None:
    """The second use is refused under its check, and leaves neither verdict nor session."""
    await records.attest(database)
    with pytest.raises(NonceReused) as caught:
        await database.record_attestation(
            nonce=b"n",
            expires_at=records.now + records.minute,
            verdict=records.verdict("again"),
            session=records.session("again", "again"),
        )
    assert isinstance(caught.value, AccessDenied)
    assert caught.value.check == "session.nonce"
    assert caught.value.http_status == 403
    with pytest.raises(NotFound):
        await database.verdict("again")
    with pytest.raises(NotFound):
        await database.session(b"credential again", records.now)


async def test_of_many_uses_at_once_one_wins(database: Database, twin: Database, records: Any) -> None:
    """Exactly one verdict and session exist afterwards, and they belong together; across processes too."""
    outcomes = await asyncio.gather(
        *(
            (database, twin)[number % 2].record_attestation(
                nonce=b"the nonce",
                expires_at=records.now,
                verdict=records.verdict(f"v{number}"),
                session=records.session(f"s{number}", f"v{number}"),
            )
            for number in range(20)
        ),
        return_exceptions=True,
    )
    winners = [number for number, outcome in enumerate(outcomes) if outcome is None]
    assert len(winners) == 1
    assert sum(isinstance(outcome, NonceReused) for outcome in outcomes) == 19
    assert [verdict.id for verdict in await database.list_verdicts()] == [f"v{winners[0]}"]
    for number in range(20):
        if number in winners:
            assert (await twin.session(b"credential s%d" % number, records.now)).verdict_id == f"v{number}"
        else:
            with pytest.raises(NotFound):
                await twin.session(b"credential s%d" % number, records.now)


async def test_all_or_nothing(database: Database, records: Any) -> None:
    """When the verdict cannot be written, the nonce is not spent."""
    await records.attest(database, "1")
    with pytest.raises(Exception, match=r"(?i)unique"):
        await database.record_attestation(
            nonce=b"fresh", expires_at=records.now, verdict=records.verdict("v1"), session=None
        )
    await database.record_attestation(
        nonce=b"fresh", expires_at=records.now, verdict=records.verdict("v2"), session=None
    )


async def test_a_document_that_is_no_json_spends_nothing(database: Database, records: Any) -> None:
    """What cannot be stored is told before anything is."""
    with pytest.raises(InputError, match="document"):
        await records.attest(database, document={"nan": float("nan")})
    await records.attest(database)


async def test_sessions_expire(database: Database, records: Any) -> None:
    """At its expiry a session is as unknown as one that never was."""
    await records.attest(database)
    end = records.session().expires_at
    assert (await database.session(b"credential s", end - MICROSECOND)).token == "token of s"
    for credential, at in ((b"credential s", end), (b"credential S", records.now), (b"", records.now)):
        with pytest.raises(NotFound, match="session"):
            await database.session(credential, at)


async def test_verdicts_are_listed_newest_first(database: Database, records: Any) -> None:
    """The limit cuts the oldest."""
    for number in (2, 1, 3):
        await records.attest(database, str(number), at=records.now + number * records.minute)
    assert [verdict.id for verdict in await database.list_verdicts()] == ["v3", "v2", "v1"]
    assert [verdict.id for verdict in await database.list_verdicts(limit=2)] == ["v3", "v2"]
    with pytest.raises(NotFound, match="'v4'"):
        await database.verdict("v4")


async def test_a_release_returns_content_and_is_recorded(database: Database, records: Any) -> None:
    """With a session or, for a token, without; the record names version and verdict."""
    await records.attest(database, "1")
    await records.attest(database, "2")
    await database.put_resource(PATH, b"old")
    assert (
        await database.release_resource(PATH, session_id=b"credential s1", verdict_id="v1", at=records.now)
        == b"old"
    )
    await database.put_resource(PATH, b"new")
    later = records.now + records.minute
    assert await database.release_resource(PATH, session_id=None, verdict_id="v2", at=later) == b"new"
    newest, oldest = await database.releases()
    assert (newest.at, newest.path, newest.resource_version, newest.verdict_id) == (later, PATH, 2, "v2")
    assert (oldest.at, oldest.path, oldest.resource_version, oldest.verdict_id) == (
        records.now,
        PATH,
        1,
        "v1",
    )
    assert await database.releases(verdict_id="v1") == [oldest]
    assert await database.releases(limit=1) == [newest]


async def test_what_is_not_allowed_is_not_released(database: Database, records: Any) -> None:
    """Every refusal names its check, comes before the question whether the resource exists, and leaves no record."""
    await database.put_resource(PATH, b"secret")
    await records.attest(database, "1")
    await records.attest(database, "2")
    await database.record_attestation(
        nonce=b"r", expires_at=records.now, verdict=records.verdict("bad", accepted=False), session=records.session("bad", "bad")
    )  # fmt: skip
    end = records.session().expires_at
    refused: list[tuple[bytes | None, str, Any, str]] = [
        (b"credential s1", "unknown", records.now, "release.verdict"),
        (None, "unknown", records.now, "release.verdict"),
        (b"credential bad", "bad", records.now, "release.verdict"),
        (None, "bad", records.now, "release.verdict"),
        (b"credential s1", "v2", records.now, "release.session"),
        (b"credential s1", "v1", end, "release.session"),
        (b"unknown", "v1", records.now, "release.session"),
        (None, "v1", end, "release.session"),
    ]
    for session_id, verdict_id, at, check in refused:
        for path in (PATH, "no/such/resource"):
            with pytest.raises(AccessDenied) as caught:
                await database.release_resource(path, session_id=session_id, verdict_id=verdict_id, at=at)
            assert caught.value.check == check
    with pytest.raises(NotFound):
        await database.release_resource(
            "no/such/resource", session_id=b"credential s1", verdict_id="v1", at=records.now
        )
    assert await database.releases() == []


async def test_a_resource_that_changes_meanwhile(
    database: Database, twin: Database, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What leaves is what the record says left: a change between reading and recording is noticed."""
    await records.attest(database)
    await database.put_resource(PATH, b"old")
    unwrap = database._sealer.unwrap
    changes = iter([twin.put_resource(PATH, b"new"), None])

    async def slow(wrapped: bytes, *, context: bytes) -> bytes:
        change = next(changes)
        if change is not None:
            await change
        return await unwrap(wrapped, context=context)

    class Slow:
        wrap = database._sealer.wrap
        unwrap = staticmethod(slow)

    monkeypatch.setattr(database, "_sealer", Slow())
    content = await database.release_resource(PATH, session_id=None, verdict_id="v", at=records.now)
    assert content == b"new"
    assert [release.resource_version for release in await database.releases()] == [2]


async def test_a_session_that_ends_meanwhile(
    database: Database, twin: Database, records: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A session that is gone when the record would be written releases nothing."""
    await records.attest(database)
    await database.put_resource(PATH, b"secret")

    class Slow:
        wrap = database._sealer.wrap

        async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
            await twin.purge(records.now + timedelta(days=1))
            return b"secret"

    monkeypatch.setattr(database, "_sealer", Slow())
    with pytest.raises(AccessDenied, match="session"):
        await database.release_resource(PATH, session_id=b"credential s", verdict_id="v", at=records.now)
    assert await database.releases() == []


async def test_sessions_are_listed_while_they_are_open(database: Database, records: Any) -> None:
    """What names a session opens nothing."""
    await records.attest(database, "1")
    await records.attest(database, "2", tee="snp", at=records.now + records.minute)
    listed = await database.list_sessions(records.now)
    assert {(each.tee, each.verdict_id, each.opened_at) for each in listed} == {
        ("tdx", "v1", records.now),
        ("snp", "v2", records.now + records.minute),
    }
    assert {each.expires_at for each in listed} == {records.session().expires_at}
    assert {each.digest for each in listed} == {sha256(b"credential s%d" % n).digest() for n in (1, 2)}
    assert len(await database.list_sessions(records.now, 1)) == 1
    assert await database.list_sessions(records.session().expires_at) == []
    with pytest.raises(NotFound):
        await database.session(listed[0].digest, records.now)


@pytest.mark.parametrize("by", ["digest", "verdict_id", "all"])
async def test_an_ended_session_releases_nothing(
    database: Database, twin: Database, records: Any, by: str
) -> None:
    """Neither by its credential nor by the token that was issued with it, in no process; others go on, unless all were ended."""
    await records.attest(database, "1")
    await records.attest(database, "2")
    await database.put_resource(PATH, b"secret")
    named: dict[str, Any] = {"digest": sha256(b"credential s1").digest(), "verdict_id": "v1"}
    assert await twin.end_sessions(records.now, **{name: named[name] for name in named if name == by}) == (
        2 if by == "all" else 1
    )
    assert await twin.end_sessions(records.now, **named) == 0
    with pytest.raises(NotFound):
        await database.session(b"credential s1", records.now)
    for session_id in (b"credential s1", None):
        with pytest.raises(AccessDenied) as caught:
            await database.release_resource(PATH, session_id=session_id, verdict_id="v1", at=records.now)
        assert caught.value.check == "release.session"
    if by != "all":
        for session_id in (b"credential s2", None):
            await database.release_resource(PATH, session_id=session_id, verdict_id="v2", at=records.now)
    assert (await database.verdict("v1")).accepted


@pytest.mark.parametrize("session_id", [b"credential s", None])
async def test_a_session_that_is_revoked_meanwhile(
    database: Database,
    twin: Database,
    records: Any,
    monkeypatch: pytest.MonkeyPatch,
    session_id: bytes | None,
) -> None:
    """A release under way is refused in the transaction that would record it."""
    await records.attest(database)
    await database.put_resource(PATH, b"secret")

    class Slow:
        wrap = database._sealer.wrap

        async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
            assert await twin.end_sessions(records.now, verdict_id="v") == 1
            return b"secret"

    monkeypatch.setattr(database, "_sealer", Slow())
    with pytest.raises(AccessDenied, match="session"):
        await database.release_resource(PATH, session_id=session_id, verdict_id="v", at=records.now)
    assert await database.releases() == []


async def test_purging(database: Database, records: Any) -> None:
    """Expired sessions go at once, nonces some time later; verdicts and releases stay."""
    await records.attest(database)
    await database.put_resource(PATH, b"secret")
    await database.release_resource(PATH, session_id=b"credential s", verdict_id="v", at=records.now)
    end = records.session().expires_at
    assert await database.purge(end - MICROSECOND) == 0
    assert await database.purge(end) == 1
    with pytest.raises(NonceReused):
        await records.attest(database)
    assert await database.purge(end + attestations.NONCE_GRACE - MICROSECOND) == 0
    assert await database.purge(end + attestations.NONCE_GRACE) == 1
    assert len(await database.list_verdicts()) == 1
    assert len(await database.releases()) == 1


async def test_a_naive_datetime_is_a_mistake_of_ours(database: Database, records: Any) -> None:
    """An instant without a zone is never guessed."""
    with pytest.raises(StatementError, match="time zone"):
        await database.reference_values(records.now.replace(tzinfo=None))
    with pytest.raises(StatementError, match="time zone"):
        await records.attest(database, at=records.now.replace(tzinfo=None))
    await records.attest(database)


def test_credentials_are_not_shown(records: Any) -> None:
    """A session's repr has neither its id nor its token."""
    session = replace(records.session(), id=b"the credential", token="the token")
    assert "the credential" not in repr(session)
    assert "the token" not in repr(session)
