# SPDX-License-Identifier: Apache-2.0
"""``reference.ReferenceValueProviderService``, for clients of Trustee's RVPS. It asks nobody who they are, and listens on loopback alone."""

from __future__ import annotations

import ipaddress
import logging
from typing import TYPE_CHECKING, Final

import grpc

from eaa._proto import reference_pb2, reference_pb2_grpc
from eaa.rats import ConfigurationError, EaaError
from eaa.verdict import rvps
from eaa.verdict.envelope import MAX_ENVELOPE

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from eaa.verdict.service import ReferenceSets

__all__ = ["ReferenceValueProvider", "serve_rvps"]

_log: Final = logging.getLogger("eaa.verdict")
_WHO: Final = "rvps"
_MAX_MESSAGE: Final = 2 * MAX_ENVELOPE
_OPTIONS: Final = (
    ("grpc.max_receive_message_length", _MAX_MESSAGE),
    ("grpc.so_reuseport", 0),
)

if TYPE_CHECKING:
    _QueryContext = grpc.aio.ServicerContext[
        reference_pb2.ReferenceValueQueryRequest, reference_pb2.ReferenceValueQueryResponse
    ]
    _RegisterContext = grpc.aio.ServicerContext[
        reference_pb2.ReferenceValueRegisterRequest, reference_pb2.ReferenceValueRegisterResponse
    ]


class ReferenceValueProvider(reference_pb2_grpc.ReferenceValueProviderServiceServicer):
    """Answers from active sets; what is registered is proposed."""

    def __init__(self, sets: ReferenceSets, clock: Callable[[], datetime]) -> None:
        self._sets, self._clock = sets, clock

    async def QueryReferenceValue(  # noqa: N802 - the service's name for it
        self, request: reference_pb2.ReferenceValueQueryRequest, context: _QueryContext
    ) -> reference_pb2.ReferenceValueQueryResponse:
        """Return a register's values as JSON text."""
        try:
            found = await rvps.query(self._sets, request.reference_value_id, self._clock())
        except EaaError as error:
            await context.abort(grpc.StatusCode.ABORTED, str(error))
        return reference_pb2.ReferenceValueQueryResponse(reference_value_results=found)

    async def RegisterReferenceValue(  # noqa: N802 - the service's name for it
        self, request: reference_pb2.ReferenceValueRegisterRequest, context: _RegisterContext
    ) -> reference_pb2.ReferenceValueRegisterResponse:
        """Propose what a message holds."""
        try:
            found = await rvps.register(self._sets, request.message, who=_WHO, at=self._clock())
        except EaaError as error:
            await context.abort(grpc.StatusCode.ABORTED, f"{error}. {error.hint}".strip())
        _log.info("registered: %s@%s is %s", found["product"], found["version"], found["state"])
        return reference_pb2.ReferenceValueRegisterResponse()


async def serve_rvps(
    sets: ReferenceSets, address: str, *, clock: Callable[[], datetime]
) -> tuple[grpc.aio.Server, str]:
    """Serve on ``HOST:PORT`` of loopback, and return the server and its address; port 0 takes a free one.

    :raises ConfigurationError: when the address is none, or not of loopback.
    """
    host, _, port = address.rpartition(":")
    host = host.strip("[]")
    try:
        loopback = host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = False
    if not loopback or not (port.isascii() and port.isdigit() and int(port) <= 0xFFFF):
        raise ConfigurationError(
            f"{address} is no HOST:PORT of loopback",
            hint="The service asks nobody who they are: listen on 127.0.0.1, and forward the port over SSH.",
        )
    server = grpc.aio.server(options=_OPTIONS)
    reference_pb2_grpc.add_ReferenceValueProviderServiceServicer_to_server(
        ReferenceValueProvider(sets, clock), server
    )
    bracketed = f"[{host}]" if ":" in host else host
    try:
        bound = server.add_insecure_port(f"{bracketed}:{port}")
    except RuntimeError as error:
        raise ConfigurationError(f"cannot listen on {address}") from error
    await server.start()
    return server, f"{bracketed}:{bound}"
