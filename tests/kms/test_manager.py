# SPDX-License-Identifier: Apache-2.0
"""Drivers are found by entry point, third parties' too."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from eaa.kms import LocalKeyManager, load_key_manager
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

DRIVER = """
class Vault:
    name = "vault"

    def __init__(self, url):
        self.url = url

    @classmethod
    def open(cls, settings):
        return cls(settings["url"])

    async def wrap(self, plaintext, *, context):
        return plaintext[::-1]

    async def unwrap(self, wrapped, *, context):
        return wrapped[::-1]

    async def generate(self, size):
        return bytes(size)
"""


def install(folder: Path, distribution: str, module: str, entry_point: str) -> None:
    """Put a distribution with one module and one entry point where Python finds it."""
    (folder / f"{module}.py").write_text(DRIVER)
    metadata = folder / f"{distribution}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text(f"[eaa.kms]\n{entry_point}\n")


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on Python's path."""
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("acme_vault", "evil_vault"):
        monkeypatch.delitem(sys.modules, module, raising=False)
    return tmp_path


def test_local_is_known(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The driver that is shipped is found by its name."""
    monkeypatch.delenv("EAA_KMS_ROOT_KEY", raising=False)
    monkeypatch.delenv("EAA_KMS_ROOT_KEY_FILE", raising=False)
    opened = load_key_manager("local", {"key_file": str(tmp_path / "root.key")})
    assert isinstance(opened, LocalKeyManager)
    assert (tmp_path / "root.key").exists()


@pytest.mark.anyio
async def test_a_third_partys_driver_is_found(site: Path) -> None:
    """Installing a distribution is all it takes, and the driver gets its settings."""
    install(site, "acme", "acme_vault", "vault = acme_vault:Vault")
    opened = load_key_manager("vault", {"url": "https://vault.example"})
    assert opened.name == "vault"
    assert vars(opened) == {"url": "https://vault.example"}
    assert await opened.unwrap(await opened.wrap(b"ab", context=b""), context=b"") == b"ab"


def test_an_unknown_driver_is_refused_with_the_known_ones() -> None:
    """The hint lists what can be chosen."""
    with pytest.raises(ConfigurationError, match="'valut'") as caught:
        load_key_manager("valut", {})
    assert "local" in caught.value.hint


def test_two_packages_cannot_both_guard_the_keys(site: Path) -> None:
    """A second distribution that claims a name is an error, not a matter of the path's order."""
    install(site, "acme", "acme_vault", "vault = acme_vault:Vault")
    install(site, "evil", "evil_vault", "vault = evil_vault:Vault")
    with pytest.raises(ConfigurationError, match="more than once"):
        load_key_manager("vault", {"url": ""})


@pytest.mark.parametrize("target", ["no_such_module:Vault", "acme_vault:Missing"])
def test_a_driver_that_does_not_load_is_an_error(site: Path, target: str) -> None:
    """A missing module or class is told as a matter of installation."""
    install(site, "acme", "acme_vault", f"vault = {target}")
    with pytest.raises(ConfigurationError, match="does not load"):
        load_key_manager("vault", {})
