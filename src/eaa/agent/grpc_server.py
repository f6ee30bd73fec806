# SPDX-License-Identifier: Apache-2.0
"""The agent's gRPC services: ocicrypt's key provider for whoever opens an encrypted image, and resources for processes.

A KEK is fetched for each unwrap and dropped after it, so that every release stays the owner's decision and in the owner's
record. Refusals carry the broker's explanation in the status message, which skopeo and podman print.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, NoReturn

import grpc
import grpc.aio
import structlog

from eaa._proto import (
    api_pb2,
    api_pb2_grpc,
    getresource_pb2,
    getresource_pb2_grpc,
    keyprovider_pb2,
    keyprovider_pb2_grpc,
)
from eaa.agent._explain import explain
from eaa.agent.config import Address
from eaa.image import AnnotationPacket, ImageError, parse_unwrap, unwrap, unwrap_result
from eaa.rats import AccessDenied, ConfigurationError, EaaError, EvidenceRejected, NotFound, UnavailableError

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from eaa.agent.client import KbsClient

__all__ = ["start_grpc"]

_MAX_REQUEST: Final = 2 << 20
_STATUS: Final[tuple[tuple[type[EaaError], grpc.StatusCode], ...]] = (
    (AccessDenied, grpc.StatusCode.PERMISSION_DENIED),
    (EvidenceRejected, grpc.StatusCode.PERMISSION_DENIED),
    (NotFound, grpc.StatusCode.NOT_FOUND),
    (UnavailableError, grpc.StatusCode.UNAVAILABLE),
    (ImageError, grpc.StatusCode.INVALID_ARGUMENT),
    (ConfigurationError, grpc.StatusCode.FAILED_PRECONDITION),
)
"""What a caller sees of each error; any other that is ours to show is INTERNAL."""

_log: Final = structlog.get_logger("eaa.agent.grpc")


class _KeyProvider(keyprovider_pb2_grpc.KeyProviderServiceServicer):
    """ocicrypt's key provider, for opening only: wrapping is the owner's."""

    def __init__(self, kbs: KbsClient) -> None:
        self._kbs = kbs

    async def WrapKey(  # noqa: N802 - the service's name
        self,
        request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput,  # noqa: ARG002
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        await context.abort(
            grpc.StatusCode.UNIMPLEMENTED,
            "the agent in the guest only opens images; encrypt them through the key broker's key provider",
        )

    async def UnWrapKey(  # noqa: N802
        self,
        request: keyprovider_pb2.KeyProviderKeyWrapProtocolInput,
        context: grpc.aio.ServicerContext[Any, Any],
    ) -> keyprovider_pb2.KeyProviderKeyWrapProtocolOutput:
        answer = await _answered(self._unwrap(request.KeyProviderKeyWrapProtocolInput), context)
        return keyprovider_pb2.KeyProviderKeyWrapProtocolOutput(KeyProviderKeyWrapProtocolOutput=answer)

    async def _unwrap(self, message: bytes) -> bytes:
        packet = AnnotationPacket.from_json(parse_unwrap(message).annotation)
        kek = await self._kbs.get_resource(packet.kid)
        return unwrap_result(unwrap(kek, packet))


class _Resources(api_pb2_grpc.GetResourceServiceServicer):
    """Resources as the Confidential Data Hub offers them."""

    def __init__(self, kbs: KbsClient) -> None:
        self._kbs = kbs

    async def GetResource(  # noqa: N802
        self, request: api_pb2.GetResourceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> api_pb2.GetResourceResponse:
        resource = await _answered(self._kbs.get_resource(request.ResourcePath), context)
        return api_pb2.GetResourceResponse(Resource=resource)


class _FirstResources(getresource_pb2_grpc.GetResourceServiceServicer):
    """Resources as the first Attestation Agent offered them."""

    def __init__(self, kbs: KbsClient) -> None:
        self._kbs = kbs

    async def GetResource(  # noqa: N802
        self, request: getresource_pb2.GetResourceRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> getresource_pb2.GetResourceResponse:
        resource = await _answered(self._kbs.get_resource(request.ResourcePath), context)
        return getresource_pb2.GetResourceResponse(Resource=resource)


async def start_grpc(kbs: KbsClient, listen: Address) -> tuple[grpc.aio.Server, Address]:
    """Start the services; return the server and the address it has, with its port.

    A Unix socket is for this user only.

    :raises ConfigurationError: when the address is taken or cannot be listened on.
    """
    server = grpc.aio.server(
        options=[
            ("grpc.so_reuseport", 0),  # a second agent on this port must fail, not share its callers
            ("grpc.max_receive_message_length", _MAX_REQUEST),
        ]
    )
    keyprovider_pb2_grpc.add_KeyProviderServiceServicer_to_server(_KeyProvider(kbs), server)
    api_pb2_grpc.add_GetResourceServiceServicer_to_server(_Resources(kbs), server)
    getresource_pb2_grpc.add_GetResourceServiceServicer_to_server(_FirstResources(kbs), server)
    mask = os.umask(0o177)
    try:
        port = server.add_insecure_port(str(listen))
        await server.start()
    except RuntimeError:
        raise ConfigurationError(
            f"gRPC cannot listen on {listen}",
            hint="Another agent may be running: stop it, or set grpc_listen.",
        ) from None
    finally:
        os.umask(mask)
    return server, listen if listen.path else Address(listen.host, port)


async def _answered(work: Awaitable[bytes], context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
    """Return what ``work`` gives; an error of ours ends the call with its status and explanation, any other with neither."""
    try:
        return await work
    except EaaError as error:
        await _abort(context, error)
    except Exception:  # noqa: BLE001 - the process boundary; the caller must not see a fault's text
        _log.exception("fault")
        await context.abort(grpc.StatusCode.INTERNAL, "the attestation agent has a fault; see its log")


async def _abort(context: grpc.aio.ServicerContext[Any, Any], error: EaaError) -> NoReturn:
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), grpc.StatusCode.INTERNAL)
    _log.info("call refused", status=status.name, error=error.code, check=getattr(error, "check", None))
    await context.abort(status, explain(error))
