# SPDX-License-Identifier: Apache-2.0
"""Policies and reference values: what the owner sets, and how caches learn of it."""

from __future__ import annotations

import asyncio
import hashlib
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest

from eaa.rats import InputError, NotFound

if TYPE_CHECKING:
    from eaa.storage import Database

pytestmark = pytest.mark.anyio

NOW = datetime(2026, 11, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)


async def test_a_policy_comes_back_as_it_was_put(database: Database) -> None:
    """Text is kept exactly; the digest is its SHA-384."""
    text = "package policy\r\n\tdefault allow := false # ünïcode 🗝\n"
    put = await database.put_policy("resource", "default", text)
    assert put == await database.get_policy("resource", "default")
    assert put.text == text
    assert put.digest == hashlib.sha384(text.encode()).hexdigest()
    assert (put.kind, put.name, put.version) == ("resource", "default", 1)


async def test_versions_are_kept(database: Database) -> None:
    """A new text is a new version; the same text is none; going back is one."""
    first = await database.put_policy("resource", "default", "a")
    assert await database.put_policy("resource", "default", "a") == first
    await database.put_policy("resource", "default", "b")
    third = await database.put_policy("resource", "default", "a")
    history = await database.policy_history("resource", "default")
    assert [(each.version, each.text) for each in history] == [(3, "a"), (2, "b"), (1, "a")]
    assert await database.get_policy("resource", "default") == third == history[0]


async def test_kinds_and_names_are_apart(database: Database) -> None:
    """Policies of one name and two kinds do not touch each other, and are listed in order."""
    await database.put_policy("resource", "default", "r")
    await database.put_policy("attestation", "tdx", "t")
    await database.put_policy("attestation", "default", "a")
    listed = [(each.kind, each.name, each.text) for each in await database.list_policies()]
    assert listed == [
        ("attestation", "default", "a"),
        ("attestation", "tdx", "t"),
        ("resource", "default", "r"),
    ]
    assert [each.text for each in await database.list_policies("resource")] == ["r"]


async def test_a_deleted_policy_leaves_its_history(database: Database) -> None:
    """Deleting takes out of force; a later version continues the count."""
    await database.put_policy("resource", "default", "a")
    await database.delete_policy("resource", "default")
    with pytest.raises(NotFound, match="default"):
        await database.get_policy("resource", "default")
    with pytest.raises(NotFound):
        await database.delete_policy("resource", "default")
    assert await database.list_policies() == []
    assert [each.version for each in await database.policy_history("resource", "default")] == [1]
    assert (await database.put_policy("resource", "default", "a")).version == 2


async def test_a_policy_that_never_was(database: Database) -> None:
    """Neither text nor history."""
    with pytest.raises(NotFound):
        await database.get_policy("attestation", "nothing")
    with pytest.raises(NotFound):
        await database.policy_history("attestation", "nothing")


async def test_no_version_is_lost_at_once(database: Database, twin: Database) -> None:
    """Two processes that put policies at once make versions without gaps, and count every change."""
    puts = (
        (database, twin)[number % 2].put_policy("resource", "default", f"text {number}")
        for number in range(16)
    )
    made = await asyncio.gather(*puts)
    assert sorted(each.version for each in made) == list(range(1, 17))
    assert await database.state_version() == 16


@pytest.mark.parametrize("name", ["", "a\nb", "a\0", "\x1b[31m", "\ud800", "x" * 256])
async def test_unusable_names_are_refused(database: Database, name: str) -> None:
    """A name is printable text of bounded length; nothing is stored and no change is counted."""
    with pytest.raises(InputError):
        await database.put_policy("resource", name, "text")
    with pytest.raises(InputError):
        await database.put_reference_values({"good": 1, name: 1})
    assert await database.list_reference_values() == []
    assert await database.state_version() == 0


@pytest.mark.parametrize("text", ["a\0b", "\ud800"])
async def test_unusable_policy_text_is_refused(database: Database, text: str) -> None:
    """What some database could not store is stored by none."""
    with pytest.raises(InputError):
        await database.put_policy("resource", "default", text)
    assert await database.list_policies() == []


async def test_reference_values_are_any_json(database: Database) -> None:
    """Values come back equal, whatever their shape."""
    values = {
        "mr_td": ["ab", "cd"],
        "svn": 3,
        "none": None,
        "off": False,
        "deep": {"a": [{"b": "ü\0"}]},
        "f": 0.5,
    }
    await database.put_reference_values(values)
    assert await database.reference_values(NOW) == values
    assert list(await database.reference_values(NOW)) == sorted(values)


async def test_values_count_until_they_expire(database: Database) -> None:
    """A value does not count at its expiry any more, is still listed, and any zone may be given."""
    elsewhere = NOW.astimezone(timezone(timedelta(hours=5)))
    await database.put_reference_values({"a": 1, "b": 1}, expires_at=elsewhere)
    await database.put_reference_values({"b": 2})
    assert await database.reference_values(NOW - timedelta(microseconds=1)) == {"a": 1, "b": 2}
    assert await database.reference_values(NOW) == {"b": 2}
    listed = await database.list_reference_values()
    assert [(each.name, each.value, each.expires_at) for each in listed] == [("a", 1, NOW), ("b", 2, None)]
    assert listed[0].expires_at is not None
    assert listed[0].expires_at.tzinfo is UTC


async def test_deleting_a_value(database: Database) -> None:
    """Only the named value goes."""
    await database.put_reference_values({"a": 1, "b": 2})
    await database.delete_reference_value("a")
    assert await database.reference_values(NOW) == {"b": 2}
    with pytest.raises(NotFound, match="'a'"):
        await database.delete_reference_value("a")


def nested() -> Any:
    """Return a list too deep for JSON."""
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    return deep


@pytest.mark.parametrize("value", [float("nan"), float("inf"), b"bytes", {1, 2}, NOW, object(), nested()])
async def test_all_values_or_none(database: Database, value: Any) -> None:
    """One value that is no JSON keeps the others from being set, and no change is counted."""
    await database.put_reference_values({"a": 1})
    before = await database.state_version()
    with pytest.raises(InputError, match="'bad'"):
        await database.put_reference_values({"a": 2, "bad": value, "z": 3})
    assert await database.reference_values(NOW) == {"a": 1}
    assert await database.state_version() == before


async def test_the_state_grows_with_every_change_and_no_other(database: Database, twin: Database) -> None:
    """Caches keyed by it are never stale, and not refreshed for nothing."""
    await database.put_policy("resource", "default", "a")
    steps = [
        (database.put_policy("resource", "default", "b"), 1),
        (database.put_policy("resource", "default", "b"), 0),
        (database.delete_policy("resource", "default"), 1),
        (database.put_reference_values({"a": 1, "b": 2}), 1),
        (database.put_reference_values({}), 0),
        (database.delete_reference_value("a"), 1),
        (database.put_resource("a/b/c", b""), 0),
    ]
    for change, growth in steps:
        before = await twin.state_version()
        await change
        assert await twin.state_version() - before == growth
