# SPDX-License-Identifier: Apache-2.0
"""``eaa sim vendor``: the services of a chip maker in software, over HTTP."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._listen import listening_socket
from eaa.cli._options import InputFile, Rfc3339

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable

    from eaa.simulator.vendor_http import VendorService

__all__ = ["vendor"]

_MAX_TIMELINE: Final = 1024 * 1024


@click.group()
def vendor() -> None:
    """Serve a chip maker's collateral as the chip maker itself does.

    \b
    Examples:
      eaa sim vendor serve --vendor ./vendor --listen 127.0.0.1:8082
      eaa sim vendor serve --vendor ./vendor --listen 127.0.0.1:8082 --timeline story.toml --speed 86400
    """  # noqa: D301 - click keeps the lines after \b


@vendor.command()
@click.option(
    "--vendor",
    "folder",
    required=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the chip maker, or Verdictd's data folder.",
)
@click.option(
    "--listen", default="127.0.0.1:8082", show_default=True, metavar="HOST:PORT", help="Address to serve at."
)
@click.option(
    "--timeline",
    type=InputFile(_MAX_TIMELINE),
    help="What happens when, in TOML or JSON; by default nothing.",
)
@click.option(
    "--at", type=Rfc3339(), help="Time to stand still at, or to begin at with --speed.  [default: now]"
)
@click.option(
    "--speed",
    type=click.FloatRange(0, 1e7, min_open=True),
    help="Let time pass this many times as fast: 86400 is a day per second.",
)
def serve(
    *, folder: Path, listen: str, timeline: bytes | None, at: datetime | None, speed: float | None
) -> None:
    """Serve Intel's PCS and AMD's KDS with what the chip maker in --vendor signs, until stopped.

    One line of JSON on standard output says when it is ready, and at which URL.
    """
    from eaa.simulator import ChipMaker  # noqa: PLC0415 - --help does not need it
    from eaa.simulator.amd import AmdChipMaker  # noqa: PLC0415
    from eaa.simulator.timeline import Timeline, read_timeline  # noqa: PLC0415
    from eaa.simulator.vendor_http import VendorService  # noqa: PLC0415

    happening = Timeline() if timeline is None else read_timeline(timeline)
    service = VendorService(
        ChipMaker.load(folder), happening, _clock(at, speed), amd=AmdChipMaker.load(folder)
    )
    with listening_socket(listen) as bound:
        host, port = bound.getsockname()[:2]
        host = f"[{host}]" if ":" in host else host
        click.echo(json.dumps({"event": "ready", "url": f"http://{host}:{port}"}))
        _run(service, bound)


def _clock(at: datetime | None, speed: float | None) -> Callable[[], datetime]:
    if at is not None and speed is None:
        return lambda: at
    begin, started = at or datetime.now(UTC), monotonic()
    factor = 1.0 if speed is None else speed

    def now() -> datetime:
        try:
            return begin + timedelta(seconds=(monotonic() - started) * factor)
        except OverflowError:
            return datetime.max.replace(tzinfo=UTC)

    return now


def _run(service: VendorService, bound: socket.socket) -> None:
    import uvicorn  # noqa: PLC0415 - as above
    from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol  # noqa: PLC0415

    class Gate(HttpToolsProtocol):
        """Resets connections while the service is not to be reached."""

        def data_received(self, data: bytes) -> None:
            target = data.split(b" ", 2)[1:2]
            path = target[0].partition(b"?")[0].decode("latin-1") if target else "/"
            if service.refuses(path):
                self.transport.abort()
                return
            super().data_received(data)

    options: dict[str, Any] = {"log_level": "warning", "access_log": False, "server_header": False}
    config = uvicorn.Config(service, http=Gate, lifespan="off", **options)
    asyncio.run(uvicorn.Server(config).serve(sockets=[bound]))
