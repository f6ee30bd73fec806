# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import uvicorn
from hypothesis import HealthCheck, settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator
    from contextlib import AbstractContextManager

# A test that is slow on a busy machine is no finding.
settings.register_profile("house", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("house")


@pytest.fixture
def own_logging() -> Iterator[None]:
    """Whatever a test does to the process's logging is undone."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    """Async tests run on asyncio, as the servers do."""
    return "asyncio"


@pytest.fixture(scope="session", autouse=True)
async def one_event_loop(anyio_backend: str) -> AsyncIterator[None]:
    """Keep one event loop for all async tests: gRPC's poller outlives a test and would call into a closed one."""
    yield  # noqa: PT022 - a returning fixture would let the loop go at once


@pytest.fixture(scope="session")
def vectors() -> Path:
    """The folder of real evidence, beside the checkout or where ``EAA_VECTORS`` points."""
    folder = Path(os.environ.get("EAA_VECTORS", Path(__file__).parents[2] / "shared" / "vectors"))
    if not (folder / "manifest.json").is_file():
        pytest.skip("real evidence is not here: set EAA_VECTORS to a folder with manifest.json")
    return folder


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
