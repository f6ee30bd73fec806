# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: a TOML file, then the environment, then the command line; the later wins.

Every key ``x`` is also read from ``EAA_AGENT_X``, or from the file that ``EAA_AGENT_X_FILE`` names.
"""

from __future__ import annotations

import os
import tomllib
from ipaddress import ip_address
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal, NamedTuple
from urllib.parse import urlsplit

from pydantic import AfterValidator, BeforeValidator, Field, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    SettingsError,
    TomlConfigSettingsSource,
)

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic.fields import FieldInfo

__all__ = ["Address", "AgentConfig", "load_config"]

_PREFIX: Final = "EAA_AGENT_"


class Address(NamedTuple):
    """Where a server listens: a loopback address and port (0: any), or the path of a Unix socket."""

    host: str
    port: int
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def _address(value: object) -> Address:
    """Read ``127.0.0.1:8006``, ``[::1]:8006``, ``localhost:8006`` or ``unix:///run/agent.sock``."""
    if isinstance(value, Address):
        return value
    text = str(value)
    if text.startswith("unix:///"):
        return Address("", 0, text.removeprefix("unix://"))
    parts = urlsplit(f"//{text}")
    host, port = parts.hostname, parts.port
    if not host or port is None or parts.path:
        raise ValueError("is not HOST:PORT or unix:///PATH")
    host = "127.0.0.1" if host == "localhost" else host
    if not ip_address(host).is_loopback:
        raise ValueError("is not a loopback address: the agent serves this machine only")
    return Address(host, port)


def _tcp(address: Address) -> Address:
    if address.path:
        raise ValueError("is a Unix socket: this API listens on TCP")
    return address


class AgentConfig(BaseSettings):
    """The keys of the configuration. Unknown ones are refused."""

    model_config = SettingsConfigDict(env_prefix=_PREFIX, extra="forbid", frozen=True, validate_default=True)

    kbs_url: str
    """The key broker, ``https://host:port``."""
    kbs_ca_file: Path | None = None
    """PEM certificates that authenticate the broker; without it, the system's."""
    attester: str
    """The name of the driver that asks this machine's hardware."""
    attester_settings: dict[str, Any] = Field(default_factory=dict)
    """The driver's own settings, a table."""
    init_data_file: Path | None = None
    """The init-data that the host launched this guest with, a TOML file, sent beside the evidence that carries its digest."""
    grpc_listen: Annotated[Address, BeforeValidator(_address)] = Address("127.0.0.1", 50000)
    """Key provider and resources over gRPC: a loopback address or a Unix socket."""
    rest_listen: Annotated[Address, BeforeValidator(_address), AfterValidator(_tcp)] = Address(
        "127.0.0.1", 8006
    )
    """Resources, tokens and evidence over HTTP: a loopback address."""
    rest_feature: Literal["resource", "attestation", "all"] = "resource"
    """Which of its two halves the REST API offers. Evidence and tokens for any process (attack A29) are for whoever asks for them."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - the signature is the library's
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Return the sources, the strongest first."""
        return init_settings, env_settings, _NamedFiles(settings_cls), TomlConfigSettingsSource(settings_cls)


class _NamedFiles(PydanticBaseSettingsSource):
    """Values in files that ``EAA_AGENT_<KEY>_FILE`` names, as orchestrators mount them."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Return the text of the named file, the key, and whether the text is JSON."""
        path = os.environ.get(f"{_PREFIX}{field_name.upper()}_FILE")
        if path is None:
            return None, field_name, False
        try:
            return Path(path).read_text(encoding="utf-8").strip(), field_name, self.field_is_complex(field)
        except (OSError, UnicodeDecodeError):
            raise ConfigurationError(
                f"the file that {_PREFIX}{field_name.upper()}_FILE names cannot be read"
            ) from None

    def __call__(self) -> dict[str, Any]:
        values = {}
        for name, field in self.settings_cls.model_fields.items():
            text, _, is_json = self.get_field_value(field, name)
            if text is not None:
                values[name] = self.prepare_field_value(name, field, text, is_json)
        return values


def load_config(path: Path | None = None, overrides: Mapping[str, Any] | None = None) -> AgentConfig:
    """Return the configuration in the TOML file ``path`` (if any), the environment and ``overrides``.

    :raises ConfigurationError: on a file that cannot be read, an unknown key or a value that cannot be used.
    """

    class _FromFile(AgentConfig):
        model_config = SettingsConfigDict(toml_file=path)

    if path is not None and not path.is_file():
        raise ConfigurationError(
            f"there is no configuration file {str(path)!r}", hint="Give its path with --config."
        )
    try:
        return _FromFile(**dict(overrides or {}))
    except ValidationError as invalid:
        first = invalid.errors(include_url=False, include_context=False, include_input=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise ConfigurationError(
            f"configuration key {key!r}: {first['msg']}",
            hint=f"Set it in the configuration file, or as {_PREFIX}{key.upper()}.",
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as malformed:
        raise ConfigurationError(f"{str(path)!r} is not TOML: {malformed}") from None
    except (OSError, SettingsError) as unreadable:
        raise ConfigurationError(f"the configuration cannot be read: {type(unreadable).__name__}") from None
