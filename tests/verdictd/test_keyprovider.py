# SPDX-License-Identifier: Apache-2.0
"""ocicrypt's WrapKey for the owner."""

from __future__ import annotations

import asyncio
import json
import stat
from base64 import b64decode, b64encode
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import grpc
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from eaa._proto import keyprovider_pb2, keyprovider_pb2_grpc
from eaa.image import AnnotationPacket, unwrap
from eaa.rats import ConfigurationError
from eaa.verdictd.keyprovider import serve_key_provider

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

pytestmark = pytest.mark.anyio
OPTSDATA = b'{"symkey":"c2VjcmV0","digest":"sha256:00","cipheroptions":{"nonce":"AAAA"}}'


def _message(parameter: str | None = None, *, optsdata: bytes = OPTSDATA) -> bytes:
    parameters = {} if parameter is None else {"attestation-agent": [b64encode(parameter.encode()).decode()]}
    return json.dumps(
        {
            "op": "keywrap",
            "keywrapparams": {
                "ec": {"Parameters": parameters, "DecryptConfig": {"Parameters": {}}},
                "optsdata": b64encode(optsdata).decode(),
            },
            "keyunwrapparams": {"dc": None, "annotation": None},
        }
    ).encode()


class Owner:
    """A client as ocicrypt is one."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.aio.insecure_channel(address)
        self.stub: Any = keyprovider_pb2_grpc.KeyProviderServiceStub(self.channel)

    async def wrap(self, message: bytes) -> AnnotationPacket:
        request = keyprovider_pb2.KeyProviderKeyWrapProtocolInput(KeyProviderKeyWrapProtocolInput=message)
        answer = json.loads((await self.stub.WrapKey(request)).KeyProviderKeyWrapProtocolOutput)
        return AnnotationPacket.from_json(b64decode(answer["keywrapresults"]["annotation"]))

    async def refused(self, message: bytes) -> grpc.aio.AioRpcError:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await self.wrap(message)
        return caught.value


@asynccontextmanager
async def _owner(kit: Any, tmp_path: Path, name: str = "kp.sock") -> AsyncIterator[Owner]:
    path = tmp_path / name
    server, addresses = await serve_key_provider(kit.services.database, path)
    assert addresses == (f"unix://{path}",)
    owner = Owner(addresses[0])
    try:
        yield owner
    finally:
        await owner.channel.close()
        await server.stop(None)


@pytest.mark.parametrize(
    ("parameter", "path"),
    [
        ("kbs:///default/key/web", "default/key/web"),
        ("kbs://elsewhere:8080/default/key/web", "default/key/web"),
        ("default/key/web", "default/key/web"),
        ("web", "default/key/web"),
        ("keyid=kbs:///a/b/c::algorithm=A256GCM", "a/b/c"),
    ],
)
async def test_key_is_made_once_and_named_in_the_annotation(
    kit: Any, tmp_path: Path, parameter: str, path: str
) -> None:
    """The first wrap makes the key, the second uses it; what was wrapped opens with the stored key."""
    async with _owner(kit, tmp_path) as owner:
        first, second = await owner.wrap(_message(parameter)), await owner.wrap(_message(parameter))
    assert str(first.kid) == f"kbs:///{path}"
    kek = await kit.services.database.get_resource(path)
    assert unwrap(kek, first) == unwrap(kek, second) == OPTSDATA
    assert first.iv != second.iv
    assert kek not in first.wrapped_data
    assert [each.kind for each in await kit.services.database.list_resources(path)] == ["kek"]


async def test_without_a_name_a_key_is_made_up(kit: Any, tmp_path: Path) -> None:
    """An image encrypted without a key id gets a key of its own."""
    async with _owner(kit, tmp_path) as owner:
        first, second = await owner.wrap(_message()), await owner.wrap(_message())
    assert first.kid != second.kid
    assert first.kid.path.startswith("default/key/")


async def test_many_at_once_share_one_key(kit: Any, tmp_path: Path) -> None:
    """skopeo asks for each layer at the same time: there is one key, and every layer opens with it."""
    async with _owner(kit, tmp_path) as owner:
        packets = await asyncio.gather(*(owner.wrap(_message("web")) for _ in range(10)))
    kek = await kit.services.database.get_resource("default/key/web")
    assert all(unwrap(kek, packet) == OPTSDATA for packet in packets)


async def test_a_plain_resource_is_no_key(kit: Any, tmp_path: Path) -> None:
    """A stored secret is never used to encrypt, even if it has a key's length."""
    await kit.services.database.put_resource("default/secrets/key", bytes(32))
    async with _owner(kit, tmp_path) as owner:
        error = await owner.refused(_message("kbs:///default/secrets/key"))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"{",
        b"[" * 10_000,
        json.dumps({"op": "keyunwrap"}).encode(),
        _message("keyid=kbs:///a/b"),
        _message("keyid=kbs:///a/b/c::algorithm=A256CTR"),
        _message("keypath=/tmp/key::keyid=kbs:///a/b/c"),
        _message("web", optsdata=b""),
    ],
)
async def test_malformed_requests_are_invalid_arguments(kit: Any, tmp_path: Path, message: bytes) -> None:
    """What cannot be understood is refused in words, and makes no key."""
    async with _owner(kit, tmp_path) as owner:
        error = await owner.refused(message)
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert "request " in str(error.details())
    assert await kit.services.database.list_resources(kind="kek") == []


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(text=st.text(max_size=60), raw=st.binary(max_size=60))
async def test_anything_is_wrapped_or_refused(kit: Any, tmp_path: Path, text: str, raw: bytes) -> None:
    """No parameter and no bytes make the provider fail."""
    # gRPC keeps connections by address for a while: each round needs an address of its own.
    async with _owner(kit, tmp_path, f"{uuid4().hex}.sock") as owner:
        for message in (raw, _message(text), _message(f"keyid={text}")):
            try:
                await owner.wrap(message)
            except grpc.aio.AioRpcError as error:
                assert error.code() is grpc.StatusCode.INVALID_ARGUMENT  # noqa: PT017 - both outcomes are right


async def test_unwrapping_is_the_agents(kit: Any, tmp_path: Path) -> None:
    """Whoever asks to unwrap is sent to the agent in the TEE."""
    async with _owner(kit, tmp_path) as owner:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await owner.stub.UnWrapKey(keyprovider_pb2.KeyProviderKeyWrapProtocolInput())
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "Attestation Agent" in str(caught.value.details())


async def test_faults_are_not_shown(kit: Any, tmp_path: Path, monkeypatch: Any) -> None:
    """An error nobody foresaw keeps its text to itself."""

    async def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("hunter2")

    monkeypatch.setattr(type(kit.services.database), "create_resource", fail)
    async with _owner(kit, tmp_path) as owner:
        error = await owner.refused(_message("web"))
    assert error.code() is grpc.StatusCode.INTERNAL
    assert "hunter2" not in str(error.details())


async def test_socket_is_its_owners_alone(kit: Any, tmp_path: Path) -> None:
    """The socket has mode 0600, also when an old one was left behind."""
    (tmp_path / "kp.sock").touch()
    async with _owner(kit, tmp_path):
        status = (tmp_path / "kp.sock").stat()
    assert stat.S_ISSOCK(status.st_mode)
    assert stat.S_IMODE(status.st_mode) == 0o600


async def test_tcp_is_loopback_unless_forced(kit: Any, tmp_path: Path) -> None:
    """An address that others can reach is refused; a loopback one serves beside the socket."""
    database, path = kit.services.database, tmp_path / "kp.sock"
    for address in ("0.0.0.0:0", "192.0.2.1:0", "nosuch.invalid:0"):
        with pytest.raises(ConfigurationError, match="others can reach"):
            await serve_key_provider(database, path, tcp=address)
    for address in ("", "127.0.0.1", "127.0.0.1:x", "127.0.0.1:70000", ":50000"):
        with pytest.raises(ConfigurationError, match="HOST:PORT"):
            await serve_key_provider(database, path, tcp=address)
    server, addresses = await serve_key_provider(database, path, tcp="localhost:0")
    owner = Owner(addresses[1])
    assert (await owner.wrap(_message("web"))).kid.tag == "web"
    await owner.channel.close()
    await server.stop(None)


async def test_long_socket_path_is_explained(kit: Any, tmp_path: Path) -> None:
    """A path that the system cannot bind is refused with what to do about it."""
    with pytest.raises(ConfigurationError, match="too long") as caught:
        await serve_key_provider(kit.services.database, tmp_path / ("x" * 120))
    assert "shorter" in caught.value.hint
