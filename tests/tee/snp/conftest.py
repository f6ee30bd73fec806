# SPDX-License-Identifier: Apache-2.0
"""A maker of SEV-SNP chips, made once: its keys take seconds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from eaa.simulator.amd import AmdChipMaker

if TYPE_CHECKING:
    from datetime import datetime


@pytest.fixture(scope="session")
def amd(at: datetime) -> AmdChipMaker:
    return AmdChipMaker.create(at)
