# SPDX-License-Identifier: Apache-2.0
"""The agent as a process: one ready line, both servers, a clean end."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import grpc
import grpc.aio
import httpx2
import pytest

from eaa._proto import api_pb2, api_pb2_grpc
from eaa.agent import server as server_module
from eaa.agent.config import AgentConfig, load_config
from eaa.agent.server import serve
from eaa.rats import ConfigurationError
from eaa.simulator import ChipMaker

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import FakeAttester, FakeKbs

pytestmark = pytest.mark.anyio


def configuration(kbs_url: str, **changes: Any) -> AgentConfig:
    base = {
        "kbs_url": kbs_url,
        "attester": "fake",
        "grpc_listen": "127.0.0.1:0",
        "rest_listen": "127.0.0.1:0",
    }
    return load_config(None, base | changes)


@pytest.fixture
def fake_driver(attester: FakeAttester, monkeypatch: pytest.MonkeyPatch) -> FakeAttester:
    monkeypatch.setattr(server_module, "load_attester", lambda name, settings: attester)
    return attester


@pytest.mark.parametrize("ending", [signal.SIGTERM, signal.SIGINT])
async def test_both_servers_answer_from_the_ready_event_to_the_signal(
    kbs: FakeKbs, fake_driver: FakeAttester, ending: signal.Signals
) -> None:
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(configuration(kbs.url), ready.set_result))
    event = await asyncio.wait_for(ready, 10)
    assert (event["event"], event["tee"], event["pid"]) == ("ready", "tdx", os.getpid())
    async with httpx2.AsyncClient(timeout=30) as http:
        answer = await http.get(f"{event['rest']}/cdh/resource/default/key/1")
    async with grpc.aio.insecure_channel(event["grpc"]) as channel:
        request = api_pb2.GetResourceRequest(ResourcePath="kbs:///default/key/1")
        resource = await api_pb2_grpc.GetResourceServiceStub(channel).GetResource(request)
    assert answer.content == resource.Resource == bytes(range(32))
    os.kill(os.getpid(), ending)
    await asyncio.wait_for(task, 10)
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", int(event["rest"].rpartition(":")[2])))


async def test_cancellation_ends_it_too(kbs: FakeKbs, fake_driver: FakeAttester) -> None:
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    task = asyncio.create_task(serve(configuration(kbs.url), ready.set_result))
    await asyncio.wait_for(ready, 10)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 10)


@pytest.mark.parametrize("key", ["rest_listen", "grpc_listen"])
async def test_a_taken_address_is_a_configuration_error(
    kbs: FakeKbs, fake_driver: FakeAttester, key: str
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(ConfigurationError, match=address):
            await serve(configuration(kbs.url, **{key: address}), lambda _: pytest.fail("was ready"))


def test_the_process_prints_one_line_and_logs_json_on_standard_error(tmp_path: Path) -> None:
    ChipMaker.create(datetime.now(UTC)).save(tmp_path / "vendor")
    config = tmp_path / "agent.toml"
    config.write_text(
        'kbs_url = "http://127.0.0.1:1"\nattester = "simulator"\n'
        'grpc_listen = "127.0.0.1:0"\nrest_listen = "127.0.0.1:0"\nrest_feature = "all"\n'
        f'[attester_settings]\nvendor = "{tmp_path / "vendor"}"\n'
    )
    program = "import pathlib, sys; from eaa.agent.server import run; run(pathlib.Path(sys.argv[1]), {'log_level': 'debug'})"
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(config)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    event = json.loads(process.stdout.readline())
    assert (event["event"], event["tee"], event["pid"]) == ("ready", "tdx", process.pid)
    answer = httpx2.get(f"{event['rest']}/cdh/resource/default/key/1")
    assert (answer.status_code, "does not answer" in answer.text) == (500, True)
    assert len(httpx2.get(f"{event['rest']}/aa/evidence?runtime_data=x").json()["quote"]) > 1000
    process.send_signal(signal.SIGTERM)
    rest, logs = process.communicate(timeout=10)
    assert (process.returncode, rest) == (0, "")
    records = [json.loads(line) for line in logs.splitlines()]
    assert records[-1]["event"] == "stopped"
    assert all({"event", "level", "timestamp"} <= record.keys() for record in records)


async def test_init_data_are_read_at_the_start_and_sent(
    kbs: FakeKbs, fake_driver: FakeAttester, tmp_path: Path
) -> None:
    file = tmp_path / "initdata.toml"
    file.write_text("version = '0.1.0'\nalgorithm = 'sha384'\n[data]\nrole = 'wéb'\n", encoding="utf-8")
    ready: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
    config = configuration(kbs.url, init_data_file=str(file))
    task = asyncio.create_task(serve(config, ready.set_result))
    event = await asyncio.wait_for(ready, 10)
    async with httpx2.AsyncClient() as http:
        assert (await http.get(f"{event['rest']}/cdh/resource/default/key/1")).status_code == 200
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    (sent,) = kbs.init_data_seen
    assert sent is not None
    assert sent.body == file.read_text(encoding="utf-8")


@pytest.mark.parametrize("content", [None, b"\xff", b"version = '0.1.0'", b"x" * (1 << 20) + b"y"])
async def test_init_data_that_are_none_are_refused_at_the_start(
    fake_driver: FakeAttester, tmp_path: Path, content: bytes | None
) -> None:
    file = tmp_path / "initdata.toml"
    if content is not None:
        file.write_bytes(content)
    with pytest.raises(ConfigurationError, match=r"initdata\.toml"):
        await serve(configuration("http://127.0.0.1:1", init_data_file=str(file)), print)
