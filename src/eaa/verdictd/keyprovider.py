# SPDX-License-Identifier: Apache-2.0
"""ocicrypt's key provider for the image's owner: wraps layer keys under key-encryption keys (KEKs) that never leave.

Whoever can open the socket can encrypt an image; nobody can decrypt one here. Unwrapping is the Attestation Agent's, after
attestation.
"""

from __future__ import annotations

import ipaddress
import os
import secrets
import socket
from typing import TYPE_CHECKING, Final, NoReturn

import grpc
import structlog

from eaa._logging import describe_fault
from eaa._proto import keyprovider_pb2, keyprovider_pb2_grpc
from eaa.image import KEK_SIZE, ImageError, ResourceUri, parse_wrap, wrap, wrap_result
from eaa.rats import ConfigurationError, EaaError, InputError, UnavailableError
from eaa.storage import Conflict
from eaa.verdictd._logging import log

if TYPE_CHECKING:
    from pathlib import Path

    from eaa.storage import Database

__all__ = ["KeyProvider", "ensure_kek", "new_kek_uri", "serve_key_provider"]

MAX_MESSAGE: Final = 1 << 20
_MAX_SOCKET_PATH: Final = 107
"""Bytes of a Unix socket's path on Linux, without the final zero (unix(7))."""
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MAX_MESSAGE),
    ("grpc.max_send_message_length", MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
)


def new_kek_uri() -> ResourceUri:
    """Return the name of a key that the owner did not name: ``kbs:///default/key/<32 hex digits>``."""
    return ResourceUri("default", "key", secrets.token_hex(16))


async def ensure_kek(database: Database, path: str) -> bool:
    """Make the key-encryption key at ``path`` unless it is there; return whether it was made. Of two at once one wins.

    :raises Conflict: when the path holds a resource that is not a key-encryption key.
    """
    if await database.create_resource(path, secrets.token_bytes(KEK_SIZE), kind="kek"):
        log.info("key-encryption key made", path=path)
        return True
    if not any(info.path == path for info in await database.list_resources(path, kind="kek")):
        raise Conflict(
            f"{path} holds a resource that is not a key-encryption key",
            hint="Choose another name for the key.",
        )
    return False


class KeyProvider(keyprovider_pb2_grpc.KeyProviderServiceServicer):
    """``keyprovider.KeyProviderService`` with the owner's half, ``WrapKey``."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def WrapKey(  # noqa: N802 - the service's name for it
        self,
        request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput,
        context: grpc.aio.ServicerContext[
            keyprovider_pb2.KeyProviderKeyWrapProtocolInput, keyprovider_pb2.KeyProviderKeyWrapProtocolOutput
        ],
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        """Wrap one layer's key options; make the key-encryption key if it is not there."""
        request_id = secrets.token_hex(12)
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(request_id=request_id)
        try:
            answer = await self._wrap(request.KeyProviderKeyWrapProtocolInput)
        except EaaError as error:
            log.info("wrap refused", code=error.code, reason=str(error))
            hint = f"; {error.hint}" if error.hint else ""
            await context.abort(_status(error), f"{error} ({error.code}{hint}; request {request_id})")
        except Exception as error:  # noqa: BLE001 - the boundary: unknown errors are logged without their text, never echoed
            log.error("wrap failed", **describe_fault(error))
            await context.abort(grpc.StatusCode.INTERNAL, f"internal error (request {request_id})")
        return keyprovider_pb2.KeyProviderKeyWrapProtocolOutput(KeyProviderKeyWrapProtocolOutput=answer)

    async def UnWrapKey(  # noqa: N802 - the service's name for it
        self,
        request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput,
        context: grpc.aio.ServicerContext[
            keyprovider_pb2.KeyProviderKeyWrapProtocolInput, keyprovider_pb2.KeyProviderKeyWrapProtocolOutput
        ],
    ) -> NoReturn:
        """Refuse: the owner's side never unwraps."""
        del request
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "Verdictd wraps keys and never unwraps them: ask the Attestation Agent inside the TEE",
        )

    async def _wrap(self, message: bytes) -> bytes:
        request = parse_wrap(message)
        if not request.optsdata:
            raise ImageError("there is no layer key to wrap: optsdata is empty")
        uri = request.kid or new_kek_uri()
        kid = ResourceUri(uri.repository, uri.type, uri.tag)
        await ensure_kek(self._database, kid.path)
        packet = wrap(await self._database.get_resource(kid.path), request.optsdata, kid=kid)
        log.info("layer key wrapped", path=kid.path)
        return wrap_result(packet)


async def serve_key_provider(
    database: Database, path: Path, *, tcp: str | None = None, allow_remote: bool = False
) -> tuple[grpc.aio.Server, tuple[str, ...]]:
    """Serve the key provider on a Unix socket that only its owner may open, and on ``tcp`` (``HOST:PORT``) if told.

    Returns the running server and the addresses to reach it at.

    :raises ConfigurationError: when an address cannot be used, or ``tcp`` is not a loopback address and ``allow_remote`` is not
        set: the protocol knows neither encryption nor who asks.
    """
    server = grpc.aio.server(options=_OPTIONS)
    keyprovider_pb2_grpc.add_KeyProviderServiceServicer_to_server(KeyProvider(database), server)
    addresses = [_bind_socket(server, path)]
    if tcp is not None:
        addresses.append(_bind_tcp(server, tcp, allow_remote=allow_remote))
    await server.start()
    return server, tuple(addresses)


def _bind_socket(server: grpc.aio.Server, path: Path) -> str:
    if len(os.fsencode(path)) > _MAX_SOCKET_PATH:
        raise ConfigurationError(
            f"{path} is too long for a socket's path ({_MAX_SOCKET_PATH} bytes)",
            hint="Choose a data directory with a shorter path.",
        )
    path.unlink(missing_ok=True)
    mask = os.umask(0o177)
    try:
        server.add_insecure_port(f"unix:{path}")
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {path}") from error
    finally:
        os.umask(mask)
    path.chmod(0o600)
    return f"unix://{path}"


def _bind_tcp(server: grpc.aio.Server, address: str, *, allow_remote: bool) -> str:
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    if not host or not port.isascii() or not port.isdigit() or int(port) > 0xFFFF:
        raise ConfigurationError(f"{address} is not HOST:PORT", hint="Write for example 127.0.0.1:50000.")
    if not allow_remote and not _is_loopback(host):
        raise ConfigurationError(
            f"the key provider would listen on {host}, where others can reach it unencrypted and unasked",
            hint="Listen on 127.0.0.1 and forward the port over SSH, or force it.",
        )
    try:
        bound = server.add_insecure_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}")
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}") from error
    return f"[{host}]:{bound}" if ":" in host else f"{host}:{bound}"


def _is_loopback(host: str) -> bool:
    """Whether every address of ``host`` is this machine's own."""
    try:
        addresses = {ipaddress.ip_address(host)}
    except ValueError:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
        except OSError:
            return False
        addresses = {ipaddress.ip_address(entry[4][0]) for entry in found}
    return bool(addresses) and all(address.is_loopback for address in addresses)


def _status(error: EaaError) -> grpc.StatusCode:
    if isinstance(error, Conflict):
        return grpc.StatusCode.FAILED_PRECONDITION
    if isinstance(error, UnavailableError):
        return grpc.StatusCode.UNAVAILABLE
    bad_input = isinstance(error, InputError) and error.http_status < 500
    return grpc.StatusCode.INVALID_ARGUMENT if bad_input else grpc.StatusCode.INTERNAL
