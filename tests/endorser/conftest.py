# SPDX-License-Identifier: Apache-2.0
"""A chip maker in software, a store that trusts it, and a server on loopback."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import uvicorn

from eaa.endorser.store import Store
from eaa.simulator import ChipMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import Any

NOW = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture(scope="session")
def maker() -> ChipMaker:
    """One chip maker for every test."""
    return ChipMaker.create(NOW)


@pytest.fixture
def store(tmp_path: Path, maker: ChipMaker) -> Store:
    """An empty store below the chip maker's root."""
    return Store(tmp_path / "store", (maker.trust_anchor(),))


@contextmanager
def _serving(app: Any) -> Iterator[str]:
    bound = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_level="error", lifespan="off"))
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[bound])))
    thread.start()
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
        bound.close()


@pytest.fixture
def serving() -> Callable[[Any], AbstractContextManager[str]]:
    """Serve an ASGI application on loopback: ``with serving(app) as url``."""
    return _serving
