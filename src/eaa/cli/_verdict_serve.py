# SPDX-License-Identifier: Apache-2.0
"""``eaa verdict serve``: signed sets for several Verdictds, from one place."""

from __future__ import annotations

import asyncio
import json
import secrets
import signal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from eaa.cli._listen import listening_socket

if TYPE_CHECKING:
    import ssl

    from starlette.types import ASGIApp

__all__ = ["COMMANDS"]


@click.command()
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    required=True,
    envvar="EAA_DATA",
    show_envvar=True,
    help="Folder for everything that is kept; made if absent.",
)
@click.option(
    "--listen", default="127.0.0.1:8444", show_default=True, metavar="HOST:PORT", help="Address of HTTPS."
)
@click.option(
    "--signers",
    type=click.Path(dir_okay=False),
    help="TOML file that says who may sign which product; by default signers.toml in the folder.",
)
@click.option(
    "--rvps",
    metavar="HOST:PORT",
    help="Loopback address for clients of Trustee's RVPS (gRPC); what they register waits for a signature.",
)
def serve(data: Path, listen: str, signers: str | None, rvps: str | None) -> None:
    """Keep signed sets, and hand them and a signed index to the Verdictds that subscribe.

    The first start makes authority and certificate, the administrator's credential (admin.json), the key that signs the index (index.key,
    index.key.pub) and the subscribers' token (subscriber.token). One JSON line on standard output says when it is ready. SIGTERM ends it.

    \b
    Examples:
      eaa verdict serve --data ./verdict --listen 0.0.0.0:8444
      eaa verdict propose web-3.json --data ./verdict
    """  # noqa: D301 - click keeps the lines after \b
    import uvloop  # noqa: PLC0415 - --help does not need it

    uvloop.run(_serve(data, listen, signers, rvps))


async def _serve(data: Path, listen: str, signers: str | None, rvps: str | None) -> None:
    from eaa._files import write_whole  # noqa: PLC0415
    from eaa.cli._signers import signers_of  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.api import SignedIndex, create_app  # noqa: PLC0415
    from eaa.verdict.rvps_grpc import serve_rvps  # noqa: PLC0415
    from eaa.verdict.service import ReferenceSets  # noqa: PLC0415
    from eaa.verdictd._files import read_secret  # noqa: PLC0415
    from eaa.verdictd.administrator import ensure_administrator  # noqa: PLC0415
    from eaa.verdictd.bootstrap import DataDirectory  # noqa: PLC0415
    from eaa.verdictd.services import now  # noqa: PLC0415
    from eaa.verdictd.tls import ensure_tls, server_context  # noqa: PLC0415

    directory = DataDirectory.prepare(data)
    administrators = ensure_administrator(directory.credential, directory.administrator)
    token = data / "subscriber.token"
    if not token.exists():
        write_whole(token, secrets.token_urlsafe(32).encode() + b"\n")
    database = f"sqlite:///{data / 'verdict.db'}"
    with directory.locked(), listening_socket(listen) as bound:
        host, port = bound.getsockname()[:2]
        names = [listen.rpartition(":")[0].strip("[]"), "localhost", "127.0.0.1", "::1"]
        files = ensure_tls(directory.tls, names, at=now())
        async with await ReferenceSets.open(database, signers=signers_of(signers, directory.signers)) as sets:
            app = create_app(
                sets,
                SignedIndex(sets, _index_key(data / "index.key")),
                reader_token=read_secret(token).decode().strip(),
                administrator=lambda header: administrators.authorize(header, at=now()),
            )
            url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
            ready = {
                "event": "ready",
                "url": url,
                "admin_url": url,
                "ca_file": str(files.authority),
                "credential_file": str(directory.credential),
                "index_key": str(data / "index.key.pub"),
                "token_file": str(token),
                "simulated": False,
            }
            if rvps is not None:
                provider, ready["rvps"] = await serve_rvps(sets, rvps, clock=now)
            server = _server(app, server_context(files))
            for each in (signal.SIGTERM, signal.SIGINT):
                asyncio.get_running_loop().add_signal_handler(each, setattr, server, "should_exit", True)  # noqa: FBT003
            write_whole(directory.ready, json.dumps(ready).encode() + b"\n", mode=0o644)
            click.echo(json.dumps(ready))
            try:
                await server.serve(sockets=[bound])
            finally:
                directory.ready.unlink(missing_ok=True)
                if rvps is not None:
                    await provider.stop(1.0)


def _index_key(path: Path) -> Any:
    from eaa._keys import read_private_key  # noqa: PLC0415 - --help does not need it
    from eaa.cli._verdict_files import make_key  # noqa: PLC0415
    from eaa.verdictd._files import read_secret  # noqa: PLC0415

    if not path.exists():
        make_key(path, "ed25519")
    return read_private_key(read_secret(path))


def _server(app: ASGIApp, context: ssl.SSLContext) -> Any:
    from contextlib import contextmanager  # noqa: PLC0415 - the HTTP server is needed here only

    import uvicorn  # noqa: PLC0415

    class Server(uvicorn.Server):
        """uvicorn without its signal handlers: signals are the process's."""

        @contextmanager
        def capture_signals(self) -> Any:
            yield

    return Server(
        uvicorn.Config(
            app,
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            lifespan="off",
            limit_concurrency=1024,
            timeout_graceful_shutdown=3,
            ssl_context_factory=lambda _config, _default: context,
        )
    )


COMMANDS: Final = (serve,)
