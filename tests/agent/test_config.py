# SPDX-License-Identifier: Apache-2.0
"""The agent's configuration: which source wins, and what is refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from eaa.agent.config import Address, load_config
from eaa.rats import ConfigurationError

COMPLETE = """
kbs_url = "https://kbs.example:8443"
kbs_ca_file = "/etc/eaa/ca.pem"
attester = "simulator"
grpc_listen = "unix:///run/eaa/agent.sock"
rest_listen = "[::1]:0"
rest_feature = "resource"
log_level = "debug"

[attester_settings]
vendor = "/var/lib/eaa"
faults = ["debug"]
"""


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in os.environ if name.startswith("EAA_AGENT_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "agent.toml"
    path.write_text(COMPLETE)
    return path


def test_every_key_is_read_from_the_file(file: Path) -> None:
    config = load_config(file)
    assert config.kbs_url == "https://kbs.example:8443"
    assert config.kbs_ca_file == Path("/etc/eaa/ca.pem")
    assert (config.attester, config.attester_settings) == (
        "simulator",
        {"vendor": "/var/lib/eaa", "faults": ["debug"]},
    )
    assert (config.grpc_listen, config.rest_listen) == (
        Address("", 0, "/run/eaa/agent.sock"),
        Address("::1", 0),
    )
    assert (config.rest_feature, config.log_level) == ("resource", "debug")


def test_defaults_listen_on_loopback() -> None:
    config = load_config(None, {"kbs_url": "https://h", "attester": "simulator"})
    assert (str(config.grpc_listen), str(config.rest_listen)) == ("127.0.0.1:50000", "127.0.0.1:8006")
    assert (config.kbs_ca_file, config.attester_settings, config.rest_feature) == (None, {}, "resource")


def test_command_line_over_environment_over_named_file_over_toml(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def url() -> str:
        return load_config(file, overrides).kbs_url

    overrides: dict[str, str] = {}
    (tmp_path / "url").write_text("https://named-file\n")
    monkeypatch.setenv("EAA_AGENT_KBS_URL_FILE", str(tmp_path / "url"))
    assert url() == "https://named-file"
    monkeypatch.setenv("EAA_AGENT_KBS_URL", "https://environment")
    assert url() == "https://environment"
    overrides["kbs_url"] = "https://command-line"
    assert url() == "https://command-line"


def test_settings_of_the_driver_come_as_json_from_the_environment(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAA_AGENT_ATTESTER_SETTINGS", '{"tee": "sgx"}')
    assert load_config(file).attester_settings["tee"] == "sgx"


@pytest.mark.parametrize(
    ("line", "key"),
    [
        ('kbs_ur1 = "https://h"', "kbs_ur1"),
        ('rest_listen = "0.0.0.0:8006"', "rest_listen"),
        ('rest_listen = "192.0.2.1:8006"', "rest_listen"),
        ('rest_listen = "kbs.example:8006"', "rest_listen"),
        ('rest_listen = "127.0.0.1"', "rest_listen"),
        ('rest_listen = "127.0.0.1:99999"', "rest_listen"),
        ('rest_listen = "unix:///run/x"', "rest_listen"),
        ("rest_listen = 8006", "rest_listen"),
        ('grpc_listen = "unix:relative"', "grpc_listen"),
        ('rest_feature = "none"', "rest_feature"),
        ('log_level = "loud"', "log_level"),
        ('attester_settings = "x"', "attester_settings"),
    ],
)
def test_what_cannot_be_used_is_named(tmp_path: Path, line: str, key: str) -> None:
    path = tmp_path / "agent.toml"
    path.write_text(f'kbs_url = "https://h"\nattester = "simulator"\n{line}\n')
    with pytest.raises(ConfigurationError, match=key) as refused:
        load_config(path)
    assert refused.value.hint


def test_a_missing_key_is_named() -> None:
    with pytest.raises(ConfigurationError, match="kbs_url") as refused:
        load_config(None, {"attester": "simulator"})
    assert "EAA_AGENT_KBS_URL" in refused.value.hint


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"absent\.toml"):
        load_config(tmp_path / "absent.toml")


@pytest.mark.parametrize("text", [b"kbs_url = ", b"\xff", b"a = 1\na = 2"])
def test_a_malformed_file_is_refused(tmp_path: Path, text: bytes) -> None:
    path = tmp_path / "agent.toml"
    path.write_bytes(text)
    with pytest.raises(ConfigurationError, match="TOML"):
        load_config(path)


def test_malformed_values_in_the_environment_are_refused(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EAA_AGENT_ATTESTER_SETTINGS", "{not json")
    with pytest.raises(ConfigurationError):
        load_config(file)
    monkeypatch.delenv("EAA_AGENT_ATTESTER_SETTINGS")
    monkeypatch.setenv("EAA_AGENT_LOG_LEVEL_FILE", str(tmp_path / "absent"))
    with pytest.raises(ConfigurationError, match="EAA_AGENT_LOG_LEVEL_FILE"):
        load_config(file)
