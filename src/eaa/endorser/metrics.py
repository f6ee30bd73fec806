# SPDX-License-Identifier: Apache-2.0
"""Numbers for Prometheus."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import CollectorRegistry, Counter, Gauge, generate_latest

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.endorser.doctor import Diagnosis

__all__ = ["Metrics"]


class Metrics:
    """The Endorser's counters and gauges, in a registry of their own."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._refreshes = Counter(
            "eaa_endorser_refreshes",
            "Attempts to refresh an object, by kind and how they ended.",
            ["kind", "outcome"],
            registry=self._registry,
        )
        self._expiry = Gauge(
            "eaa_endorser_object_expiry_timestamp_seconds",
            "When an object expires; 0 when it is missing.",
            ["name"],
            registry=self._registry,
        )
        self._problems = Gauge(
            "eaa_endorser_objects", "Objects by state.", ["state"], registry=self._registry
        )
        self._healthy = Gauge(
            "eaa_endorser_healthy",
            "1 when nothing that is needed is missing or expired.",
            registry=self._registry,
        )

    def refreshed(self, kind: str, outcome: str) -> None:
        """Count one attempt."""
        self._refreshes.labels(kind, outcome).inc()

    def render(self, diagnosis: Diagnosis) -> bytes:
        """Return everything in Prometheus' text form, with the objects as ``diagnosis`` has them."""
        self._expiry.clear()
        self._problems.clear()
        for each in diagnosis.objects:
            self._expiry.labels(each.need.name).set(_seconds(each.next_update))
            self._problems.labels(each.state).inc()
        self._healthy.set(diagnosis.healthy)
        return generate_latest(self._registry)


def _seconds(at: datetime | None) -> float:
    return at.timestamp() if at is not None else 0.0
