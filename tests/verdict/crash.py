# SPDX-License-Identifier: Apache-2.0
"""A process that activates a set and is killed in the middle, run by test_service.py.

``crash.py URL PUBLIC-KEY DIGEST STATEMENT`` gets SIGKILL right after the named statement was executed and before its transaction commits.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event

from eaa._keys import read_public_key
from eaa.verdict.service import ReferenceSets
from eaa.verdict.signers import SignerPolicy, Signers

NOW = datetime(2026, 11, 24, tzinfo=UTC)


async def activate(url: str, pem: bytes, digest: str) -> None:
    """Activate one set."""
    policy = SignerPolicy((Signers("acme/*", {"key": read_public_key(pem)}, 1),))
    sets = await ReferenceSets.open(url, signers=lambda: policy, clock=lambda: NOW)
    await sets.change(digest, "activate", who="crash")
    await sets.close()


def main() -> None:
    """Activate, and die after a statement that begins as the last argument says."""
    url, key, digest, beginning = sys.argv[1:]

    @event.listens_for(Engine, "after_cursor_execute")
    def on_statement(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if statement.lstrip().startswith(beginning):
            os.kill(os.getpid(), signal.SIGKILL)

    asyncio.run(activate(url, Path(key).read_bytes(), digest))


main()
