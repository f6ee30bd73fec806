# SPDX-License-Identifier: Apache-2.0
"""Drivers are found by name, made with their settings, and nothing else is taken for one."""

from __future__ import annotations

from importlib.metadata import EntryPoint, EntryPoints
from typing import Any

import pytest

from eaa.agent import attester as attester_module
from eaa.agent.attester import load_attester
from eaa.rats import ConfigurationError


class Driver:
    tee = "tdx"

    def __init__(self, settings: dict[str, Any]) -> None:
        self.settings = settings

    async def collect(self, report_data: bytes) -> dict[str, Any]:
        return {}


@pytest.fixture(autouse=True)
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    class Loaded(EntryPoint):
        def load(self) -> Any:
            return {"driver": Driver, "other": dict}[self.value]

    points = [
        Loaded("test", "driver", "eaa.attesters"),
        Loaded("not-a-driver", "other", "eaa.attesters"),
        EntryPoint("broken", "eaa.no_such_module:Driver", "eaa.attesters"),
    ]
    monkeypatch.setattr(
        attester_module, "entry_points", lambda group: EntryPoints(points).select(group=group)
    )


def test_a_driver_gets_its_settings() -> None:
    settings = {"a": 1}
    driver = load_attester("test", settings)
    assert isinstance(driver, Driver)
    assert driver.settings == settings


def test_an_unknown_driver_names_the_known_ones() -> None:
    with pytest.raises(ConfigurationError, match="auto") as refused:
        load_attester("auto", {})
    assert "test" in refused.value.hint


@pytest.mark.parametrize("name", ["broken", "not-a-driver"])
def test_what_is_no_driver_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        load_attester(name, {})
