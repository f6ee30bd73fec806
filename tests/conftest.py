# SPDX-License-Identifier: Apache-2.0
"""Fixtures for every test."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import struct
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

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


_TDVF_SECTIONS = (
    (0x2000, 0x6000, 0xFFFFA000, 0x6000, 0, 1),
    (0, 0x2000, 0xFFFF8000, 0x2000, 1, 0),
    (0, 0, 0x811000, 0xF000, 3, 0),
    (0, 0, 0x80B000, 0x2000, 3, 0),
    (0, 0, 0x809000, 0x2000, 2, 0),
    (0, 0, 0x800000, 0x6000, 3, 0),
)


def _firmware() -> bytes:
    """An image with the TDVF metadata that edk2's have, and no code."""
    sections = b"".join(struct.pack("<IIQQII", *section) for section in _TDVF_SECTIONS)
    metadata = struct.pack("<4sIII", b"TDVF", 16 + len(sections), 1, len(_TDVF_SECTIONS)) + sections
    table = struct.pack("<IH", 0x800, 22) + UUID("e47a6535-984a-4798-865e-4685a7bf8ec2").bytes_le
    table += struct.pack("<H", len(table) + 18) + UUID("96b582de-1fb2-45f7-baea-a366c55a082d").bytes_le
    image = bytearray(bytes(range(251)) * 131)[:0x8000]
    image[-0x800 : -0x800 + len(metadata)] = metadata
    image[-32 - len(table) : -32] = table
    return bytes(image)


def _kernel() -> bytes:
    """A PE image of headers and one section, as an EFI-stub kernel is."""
    head = bytearray(0x400)
    head[:2], head[0x3C:0x40] = b"MZ", struct.pack("<I", 0x80)
    head[0x80:0x98] = struct.pack("<4sHHIIIHH", b"PE\0\0", 0x8664, 1, 0, 0, 0, 240, 0)
    struct.pack_into("<H", head, 0x98, 0x20B)
    struct.pack_into("<I", head, 0x98 + 60, len(head))
    struct.pack_into("<II", head, 0x98 + 240 + 16, 0x1000, len(head))
    return bytes(head) + b"kernel".ljust(0x1000, b"\x90")


@pytest.fixture
def boot_files(tmp_path: Path) -> Path:
    """A folder with what a TD is booted from, all made up: ``OVMF.fd``, ``vmlinuz``, ``initrd.img``."""
    folder = tmp_path / "boot"
    folder.mkdir()
    for name, content in (("OVMF.fd", _firmware()), ("vmlinuz", _kernel()), ("initrd.img", b"initrd")):
        (folder / name).write_bytes(content)
    return folder
