# SPDX-License-Identifier: Apache-2.0
"""The agent's process: both servers over one broker client, started together and ended together."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Final

import structlog
import uvicorn
import uvloop

from eaa._logging import configure_logging
from eaa.agent.attester import load_attester
from eaa.agent.client import KbsClient
from eaa.agent.config import Address, AgentConfig, load_config
from eaa.agent.grpc_server import start_grpc
from eaa.agent.rest import build_rest
from eaa.kbs import MAX_INIT_DATA, parse_init_data
from eaa.rats import ConfigurationError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

    from starlette.types import ASGIApp

__all__ = ["run", "serve"]

_GRACE: Final = 3.0
"""Seconds that calls in progress get to end."""
_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)

_log: Final = structlog.get_logger("eaa.agent.server")


def run(config_path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> None:
    """Run the agent until SIGTERM or SIGINT; one JSON line on standard output says when it is ready.

    :raises ConfigurationError: when the configuration cannot be used.
    """
    config = load_config(config_path, overrides)
    configure_logging(config.log_level)
    uvloop.run(serve(config, _print_ready))


async def serve(config: AgentConfig, ready: Callable[[dict[str, Any]], None]) -> None:
    """Serve until SIGTERM, SIGINT or cancellation. ``ready`` gets the addresses once both servers answer.

    :raises ConfigurationError: when a driver, certificate or address cannot be used.
    """
    attester = load_attester(config.attester, config.attester_settings)
    init_data = _init_data(config.init_data_file)
    async with KbsClient(config.kbs_url, attester, ca_file=config.kbs_ca_file, init_data=init_data) as kbs:
        app = build_rest(kbs, attester, feature=config.rest_feature)
        with _listening(config.rest_listen) as listener, _stop_signals() as stop:
            grpc_server, grpc_address = await start_grpc(kbs, config.grpc_listen)
            try:
                host, port = listener.getsockname()[:2]
                event = {
                    "event": "ready",
                    "grpc": str(grpc_address),
                    "rest": f"http://{Address(host, port)}",
                    "tee": attester.tee,
                    "pid": os.getpid(),
                }
                await _serve_http(app, listener, stop, lambda: ready(event))
            finally:
                await grpc_server.stop(_GRACE)
                _log.info("stopped")


def _init_data(path: Path | None) -> str | None:
    """Return the init-data of this guest, read once: it does not change while the guest runs.

    :raises ConfigurationError: when it cannot be read, or is none.
    """
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(MAX_INIT_DATA + 1).decode()
        parse_init_data("toml", text)
    except OSError as error:
        raise ConfigurationError(f"cannot read the init-data {path}: {error.strerror}") from error
    except (UnicodeDecodeError, ProtocolError) as error:
        raise ConfigurationError(
            f"{path} is no init-data: {error}",
            hint="Set init_data_file to the text that this guest was launched with.",
        ) from error
    return text


async def _serve_http(
    app: ASGIApp, listener: socket.socket, stop: asyncio.Event, started: Callable[[], None]
) -> None:
    """Serve ``app`` until ``stop``; the kernel queues connections from before ``started`` on."""
    server = _Uvicorn(
        uvicorn.Config(
            app, lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=int(_GRACE)
        )
    )
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    stopping = asyncio.create_task(stop.wait())
    started()
    try:
        await asyncio.wait({serving, stopping}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        # The server ends by itself, on cancellation too: cancelled, it would leave its listener with the event loop.
        server.should_exit = True
        stopping.cancel()
        await serving


class _Uvicorn(uvicorn.Server):
    """A server inside a process whose signals are somebody else's."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


@contextmanager
def _stop_signals() -> Iterator[asyncio.Event]:
    """Turn SIGTERM and SIGINT into an event for as long as the block runs."""
    loop, stop = asyncio.get_running_loop(), asyncio.Event()
    for each in _SIGNALS:
        loop.add_signal_handler(each, stop.set)
    try:
        yield stop
    finally:
        for each in _SIGNALS:
            loop.remove_signal_handler(each)


def _listening(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    # Only for a socket that says TCP does asyncio turn Nagle's algorithm off, which costs 40 ms per answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        raise ConfigurationError(
            f"REST cannot listen on {address}: {error.strerror}",
            hint="Another agent may be running: stop it, or set rest_listen.",
        ) from None
    return listener


def _print_ready(event: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()
