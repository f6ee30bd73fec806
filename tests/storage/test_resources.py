# SPDX-License-Identifier: Apache-2.0
"""Resources: sealed content under a path, in versions."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from eaa.rats import InputError, NotFound
from eaa.storage import Conflict

if TYPE_CHECKING:
    from eaa.storage import Database

pytestmark = pytest.mark.anyio


async def test_what_was_put_is_got(database: Database) -> None:
    """Content comes back byte for byte, empty content too."""
    for content in (b"", b"\0", bytes(range(256)) * 5000):
        await database.put_resource("default/key/web", content)
        assert await database.get_resource("default/key/web") == content


async def test_each_put_is_a_version(database: Database) -> None:
    """The version counts from 1, and the info describes the content without holding it."""
    first = await database.put_resource("default/key/web", b"abc")
    second = await database.put_resource("default/key/web", b"abcdef")
    assert (first.version, first.size, first.kind) == (1, 3, "resource")
    assert (second.version, second.size) == (2, 6)
    assert second.updated_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - second.updated_at) < timedelta(minutes=1)
    assert await database.list_resources() == [second]
    assert "abcdef" not in repr(second)


async def test_a_path_keeps_its_kind(database: Database) -> None:
    """A secret cannot take the place of a KEK by mistake: nothing changes."""
    await database.put_resource("default/kek/web", b"k" * 32, kind="kek")
    with pytest.raises(Conflict, match="holds a kek"):
        await database.put_resource("default/kek/web", b"oops")
    assert await database.get_resource("default/kek/web") == b"k" * 32
    assert (await database.put_resource("default/kek/web", b"j" * 32, kind="kek")).version == 2


async def test_create_does_not_replace(database: Database) -> None:
    """The second of two creations is told so and changes nothing."""
    assert await database.create_resource("default/kek/web", b"first", kind="kek") is True
    assert await database.create_resource("default/kek/web", b"second", kind="kek") is False
    assert await database.create_resource("default/kek/web", b"third", kind="resource") is False
    assert await database.get_resource("default/kek/web") == b"first"
    assert (await database.list_resources())[0].version == 1


async def test_of_many_creations_at_once_one_wins(database: Database, twin: Database) -> None:
    """The content is the winner's, across processes too."""
    contents = [b"content %d" % number for number in range(20)]
    made = await asyncio.gather(
        *(
            (database, twin)[number % 2].create_resource("default/kek/web", content, kind="kek")
            for number, content in enumerate(contents)
        )
    )
    assert made.count(True) == 1
    assert await database.get_resource("default/kek/web") == contents[made.index(True)]


async def test_no_put_at_once_is_lost(database: Database, twin: Database) -> None:
    """Concurrent puts from two processes get distinct versions without gaps."""
    infos = await asyncio.gather(
        *((database, twin)[number % 2].put_resource("default/key/web", bytes(number)) for number in range(20))
    )
    assert sorted(info.version for info in infos) == list(range(1, 21))
    last = max(infos, key=lambda info: info.version)
    assert len(await twin.get_resource("default/key/web")) == last.size


async def test_the_list_is_ordered_and_narrowed(database: Database) -> None:
    """A prefix is taken literally and by case; kinds are told apart."""
    for path in ("b/key/1", "a_b/key/1", "axb/key/1", "A_b/key/1"):
        await database.put_resource(path, b"")
    await database.put_resource("b/kek/1", b"", kind="kek")

    async def paths(prefix: str = "", **narrowed: str) -> list[str]:
        return [info.path for info in await database.list_resources(prefix, **narrowed)]  # type: ignore[arg-type]

    assert await paths() == ["A_b/key/1", "a_b/key/1", "axb/key/1", "b/kek/1", "b/key/1"]
    assert await paths("a_b") == ["a_b/key/1"]
    assert await paths("b/ke") == ["b/kek/1", "b/key/1"]
    assert await paths("%") == []
    assert await paths("b/", kind="kek") == ["b/kek/1"]


async def test_deleting_and_missing(database: Database) -> None:
    """What is deleted is not found, and can be made again."""
    await database.put_resource("default/key/web", b"abc")
    await database.delete_resource("default/key/web")
    with pytest.raises(NotFound, match="default/key/web"):
        await database.get_resource("default/key/web")
    with pytest.raises(NotFound):
        await database.delete_resource("default/key/web")
    assert await database.create_resource("default/key/web", b"new") is True


@pytest.mark.parametrize(
    "path",
    ["", "a", "a/b", "a/b/c/d", "/a/b/c", "a//c", "a/b/", "a/b/.c", "../b/c", "a/b/c\n", "a/b/ü", "a/b/c d", "a/b/\0", "a/b/" + "c" * 256],
)  # fmt: skip
async def test_other_paths_are_refused(database: Database, path: str) -> None:
    """Only <repo>/<type>/<tag> is stored; anything else is simply not found."""
    for attempt in (database.put_resource(path, b""), database.create_resource(path, b"")):
        with pytest.raises(InputError, match="no resource path"):
            await attempt
    assert await database.list_resources() == []


async def test_every_form_of_path_is_taken(database: Database) -> None:
    """Letters, digits, '_', '-' and, not first, '.'; up to 255 characters a segment."""
    for path in ("default/key/1", "a/b/c", "-/_/-.tar.gz", "Repo_1/v1.2/" + "x" * 255):
        await database.put_resource(path, path.encode())
        assert await database.get_resource(path) == path.encode()
