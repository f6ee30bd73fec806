# SPDX-License-Identifier: Apache-2.0
"""A process that writes and is killed in the middle, run by test_faults.py.

``crash.py STATEMENT=URL …`` forks once per pair; the child opens the database, writes of everything, and gets SIGKILL right
after the named statement was executed and before its transaction commits. ``STATEMENT`` may be empty: that child only opens
the database. All children run at once.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from typing import Any

import alembic.command  # noqa: F401 - so that the children do not each load it
from sqlalchemy import Engine, event

from eaa.kms import LocalKeyManager
from eaa.storage import Database, SessionRecord, VerdictRecord

NOW = datetime(2026, 11, 1, tzinfo=UTC)


async def write_everything(url: str) -> None:
    """Make one change of each kind."""
    database = await Database.open(url, sealer=LocalKeyManager(bytes(range(32))))
    await database.put_resource("default/key/new", b"content")
    await database.put_policy("resource", "default", "new text")
    await database.put_reference_values({"mr_td": "new", "rtmr_0": "new"})
    await database.record_attestation(
        nonce=b"new nonce",
        expires_at=NOW,
        verdict=VerdictRecord("new", NOW, "tdx", True, b"", {}, ""),  # noqa: FBT003
        session=SessionRecord(b"new session", "tdx", "new", {}, {}, "", NOW.replace(year=2027)),
    )
    await database.release_resource("default/key/new", session_id=b"new session", verdict_id="new", at=NOW)
    await database.close()


async def only_open(url: str) -> None:
    """Open the database and tell how much is in it."""
    database = await Database.open(url, sealer=LocalKeyManager(bytes(range(32))))
    print("opened", await database.state_version(), flush=True)  # noqa: T201
    await database.close()


def die_after(beginning: str) -> None:
    """Have this process killed once it has executed a statement that begins so."""

    @event.listens_for(Engine, "after_cursor_execute")
    def on_statement(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)


def main() -> None:
    """Fork a child per argument, and tell how each ended."""
    children = []
    for argument in sys.argv[1:]:
        beginning, _, url = argument.partition("=")
        child = os.fork()
        if child == 0:
            if beginning:
                die_after(beginning)
            asyncio.run(write_everything(url) if beginning else only_open(url))
            os._exit(0)
        children.append(child)
    for child in children:
        print("ended", os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)  # noqa: T201


main()
