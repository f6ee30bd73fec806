# SPDX-License-Identifier: Apache-2.0
"""Where ``eaa endorser serve`` refreshes from, as options."""

from __future__ import annotations

import os
import re
import ssl
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

import click

from eaa.cli._options import InputFile
from eaa.endorser.authenticity import anchor_id
from eaa.endorser.needs import Need, Platform, needs_of_platform
from eaa.rats import ConfigurationError
from eaa.tee.snp.roots import AMD_ROOTS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from eaa.endorser.http import Budget
    from eaa.endorser.sources import Source
    from eaa.endorser.store import Store
    from eaa.rats import TrustAnchor

__all__ = ["SourceOptions", "authority", "secret_text", "source_options"]

_MAX_KEY: Final = 4096

_WANTED: Final = re.compile(r"(sgx|tdx):([0-9a-f]{12}):(platform|processor)")


def source_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the options that say what to keep fresh, and from where."""
    for option in reversed(
        (
            click.option(
                "--files",
                multiple=True,
                type=click.Path(exists=True, file_okay=False),
                help="Folder of collateral files to take from.",
            ),
            click.option(
                "--pcs",
                multiple=True,
                metavar="URL",
                help="Intel PCS, PCCS or Endorser to ask; in this order.",
            ),
            click.option(
                "--kds", multiple=True, metavar="URL", help="AMD KDS or Endorser to ask; in this order."
            ),
            click.option("--vendors", is_flag=True, help="Ask Intel's PCS and AMD's KDS, after all others."),
            click.option(
                "--pcs-key-file",
                type=InputFile(_MAX_KEY),
                metavar="FILE",
                help="Intel's API key, for PCK certificates from --vendors; or put it into EAA_PCS_KEY.",
            ),
            click.option(
                "--root-crl-url", metavar="URL", help="Where --pcs have the root's CRL, if not at rootcacrl."
            ),
            click.option(
                "--source-ca-file",
                type=click.Path(exists=True, dir_okay=False),
                help="Certificate authority of the sources' TLS certificates.",
            ),
            click.option(
                "--want",
                multiple=True,
                metavar="TEE:FMSPC:CA",
                help="Platforms to keep collateral for, such as tdx:50806f000000:platform.",
            ),
            click.option(
                "--per-minute",
                type=click.FloatRange(min=0.1),
                default=60.0,
                show_default=True,
                help="Most requests to one host.",
            ),
        )
    ):
        command = option(command)
    return command


class SourceOptions:
    """The options, checked. ``wanted`` is what is kept fresh beside what is held and seen."""

    def __init__(
        self,
        anchor: TrustAnchor,
        *,
        files: tuple[str, ...],
        pcs: tuple[str, ...],
        kds: tuple[str, ...],
        vendors: bool,
        root_crl_url: str | None,
        source_ca_file: str | None,
        want: tuple[str, ...],
        per_minute: float,
        pcs_key_file: bytes | None = None,
    ) -> None:
        self._root = anchor_id(anchor)
        self._files, self._pcs, self._kds = files, pcs, kds
        self._vendors = vendors
        self._root_crl_url = root_crl_url
        self._tls = authority(source_ca_file)
        self._per_minute = per_minute
        self._pcs_key = secret_text(pcs_key_file, "EAA_PCS_KEY")
        self.wanted: tuple[Need, ...] = tuple(need for text in want for need in self._needs(text))

    def _needs(self, text: str) -> tuple[Need, ...]:
        match = _WANTED.fullmatch(text.lower())
        if match is None:
            raise click.UsageError(
                f"--want is {text!r}, expected TEE:FMSPC:CA such as tdx:50806f000000:platform"
            )
        tee, fmspc, ca = match.groups()
        return needs_of_platform(tee, Platform(self._root, fmspc, ca))

    @asynccontextmanager
    async def open(self, store: Store) -> AsyncIterator[list[Source]]:
        """Give the sources in the order in which they are asked."""
        if not (self._files or self._pcs or self._kds or self._vendors):
            yield []
            return
        from eaa.endorser.http import Budget, new_client  # noqa: PLC0415 - the HTTP client is needed here only
        from eaa.endorser.kds import AMD_KDS, KdsSource  # noqa: PLC0415
        from eaa.endorser.pcs import INTEL_PCS, PcsSource  # noqa: PLC0415
        from eaa.endorser.sources import FolderSource  # noqa: PLC0415

        budgets: dict[str, Budget] = {}

        def gate(url: str) -> Budget:
            host = urlsplit(url).netloc
            return budgets.setdefault(host, Budget(host, per_minute=self._per_minute, clock=store.clock))

        amd = frozenset(map(anchor_id, AMD_ROOTS))
        prove = store.authenticator.authenticate
        async with new_client(tls=self._tls) as client:
            sources: list[Source] = [FolderSource(Path(each), prove) for each in self._files]
            for url in self._pcs:
                crl_url = self._root_crl_url
                sources.append(PcsSource(url, client, root=self._root, root_crl_url=crl_url, gate=gate(url)))
            sources += [KdsSource(url, client, gate=gate(url)) for url in self._kds]
            if self._vendors:
                intel = PcsSource(
                    INTEL_PCS, client, root=self._root, gate=gate(INTEL_PCS), api_key=self._pcs_key
                )
                sources.append(intel)
                sources.append(KdsSource(AMD_KDS, client, roots=amd, gate=gate(AMD_KDS)))
            yield sources


def secret_text(content: bytes | None, variable: str = "") -> str:
    """Return a secret that a file or else an environment variable holds, or nothing.

    :raises ConfigurationError: when it is no line of printable ASCII.
    """
    given = content if content is not None else os.environ.get(variable, "").encode()
    text = given.decode("ascii", "replace").strip()
    if not (text.isascii() and text.isprintable()):
        raise ConfigurationError(
            "a key or token is not one line of printable characters", hint="Write it alone into its file."
        )
    return text


def authority(ca_file: str | None) -> ssl.SSLContext | None:
    """Return what authenticates a service by ``ca_file``, or None for the system's authorities.

    :raises ConfigurationError: when the file is no PEM certificate authority.
    """
    if ca_file is None:
        return None
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        raise ConfigurationError(f"{Path(ca_file).name} is not a PEM certificate authority") from error
