# SPDX-License-Identifier: Apache-2.0
"""How fast a warm collateral set is handed to the verifier, and TCB info to whoever asks over HTTP."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from eaa.endorser.store import Store
from eaa.tee.registry import parse_evidence

if TYPE_CHECKING:
    from bench.conftest import Case
    from pytest_benchmark.fixture import BenchmarkFixture

REQUESTS = 500
"""Requests in one round; the report divides by it."""


def fill(folder: Path, case: Case) -> Store:
    async def filled() -> Store:
        store = await Store.open(folder)
        await store.put(case.endorsements)
        await store.close()
        return store

    return asyncio.run(filled())


def test_collateral(benchmark: BenchmarkFixture, tmp_path: Path, case: Case) -> None:
    """A further quote of a known family of platforms."""
    store = fill(tmp_path, case)
    evidence = parse_evidence(case.quote, tee=case.tee)
    found = benchmark(store.endorsements_for, evidence)
    assert len(found.items) == 4


def test_tcb_info_requests(benchmark: BenchmarkFixture, tmp_path: Path, case: Case) -> None:
    """TCB info over HTTP, from a server that has one core."""
    store = fill(tmp_path, case)
    scope = next(
        each.subject.scope for each in store.snapshot().stored.values() if each.subject.kind == "tcb_info"
    )
    tee, _, fmspc = scope.partition("/")
    command = [str(Path(sys.executable).with_name("eaa")), "endorser", "serve", "--store", str(tmp_path)]
    command += ["--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        os.sched_setaffinity(server.pid, {max(os.sched_getaffinity(0))})
        try:
            assert server.stdout is not None
            address = urlsplit(json.loads(server.stdout.readline())["url"])
            request = f"GET /{tee}/certification/v4/tcb?fmspc={fmspc} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            with socket.create_connection((address.hostname, address.port)) as connection:
                size = len(ask(connection, request, 1, None))
                benchmark.pedantic(ask, (connection, request, REQUESTS, size), rounds=10, warmup_rounds=2)
        finally:
            server.terminate()


def ask(connection: socket.socket, request: bytes, count: int, size: int | None) -> bytes:
    """Send requests one behind the other and read all answers, which are of one size."""
    connection.sendall(request * count)
    answer = b""
    if size is None:
        while b"\r\n\r\n" not in answer:
            answer += connection.recv(65536)
        head, _, _ = answer.partition(b"\r\n\r\n")
        length = next(
            int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")
        )
        size = len(head) + 4 + length
        assert head.startswith(b"HTTP/1.1 200")
    left = size * count - len(answer)
    while left > 0:
        piece = connection.recv(1 << 20)
        assert piece
        answer = piece
        left -= len(piece)
    return b"." * size
