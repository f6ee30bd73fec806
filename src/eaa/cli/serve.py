# SPDX-License-Identifier: Apache-2.0
"""The two daemons: ``verdictd`` and ``attestation-agent``, also as ``eaa serve …``."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eaa.cli._run import run

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from eaa.cli._verdictd_config import VerdictdConfig
    from eaa.endorser.store import Store
    from eaa.rats import Endorsements, Evidence, TrustAnchor
    from eaa.verdictd.server import Ready
    from eaa.verdictd.settings import Settings

__all__ = ["attestation_agent", "serve", "verdictd"]

_PATH: Any = click.Path(path_type=Path)


class _Daemon(click.Command):
    """A command that is also a console script of its own: called without a context, it is the process."""

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run as the program and exit with its status."""
        if args or kwargs:
            return super().__call__(*args, **kwargs)
        sys.exit(run(self, str(self.name)))


@click.command("verdictd", cls=_Daemon)
@click.option(
    "--data",
    type=_PATH,
    required=True,
    envvar="EAA_DATA",
    show_envvar=True,
    help="Folder for everything that is kept; made if absent.",
)
@click.option(
    "--listen",
    metavar="HOST:PORT",
    help="Address of HTTPS; port 0 takes a free one. [default: 127.0.0.1:8443]",
)
@click.option(
    "--admin-listen",
    metavar="HOST:PORT",
    envvar="EAA_ADMIN_LISTEN",
    show_envvar=True,
    help="Serve the administration here, and no longer where guests are served. [default: the address of --listen]",
)
@click.option(
    "--simulator",
    is_flag=True,
    help="Trust a chip maker in software, kept in the data folder. For development.",
)
@click.option("--production", is_flag=True, help="Refuse to start with any simulated trust anchor.")
@click.option(
    "--key-provider", metavar="HOST:PORT", help="Serve ocicrypt's WrapKey on this loopback address too."
)
@click.option("--key-provider-remote", is_flag=True, help="Allow --key-provider to be no loopback address.")
@click.option("--config", type=_PATH, help="TOML file with the same settings; options go before it.")
def verdictd(
    data: Path,
    listen: str | None,
    *,
    admin_listen: str | None,
    simulator: bool,
    production: bool,
    key_provider: str | None,
    key_provider_remote: bool,
    config: Path | None,
) -> None:
    """Verify evidence, apply the owner's policy, release secrets to attested TEEs.

    The first start makes everything in the data folder: authority and certificate, keys, database, the administrator's credential
    (admin.json). One JSON line on standard output says when it is ready and where. Logs go to standard error. SIGTERM ends it.

    \b
    Examples:
      verdictd --data ./data
      verdictd --data ./data --listen 127.0.0.1:0 --simulator
      verdictd --data /var/lib/verdictd --listen 0.0.0.0:8443 --admin-listen 127.0.0.1:9443 --production
    """  # noqa: D301 - click keeps the lines after \b
    options = {
        "listen": listen,
        "admin_listen": admin_listen,
        "profile": "production" if production else None,
        "key_provider": key_provider,
        "key_provider_remote": key_provider_remote or None,
        "simulator": simulator or None,
    }
    _run_verdictd(data, config, {name: value for name, value in options.items() if value is not None})


@click.command("attestation-agent", cls=_Daemon)
@click.option("--config", type=_PATH, help="TOML file; EAA_AGENT_… in the environment goes before it.")
@click.option("--kbs-url", metavar="URL", help="The key broker to attest to.")
@click.option("--kbs-ca-file", type=_PATH, help="PEM file that authenticates the key broker.")
@click.option("--grpc-listen", metavar="ADDRESS", help="HOST:PORT on loopback, or unix:///PATH.")
@click.option("--rest-listen", metavar="HOST:PORT", help="A loopback address.")
def attestation_agent(config: Path | None, **options: Any) -> None:
    """Prove this guest to its key broker; hand secrets and image keys to the processes in it.

    \b
    Examples:
      attestation-agent --config /etc/attestation-agent.toml
      EAA_AGENT_ATTESTER=simulator attestation-agent --config agent.toml --kbs-url https://kbs:8443
    """  # noqa: D301 - click keeps the lines after \b
    from eaa.agent.server import run as run_agent  # noqa: PLC0415 - --help does not need it

    run_agent(config, {name: value for name, value in options.items() if value is not None})


@click.group()
def serve() -> None:
    """Run Verdictd or the Attestation Agent in the foreground."""


serve.add_command(verdictd)
serve.add_command(attestation_agent)


def _run_verdictd(data: Path, config: Path | None, options: dict[str, Any]) -> None:
    # What a start makes stays as long as the process: searching it for garbage would only make the start longer.
    gc.disable()
    try:
        import uvloop  # noqa: PLC0415 - --help does not need it

        from eaa.cli._verdictd_config import VerdictdConfig  # noqa: PLC0415

        configuration = VerdictdConfig.load(config, options)
        settings = configuration.settings(data)

        from eaa._logging import configure_logging  # noqa: PLC0415 - slow, and the settings are checked first

        configure_logging(settings.log_level)
        uvloop.run(_serve_verdictd(settings, configuration))
    finally:
        gc.enable()


class _Endorsements:
    """The embedded Endorser, as Verdictd sees it: it hands out what it holds, and keeps fresh what genuine platforms need."""

    def __init__(self, store: Store, enrolments: Endorsements) -> None:
        from eaa.endorser.authenticity import anchor_id  # noqa: PLC0415 - --help does not need it
        from eaa.endorser.platforms import Observer  # noqa: PLC0415
        from eaa.tee.snp.product import Product  # noqa: PLC0415
        from eaa.tee.snp.roots import AMD_ROOTS  # noqa: PLC0415

        roots = {product: anchor_id(root) for product, root in zip(Product, AMD_ROOTS, strict=True)}
        self._store, self._enrolments = store, enrolments
        self.observe = Observer(store, snp_roots=roots).observe

    def endorsements_for(self, evidence: Evidence) -> Endorsements:
        """Return what the store holds for this evidence; of a TPM's key only the owner can vouch."""
        return self._enrolments if evidence.tee == "tpm" else self._store.endorsements_for(evidence)


async def _serve_verdictd(settings: Settings, configuration: VerdictdConfig) -> None:
    from eaa.cli._endorser_sources import SourceOptions  # noqa: PLC0415 - --help does not need it
    from eaa.cli._signers import signers_of, sources_of  # noqa: PLC0415
    from eaa.endorser.store import Store  # noqa: PLC0415
    from eaa.tee.dcap.roots import INTEL_ROOT  # noqa: PLC0415
    from eaa.tee.registry import vendor_roots  # noqa: PLC0415
    from eaa.verdict.service import ReferenceSets  # noqa: PLC0415
    from eaa.verdict.signer_watch import SignerWatch  # noqa: PLC0415
    from eaa.verdict.subscription import Subscriber  # noqa: PLC0415
    from eaa.verdictd.bootstrap import DataDirectory  # noqa: PLC0415
    from eaa.verdictd.server import serve as serve_until  # noqa: PLC0415

    directory = DataDirectory.prepare(settings.data)
    anchors: tuple[TrustAnchor, ...] = vendor_roots()
    vendor = None
    if configuration.simulator:
        from eaa.cli._simulated_vendor import SimulatedVendor  # noqa: PLC0415

        vendor = SimulatedVendor(directory.simulator)
        anchors = (*anchors, *vendor.trust_anchors)
    configured = SourceOptions(INTEL_ROOT, **configuration.endorser.model_dump())
    signers = signers_of(configuration.verdict.signers, directory.signers)
    async with (
        await Store.open(directory.endorsements, anchors) as store,
        configured.open(store) as sources,
        await ReferenceSets.open(directory.database_url, signers=signers) as sets,
    ):
        background: list[Callable[[], Awaitable[None]]] = [
            store.follow,
            SignerWatch(signers, sets.count_change).run,
        ]
        if sources:
            from eaa.endorser.refresh import Refresher  # noqa: PLC0415 - brings an HTTP client

            background.append(Refresher(store, sources, wanted=configured.wanted).run)
        if vendor is not None:
            await vendor.publish(store)
            background.append(lambda: vendor.keep_publishing(store))
        background += [Subscriber(sets, each).run for each in sources_of(configuration.verdict)]
        stop = asyncio.Event()
        for each in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(each, stop.set)
        await serve_until(
            settings,
            anchors=anchors,
            endorsements=_Endorsements(store, configuration.accept.enrolments()),
            announce=_announce,
            stop=stop,
            background=tuple(background),
            sets=sets,
        )


def _announce(ready: Ready) -> None:
    gc.freeze()
    gc.enable()
    sys.stdout.write(ready.to_json() + "\n")
    sys.stdout.flush()
