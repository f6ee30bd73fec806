# SPDX-License-Identifier: Apache-2.0
"""Turn a run of the benchmarks into ratios: what was measured, against what, and whether the aim is met."""

from __future__ import annotations

import json
import sys
from pathlib import Path

AIMS = [
    ("warm verification", "test_warm", "test_peer", 0.25),
    ("cold verification", "test_cold", "test_peer", 1.5),
    ("warm verification", "test_warm", "test_floor", None),
    ("SNP, warm verification", "test_snp_warm", "test_snp_floor", 1.25),
    ("SNP, cold verification", "test_snp_cold", "test_snp_floor", None),
]
PEERS = {
    "test_peer": "dcap-qvl",
    "test_floor": "one P-256 verification",
    "test_snp_floor": "one P-384 verification",
}
SECONDS = [
    ("Verdictd, first start to first answer", "test_first_start"),
    ("Verdictd, restart", "test_restart"),
]
START_AIM = 2.0
COLLATERAL_AIM = 50e-6
REQUESTS, REQUESTS_AIM = 500, 2000
EVENT_LOG_AIM = 5e-3


def main(path: Path) -> int:
    """Print the report of a pytest-benchmark JSON file; the exit status is 1 when an aim is missed."""
    listed = json.loads(path.read_bytes())["benchmarks"]
    median = {(each["name"].partition("[")[0], each["param"]): each["stats"]["median"] for each in listed}
    missed = 0
    for what, ours, theirs, aim in AIMS:
        for param in sorted({key[1] for key in median if key[0] == ours}):
            ratio = median[ours, param] / median[theirs, param]
            verdict = "" if aim is None else f"  aim ≤ {aim}: {'met' if ratio <= aim else 'MISSED'}"
            peer = PEERS[theirs]
            print(
                f"{what}, {param}: {median[ours, param] * 1e6:.0f} µs, "
                f"{ratio:.2f} × {peer} ({median[theirs, param] * 1e6:.0f} µs){verdict}"
            )
            missed += aim is not None and ratio > aim
    for what, name in SECONDS:
        if (name, None) in median:
            seconds = median[name, None]
            print(
                f"{what}: {seconds:.2f} s  aim < {START_AIM:.0f} s: {'met' if seconds < START_AIM else 'MISSED'}"
            )
            missed += seconds >= START_AIM
    for param in sorted({key[1] for key in median if key[0] == "test_collateral"}):
        seconds = median["test_collateral", param]
        print(
            f"collateral for a quote, {param}: {seconds * 1e6:.1f} µs"
            f"  aim < {COLLATERAL_AIM * 1e6:.0f} µs: {'met' if seconds < COLLATERAL_AIM else 'MISSED'}"
        )
        missed += seconds >= COLLATERAL_AIM
    if ("test_event_log", None) in median:
        seconds = median["test_event_log", None]
        print(
            f"event log of 200 events: {seconds * 1e3:.1f} ms"
            f"  aim < {EVENT_LOG_AIM * 1e3:.0f} ms: {'met' if seconds < EVENT_LOG_AIM else 'MISSED'}"
        )
        missed += seconds >= EVENT_LOG_AIM
    for param in sorted({key[1] for key in median if key[0] == "test_tcb_info_requests"}):
        rate = REQUESTS / median["test_tcb_info_requests", param]
        print(
            f"TCB info over HTTP, {param}: {rate:.0f} requests/s on one core"
            f"  aim > {REQUESTS_AIM}: {'met' if rate > REQUESTS_AIM else 'MISSED'}"
        )
        missed += rate <= REQUESTS_AIM
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
