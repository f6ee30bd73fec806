# SPDX-License-Identifier: Apache-2.0
"""One chip maker for all tests of the simulator."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import pytest
import uvicorn

from eaa.simulator import ChipMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager


@pytest.fixture(scope="session")
def at() -> datetime:
    return datetime(2026, 3, 16, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def maker(at: datetime) -> ChipMaker:
    return ChipMaker.create(at)


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
