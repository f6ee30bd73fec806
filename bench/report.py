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
    ("TPM, warm verification", "test_tpm_warm", "test_tpm_floor", 1.5),
    ("TPM, cold verification", "test_tpm_cold", "test_tpm_floor", None),
]
PEERS = {
    "test_peer": "dcap-qvl",
    "test_floor": "one P-256 verification",
    "test_snp_floor": "one P-384 verification",
    "test_tpm_floor": "the quote's own signature",
}
TIMES = [
    ("Verdictd, first start to first answer", "test_first_start", 1, "s", 2),
    ("Verdictd, restart", "test_restart", 1, "s", 2),
    ("collateral for a quote", "test_collateral", 1e6, "µs", 50),
    ("the set of evidence among 100,000 active values", "test_find_among_100000_values", 1e6, "µs", 20),
    ("event log of 200 events", "test_event_log", 1e3, "ms", 5),
    ("MRTD of a firmware of 4 MiB", "test_mr_td", 1e3, "ms", 100),
    ("TDX direct boot of 12 MiB kernel and 40 MiB initrd", "test_direct_boot", 1e3, "ms", None),
    ("SHA-384 of as many bytes, its floor", "test_hashing_alone", 1e3, "ms", None),
    ("RTMR 0 to 2 but for hashing kernel and initrd", "test_direct_boot_of_little", 1e3, "ms", 50),
]
"""What, the benchmark, units in a second, the unit, and the aim in it."""
REQUESTS, REQUESTS_AIM = 500, 2000


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
    for what, name, scale, unit, limit in TIMES:
        for param in (key[1] for key in median if key[0] == name):
            time = median[name, param] * scale
            verdict = (
                "" if limit is None else f"  aim < {limit} {unit}: {'met' if time < limit else 'MISSED'}"
            )
            print(f"{what}{f', {param}' if param else ''}: {time:.2f} {unit}{verdict}")
            missed += limit is not None and time >= limit
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
