# SPDX-License-Identifier: Apache-2.0
"""A chip maker in software, and evidence of its machines."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eaa.simulator import ChipMaker


@pytest.fixture(scope="session")
def at() -> datetime:
    return datetime(2026, 3, 16, 12, tzinfo=UTC)


@pytest.fixture(scope="session")
def maker(at: datetime) -> ChipMaker:
    return ChipMaker.create(at)
