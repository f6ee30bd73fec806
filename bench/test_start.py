# SPDX-License-Identifier: Apache-2.0
"""How long Verdictd takes from its start to its first answer over HTTPS."""

from __future__ import annotations

import json
import ssl
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import httpx2

if TYPE_CHECKING:
    from pytest_benchmark.fixture import BenchmarkFixture

VERDICTD = Path(sys.executable).with_name("verdictd")


def first_answer(data: Path) -> None:
    """Start Verdictd, ask whether it is well, stop it."""
    command = [str(VERDICTD), "--data", str(data), "--listen", "127.0.0.1:0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            assert process.stdout is not None
            ready = json.loads(process.stdout.readline())
            context = ssl.create_default_context(cafile=ready["ca_file"])
            response = httpx2.get(f"{ready['url']}/healthz", verify=context)
            assert response.status_code == 200
        finally:
            process.terminate()


def test_first_start(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """With an empty data folder: keys, certificates, database and policies are made."""
    folders = (tmp_path / str(n) for n in range(100))
    benchmark.pedantic(first_answer, setup=lambda: ((next(folders),), {}), rounds=5)


def test_restart(benchmark: BenchmarkFixture, tmp_path: Path) -> None:
    """With everything in place."""
    benchmark.pedantic(first_answer, (tmp_path / "data",), rounds=5, warmup_rounds=1)
