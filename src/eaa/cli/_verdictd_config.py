# SPDX-License-Identifier: Apache-2.0
"""``verdictd``'s settings: a TOML file, and the command line before it."""

from __future__ import annotations

import tomllib
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from eaa.cli._acceptance import Acceptance
from eaa.rats import ConfigurationError
from eaa.verdictd.settings import Settings

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["VerdictdConfig"]

DEFAULT_LISTEN: Final = "127.0.0.1:8443"

_Lifetime = Annotated[int, Field(ge=10, le=3600)]


class EndorserConfig(BaseModel):
    """The table ``[endorser]``: where the embedded Endorser refreshes collateral from. With no source it serves what is imported."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    files: list[str] = []
    """Folders of collateral files."""
    pcs: list[str] = []
    """URLs of Intel PCS, PCCS or Endorsers, asked in this order."""
    kds: list[str] = []
    """URLs of AMD KDS or Endorsers, asked in this order."""
    vendors: bool = False
    """Ask Intel's PCS and AMD's KDS, after all others."""
    root_crl_url: str | None = None
    """Where ``pcs`` have the root's CRL, if not at ``rootcacrl``."""
    source_ca_file: str | None = None
    """Certificate authority of the sources' TLS certificates."""
    want: list[str] = []
    """Platforms to keep collateral for beside those that attest, such as ``tdx:50806f000000:platform``."""
    per_minute: Annotated[float, Field(gt=0)] = 60.0
    """Most requests to one host."""


class SubscriptionConfig(BaseModel):
    """One of ``[[verdict.subscribe]]``: a Verdict whose sets are kept here where it has them."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    url: str
    """Its address, https."""
    index_key: str
    """File with the public key that signs its index."""
    token_file: str
    """File with the token that it wants to see."""
    ca_file: str | None = None
    """Certificate authority of its TLS certificate; by default the system's."""


class VerdictConfig(BaseModel):
    """The table ``[verdict]``: whose signed reference values count."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    signers: str | None = None
    """TOML file that says who may sign which product; by default ``signers.toml`` in the data folder, if it is there."""
    subscribe: list[SubscriptionConfig] = []
    """Verdicts elsewhere."""


class VerdictdConfig(BaseModel):
    """The keys of the configuration. Unknown ones are refused."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    listen: str = DEFAULT_LISTEN
    """``HOST:PORT`` of HTTPS; ``[::1]:8443`` for IPv6."""
    admin_listen: str | None = None
    """``HOST:PORT`` of the administration, which ``listen`` then does not serve; by default both are one."""
    profile: Literal["development", "production"] = "development"
    """``production`` refuses simulated trust anchors."""
    simulator: bool = False
    """Trust the chip maker in software of the data folder."""
    key_provider: str | None = None
    """``HOST:PORT`` for ocicrypt's WrapKey, beside the Unix socket."""
    key_provider_remote: bool = False
    """Allow ``key_provider`` to be no loopback address."""
    challenge_seconds: _Lifetime = 300
    """For how long a challenge may be answered."""
    token_seconds: _Lifetime = 300
    """For how long an attestation counts."""
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    endorser: EndorserConfig = EndorserConfig()
    verdict: VerdictConfig = VerdictConfig()
    accept: Acceptance = Acceptance()
    """What is accepted of each family of TEEs beyond genuineness."""

    @classmethod
    def load(cls, path: Path | None, options: dict[str, Any]) -> Self:
        """Read the file, if one is named, and put ``options`` before it.

        :raises ConfigurationError: when the file cannot be read, or a setting is unknown or unusable.
        """
        settings: dict[str, Any] = {}
        if path is not None:
            try:
                settings = tomllib.loads(path.read_text(encoding="utf-8"))
            except (OSError, ValueError, RecursionError) as error:
                raise ConfigurationError(f"cannot read {path}: {error}") from error
        try:
            return cls.model_validate({**settings, **options})
        except ValidationError as invalid:
            first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
            name = ".".join(str(part) for part in first["loc"])
            known = ", ".join(cls.model_fields)
            raise ConfigurationError(f"setting {name}: {first['msg']}", hint=f"Known are: {known}.") from None

    def settings(self, data: Path) -> Settings:
        """Return what the server needs.

        :raises ConfigurationError: when an address is not HOST:PORT, or a simulator is asked for in production.
        """
        host, port = _address(self.listen)
        if self.simulator and self.profile == "production":
            raise ConfigurationError(
                "the production profile refuses simulated trust anchors", hint="Start without --simulator."
            )
        return Settings(
            data=data,
            host=host,
            port=port,
            admin_listen=None if self.admin_listen is None else _address(self.admin_listen),
            production=self.profile == "production",
            key_provider=self.key_provider,
            key_provider_remote=self.key_provider_remote,
            challenge_lifetime=timedelta(seconds=self.challenge_seconds),
            token_lifetime=timedelta(seconds=self.token_seconds),
            log_level=self.log_level,
            policies=self.accept.policies(),
            require_init_data=self.accept.kinds_with_init_data(),
        )


def _address(text: str) -> tuple[str, int]:
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or not (port.isascii() and port.isdecimal()) or len(port) > 5 or int(port) > 0xFFFF:
        raise ConfigurationError(f"{text} is not HOST:PORT", hint=f"Write for example {DEFAULT_LISTEN}.")
    return host, int(port)
