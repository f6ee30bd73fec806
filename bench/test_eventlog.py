# SPDX-License-Identifier: Apache-2.0
"""An event log of 200 events, read, replayed, held to its content and explained."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eaa.eventlog import check_event_log, explain, parse_event_log, uefi

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

EVENTS = 200
RECORDED = "eventlog/tpmlog-google-ubuntu-2404-amd-sevsnp/event_log.bin"


@pytest.fixture(scope="module")
def log(vectors: Path) -> bytes:
    """Real events of firmware, shim, GRUB and kernel in three banks: a boot's, and as many of them again as are missing."""
    recorded = (vectors / RECORDED).read_bytes()
    header = 32 + int.from_bytes(recorded[28:32], "little")
    twice = recorded + recorded[header:]
    sizes = [
        16 + sum(2 + len(digest) for digest in event.digests.values()) + len(event.data)
        for event in parse_event_log(twice).events
    ]
    return twice[: header + sum(sizes[:EVENTS])]


def judge(log: bytes, registers: dict[str, bytes]) -> tuple[int, int]:
    """Everything that is done with a log: into checks for a verdict, and into words for people."""
    parsed = parse_event_log(log)
    checks = check_event_log(parsed, registers, "sha256")
    assert not any(check.blocks for check in checks)
    return len(parsed.events), sum(len(explain(event)) for event in parsed.events)


def test_event_log(benchmark: BenchmarkFixture, log: bytes) -> None:
    """Nothing is remembered: not even the names of the certificates."""
    parsed = parse_event_log(log)
    registers = {parsed.registers.name_of(index): value for index, value in parsed.replay("sha256").items()}

    def fresh() -> tuple[tuple[Any, ...], dict[str, Any]]:
        uefi.forget_certificates()
        return (log, registers), {}

    events, characters = benchmark.pedantic(judge, setup=fresh, rounds=200, warmup_rounds=10)
    assert events == EVENTS
    assert characters > 10 * EVENTS
