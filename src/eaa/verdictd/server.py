# SPDX-License-Identifier: Apache-2.0
"""Runs a Verdictd until it is told to stop: HTTPS, the key provider, and what has to be done now and then."""

from __future__ import annotations

import asyncio
import json
import os
import socket
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Final

import uvicorn

from eaa._files import write_whole
from eaa._logging import describe_fault
from eaa.rats import ConfigurationError
from eaa.verdictd._logging import log
from eaa.verdictd.app import create_app
from eaa.verdictd.bootstrap import DataDirectory, open_services, require_profile
from eaa.verdictd.keyprovider import serve_key_provider
from eaa.verdictd.services import now
from eaa.verdictd.tls import ensure_tls, server_context

if TYPE_CHECKING:
    import ssl
    from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

    from fastapi import FastAPI

    from eaa.rats import TrustAnchor
    from eaa.verdictd.services import EndorsementSource, ReferenceSetSource, Services
    from eaa.verdictd.settings import Settings

__all__ = ["Ready", "serve"]

PURGE_SECONDS: Final = 60.0
RENEW_SECONDS: Final = 12 * 3600.0
_GRACE_SECONDS: Final = 3.0
_KEEP_ALIVE_SECONDS: Final = 30
_CONNECTIONS: Final = 1024


@dataclass(frozen=True, slots=True)
class Ready:
    """Where a running Verdictd can be reached, and with what; the line that is printed when it is ready."""

    url: str
    admin_url: str
    ca_file: str
    credential_file: str
    key_provider: str
    pid: int
    simulated: bool
    event: str = "ready"

    def to_json(self) -> str:
        """Return one line of JSON."""
        return json.dumps(asdict(self))


async def serve(
    settings: Settings,
    *,
    anchors: Sequence[TrustAnchor],
    endorsements: EndorsementSource,
    announce: Callable[[Ready], None],
    stop: asyncio.Event,
    background: Sequence[Callable[[], Awaitable[None]]] = (),
    sets: ReferenceSetSource | None = None,
) -> None:
    """Serve until ``stop`` is set; ``announce`` is called once, when every address answers.

    ``sets`` are the signed reference values in the data directory's database.
    ``background`` are coroutine functions that run as long as the server does; one that fails is logged and not started again.

    :raises ConfigurationError: when the settings or the data directory cannot be used; nothing serves then.
    """
    require_profile(anchors, production=settings.production)
    directory = DataDirectory.prepare(settings.data)
    with directory.locked():
        async with AsyncExitStack() as stack:
            addresses = [(settings.host, settings.port)]
            addresses += [] if settings.admin_listen is None else [settings.admin_listen]
            listeners = [stack.enter_context(_listening(host, port)) for host, port in addresses]
            names = _names(host for host, _ in addresses)
            files = ensure_tls(directory.tls, names, at=now())
            context = server_context(files)
            services = await stack.enter_async_context(
                open_services(settings, directory, anchors=anchors, endorsements=endorsements, sets=sets)
            )
            provider, sockets = await serve_key_provider(
                services.database,
                directory.key_provider,
                tcp=settings.key_provider,
                allow_remote=settings.key_provider_remote,
            )
            stack.push_async_callback(provider.stop, _GRACE_SECONDS)
            servers = [_Server(_config(app, context)) for app in _applications(services, len(listeners))]
            urls = [_url(host, each) for (host, _), each in zip(addresses, listeners, strict=True)]
            ready = Ready(
                url=urls[0],
                admin_url=urls[-1],
                ca_file=str(files.authority),
                credential_file=str(directory.credential),
                key_provider=sockets[0],
                pid=os.getpid(),
                simulated=any(anchor.simulated for anchor in anchors),
            )

            async def renew() -> None:
                ensure_tls(directory.tls, names, at=now())
                context.load_cert_chain(files.certificate, files.key)

            jobs = (
                *background,
                _every(RENEW_SECONDS, renew),
                _every(PURGE_SECONDS, lambda: _purge(services)),
            )
            async with asyncio.TaskGroup() as tasks:
                for server, listener in zip(servers, listeners, strict=True):
                    tasks.create_task(server.serve(sockets=[listener]))
                chores = [tasks.create_task(_guarded(job)) for job in jobs]
                for server in servers:
                    await server.listening.wait()
                write_whole(directory.ready, ready.to_json().encode() + b"\n", mode=0o644)
                announce(ready)
                log.info(
                    "ready",
                    url=ready.url,
                    admin_url=ready.admin_url,
                    key_provider=ready.key_provider,
                    also=list(sockets[1:]),
                )
                await stop.wait()
                directory.ready.unlink(missing_ok=True)
                for server in servers:
                    server.should_exit = True
                for chore in chores:
                    chore.cancel()
            log.info("stopped")


class _Server(uvicorn.Server):
    """uvicorn without its signal handlers (signals are the process's, and set ``stop``), telling when it takes connections."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _applications(services: Services, listeners: int) -> tuple[FastAPI, ...]:
    """Return what each listener serves: all of it, or the guests' and the administrators' part."""
    if listeners == 1:
        return (create_app(services),)
    return create_app(services, administration=False), create_app(services, guests=False)


def _config(app: FastAPI, context: ssl.SSLContext) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        http="httptools",
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_CONNECTIONS,
        timeout_keep_alive=_KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=int(_GRACE_SECONDS),
        ssl_context_factory=lambda _config, _default: context,
    )


@contextmanager
def _listening(host: str, port: int) -> Iterator[socket.socket]:
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise ConfigurationError(f"cannot listen on {host}:{port}: {error.strerror or error}") from error
    with listener:
        try:
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            listener.bind(address)
        except OSError as error:
            raise ConfigurationError(
                f"cannot listen on {host}:{port}: {error.strerror}",
                hint="Choose another port, or 0 for a free one.",
            ) from error
        yield listener


def _names(hosts: Iterable[str]) -> list[str]:
    """Return the names that the certificate vouches for."""
    own = (socket.gethostname() if host in _ANY else host for host in hosts)
    return ["localhost", "127.0.0.1", "::1", *dict.fromkeys(own)]


_ANY: Final = ("0.0.0.0", "::")  # noqa: S104 - compared with, not listened on


def _url(host: str, listener: socket.socket) -> str:
    return f"https://{_bracketed(_reachable(host))}:{listener.getsockname()[1]}"


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - compared with, not listened on


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host


def _every(seconds: float, chore: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    async def repeat() -> None:
        while True:
            await asyncio.sleep(seconds)
            try:
                await chore()
            except Exception as error:  # noqa: BLE001 - the next round may succeed; until then the log says so
                log.error("chore failed", **describe_fault(error))

    return repeat


async def _guarded(job: Callable[[], Awaitable[None]]) -> None:
    try:
        await job()
    except Exception as error:  # noqa: BLE001 - a failed chore must not end the server
        log.error("background work ended", **describe_fault(error))


async def _purge(services: Services) -> None:
    await services.database.purge(services.clock())
