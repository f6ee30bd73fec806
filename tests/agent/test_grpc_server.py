# SPDX-License-Identifier: Apache-2.0
"""The gRPC services through a real client: opening a layer's key, and the status of everything that goes wrong."""

from __future__ import annotations

import json
import stat
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING

import grpc
import grpc.aio
import pytest

from eaa._logging import configure_logging
from eaa._proto import (
    api_pb2,
    api_pb2_grpc,
    getresource_pb2,
    getresource_pb2_grpc,
    keyprovider_pb2,
    keyprovider_pb2_grpc,
)
from eaa.agent.client import KbsClient
from eaa.agent.config import Address
from eaa.agent.grpc_server import start_grpc
from eaa.image import ResourceUri, wrap
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.agent.conftest import FakeAttester, FakeKbs

pytestmark = pytest.mark.anyio
OPTIONS = b'{"symkey":"c2VjcmV0","digest":"sha256:00","cipheroptions":{}}'
KID = ResourceUri("default", "key", "1")
PACKET = wrap(bytes(range(32)), OPTIONS, kid=KID).to_json()


def message(annotation: bytes) -> bytes:
    params = {
        "dc": {"Parameters": {"attestation-agent": ["RW5hYmxlZA=="]}},
        "annotation": b64encode(annotation).decode(),
    }
    return json.dumps(
        {"op": "keyunwrap", "keywrapparams": {"ec": None, "optsdata": None}, "keyunwrapparams": params}
    ).encode()


@pytest.fixture
async def channel(client: KbsClient) -> AsyncIterator[grpc.aio.Channel]:
    server, address = await start_grpc(client, Address("127.0.0.1", 0))
    async with grpc.aio.insecure_channel(str(address)) as made:
        yield made
    await server.stop(None)


async def unwrapped(channel: grpc.aio.Channel, data: bytes) -> bytes:
    request = keyprovider_pb2.KeyProviderKeyWrapProtocolInput(KeyProviderKeyWrapProtocolInput=data)
    answer = await keyprovider_pb2_grpc.KeyProviderServiceStub(channel).UnWrapKey(request)
    result = json.loads(answer.KeyProviderKeyWrapProtocolOutput)
    return b64decode(result["keyunwrapresults"]["optsdata"])


async def test_a_layer_key_is_unwrapped_with_the_released_kek(channel: grpc.aio.Channel) -> None:
    assert await unwrapped(channel, message(PACKET)) == OPTIONS


async def test_every_unwrap_asks_the_broker(channel: grpc.aio.Channel, kbs: FakeKbs) -> None:
    await unwrapped(channel, message(PACKET))
    await unwrapped(channel, message(PACKET))
    assert kbs.calls.count("resource") == 2
    del kbs.resources["default/key/1"]
    with pytest.raises(grpc.aio.AioRpcError):
        await unwrapped(channel, message(PACKET))


async def test_a_denial_reaches_the_image_tool_with_its_check_and_remedy(
    channel: grpc.aio.Channel, kbs: FakeKbs
) -> None:
    kbs.refuse(
        "attest", "check tdx.td.debug failed. Launch the guest without debug.", variant="AttestationError"
    )
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unwrapped(channel, message(PACKET))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    details = refused.value.details() or ""
    assert "tdx.td.debug" in details
    assert "Launch the guest without debug." in details


@pytest.mark.usefixtures("own_logging")
async def test_a_fault_of_ours_is_neither_told_nor_logged_in_words(
    channel: grpc.aio.Channel, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    async def fail(*_: object, **__: object) -> bytes:
        raise RuntimeError("the secret is hunter2")

    configure_logging("debug")
    monkeypatch.setattr(KbsClient, "get_resource", fail)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unwrapped(channel, message(PACKET))
    assert refused.value.code() is grpc.StatusCode.INTERNAL
    said = capfd.readouterr()
    assert "RuntimeError" in said.err
    assert "hunter2" not in f"{refused.value.details()}{said.out}{said.err}"


async def test_a_missing_key_is_not_found(channel: grpc.aio.Channel) -> None:
    packet = wrap(bytes(32), OPTIONS, kid=ResourceUri("default", "key", "none")).to_json()
    with pytest.raises(grpc.aio.AioRpcError, match="default/key/none") as refused:
        await unwrapped(channel, message(packet))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND


async def test_a_broker_that_is_down_is_unavailable(attester: FakeAttester) -> None:
    async with KbsClient("http://127.0.0.1:1", attester) as nowhere:
        server, address = await start_grpc(nowhere, Address("127.0.0.1", 0))
        async with grpc.aio.insecure_channel(str(address)) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match="does not answer") as refused:
                await unwrapped(channel, message(PACKET))
        await server.stop(None)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        message(b""),
        message(b"{}"),
        message(PACKET.replace(b"A256GCM", b"A256CTR")),
        message(PACKET.replace(b"kbs:///", b"kbs:///../")),
        b"[" * 50_000,
    ],
)
async def test_a_bad_packet_is_the_caller_s_error_and_asks_nobody(
    channel: grpc.aio.Channel, kbs: FakeKbs, data: bytes
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unwrapped(channel, data)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert kbs.calls == []


async def test_a_key_that_does_not_open_the_packet_is_named(channel: grpc.aio.Channel, kbs: FakeKbs) -> None:
    kbs.resources["default/key/1"] = bytes(32)
    with pytest.raises(grpc.aio.AioRpcError, match="does not open with kbs:///default/key/1") as refused:
        await unwrapped(channel, message(PACKET))
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_broker_that_breaks_the_protocol_is_not_the_caller_s_error(
    channel: grpc.aio.Channel, kbs: FakeKbs
) -> None:
    kbs.answer("resource", 200, b"not a JWE")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await unwrapped(channel, message(PACKET))
    assert refused.value.code() is grpc.StatusCode.INTERNAL


async def test_a_fault_of_a_driver_does_not_show_its_text(
    channel: grpc.aio.Channel, attester: FakeAttester
) -> None:
    attester.fault = RuntimeError("a secret in a traceback")
    with pytest.raises(grpc.aio.AioRpcError, match="see its log") as refused:
        await unwrapped(channel, message(PACKET))
    assert "secret" not in (refused.value.details() or "")


async def test_the_guest_does_not_wrap(channel: grpc.aio.Channel) -> None:
    stub = keyprovider_pb2_grpc.KeyProviderServiceStub(channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.WrapKey(keyprovider_pb2.KeyProviderKeyWrapProtocolInput())
    assert refused.value.code() is grpc.StatusCode.UNIMPLEMENTED


async def test_resources_through_both_services(channel: grpc.aio.Channel) -> None:
    new = await api_pb2_grpc.GetResourceServiceStub(channel).GetResource(
        api_pb2.GetResourceRequest(ResourcePath="kbs:///default/key/1")
    )
    old = await getresource_pb2_grpc.GetResourceServiceStub(channel).GetResource(
        getresource_pb2.GetResourceRequest(
            ResourcePath="/default/key/1", KbcName="cc_kbc", KbsUri="http://elsewhere"
        )
    )
    assert new.Resource == old.Resource == bytes(range(32))


async def test_a_malformed_resource_name_is_the_caller_s_error(channel: grpc.aio.Channel) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await api_pb2_grpc.GetResourceServiceStub(channel).GetResource(
            api_pb2.GetResourceRequest(ResourcePath="x")
        )
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_unix_socket_is_for_its_user_only(client: KbsClient, tmp_path: Path) -> None:
    path = tmp_path / "agent.sock"
    server, address = await start_grpc(client, Address("", 0, str(path)))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    async with grpc.aio.insecure_channel(str(address)) as channel:
        assert await unwrapped(channel, message(PACKET)) == OPTIONS
    await server.stop(None)


async def test_a_taken_address_is_refused(client: KbsClient) -> None:
    server, address = await start_grpc(client, Address("127.0.0.1", 0))
    with pytest.raises(ConfigurationError, match=str(address.port)):
        await start_grpc(client, address)
    await server.stop(None)
