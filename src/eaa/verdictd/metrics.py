# SPDX-License-Identifier: Apache-2.0
"""What Verdictd counts, in a registry of its own. Every label has a bounded set of values: no path, name or id is one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = ["CONTENT_TYPE_LATEST", "Metrics"]

MAX_CHECK_IDS: Final = 256
"""Distinct check ids that become labels; the ids come from static rules, so that none should be left over."""
_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Metrics:
    """Counters and histograms of one server."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        self._check_ids: set[str] = set()
        self._attestations = Counter(
            "eaa_attestations",
            "Attestations answered, by kind of TEE and outcome.",
            ["tee", "outcome"],
            registry=self._registry,
        )
        self._failed_checks = Counter(
            "eaa_attestation_failed_checks",
            "Checks that failed or could not be made.",
            ["tee", "check"],
            registry=self._registry,
        )
        self._releases = Counter(
            "eaa_releases", "Requests for a resource, by outcome.", ["outcome"], registry=self._registry
        )
        self._verification = Histogram(
            "eaa_verification_seconds",
            "Time to verify one piece of evidence.",
            ["tee"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._requests = Histogram(
            "eaa_http_request_seconds",
            "Time to answer a request, by route and status.",
            ["method", "route", "status"],
            buckets=_SECONDS,
            registry=self._registry,
        )
        self._sources = Gauge(
            "eaa_verdict_sources",
            "Verdicts that are subscribed to, by whether they are followed now.",
            ["state"],
            registry=self._registry,
        )
        self._simulated = Gauge(
            "eaa_simulated_trust_anchors",
            "Trust anchors of chip makers in software; anything but 0 is for development only.",
            registry=self._registry,
        )

    def attested(self, tee: str, outcome: str, failed_checks: Iterable[str] = ()) -> None:
        """Count one answered attestation."""
        self._attestations.labels(tee, outcome).inc()
        for check in set(failed_checks):
            if check not in self._check_ids and len(self._check_ids) < MAX_CHECK_IDS:
                self._check_ids.add(check)
            self._failed_checks.labels(tee, check if check in self._check_ids else "other").inc()

    def verified(self, tee: str, seconds: float) -> None:
        """Note how long one verification took."""
        self._verification.labels(tee).observe(seconds)

    def released(self, outcome: str) -> None:
        """Count one request for a resource."""
        self._releases.labels(outcome).inc()

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Note one answered request; ``route`` is the route's template."""
        self._requests.labels(method, route, str(status)).observe(seconds)

    def follows(self, sources: Iterable[Mapping[str, Any]]) -> None:
        """Set how many Verdicts are followed, fail or are held."""
        states = ["held" if each["held"] else "failing" if each["error"] else "followed" for each in sources]
        for state in ("followed", "failing", "held"):
            self._sources.labels(state).set(states.count(state))

    def trusts_simulated(self, anchors: int) -> None:
        """Note how many simulated trust anchors are configured."""
        self._simulated.set(anchors)

    def exposition(self) -> bytes:
        """Return everything in Prometheus' text format."""
        return generate_latest(self._registry)
