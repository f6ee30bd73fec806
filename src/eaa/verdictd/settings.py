# SPDX-License-Identifier: Apache-2.0
"""How a Verdictd runs. Nothing but data: reading it loads no server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Settings"]


@dataclass(frozen=True, slots=True)
class Settings:
    """How a Verdictd runs.

    ``port`` 0 takes a free one; with ``admin_listen`` (host and port) the administration is served there, and only there; ``key_provider`` adds a TCP address to the Unix socket; ``policies`` say what is accepted of each
    family of TEEs (:class:`~eaa.verifier.Verifier`), ``require_init_data`` of which kinds of TEE no guest is accepted without init-data.
    """

    data: Path
    host: str = "127.0.0.1"
    port: int = 8443
    admin_listen: tuple[str, int] | None = None
    production: bool = False
    key_provider: str | None = None
    key_provider_remote: bool = False
    challenge_lifetime: timedelta = timedelta(minutes=5)
    token_lifetime: timedelta = timedelta(minutes=5)
    log_level: str = "INFO"
    policies: tuple[object, ...] = ()
    require_init_data: frozenset[str] = frozenset()
