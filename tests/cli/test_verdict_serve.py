# SPDX-License-Identifier: Apache-2.0
"""A Verdict and a Verdictd that follows it, as real programs: what is published at one is active at the other, and stays when the one dies."""

from __future__ import annotations

import json
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from eaa.cli._demo.processes import Processes, program

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PATIENCE = 90.0


def _eaa(*arguments: str | Path) -> Any:
    command = [program("eaa"), "verdict", *(str(each) for each in arguments), "--json"]
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return json.loads(done.stdout)


def _until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.1)


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder whose path is short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="eaa-", dir="/tmp") as made:
        yield Path(made)


def test_a_verdictd_follows_a_verdict_and_outlives_it(folder: Path, boot_files: Path) -> None:
    with Processes(folder) as processes:
        command = [program("eaa"), "verdict", "serve", "--data", str(folder / "v"), "--listen", "127.0.0.1:0"]
        service = processes.start("verdict", command)
        there = service.ready(60)
        inputs = ("--firmware", boot_files / "OVMF.fd", "--kernel", boot_files / "vmlinuz", "--memory", "2G")
        key = folder / "release"
        done = _eaa(
            "publish", "--product", "acme/web", *inputs, "--key", key, "--new-key", "--data", folder / "v"
        )
        assert done["set"]["state"] == "active"

        signers = folder / "signers.toml"
        signers.write_text(
            f'[keys]\nrelease = "{key}.pub"\n[products."acme/*"]\nsigners = ["release"]\nthreshold = 1\n'
        )
        names = ("url", "index_key", "token_file", "ca_file")
        lines = [f"[verdict]\nsigners = {json.dumps(str(signers))}\n[[verdict.subscribe]]"]
        lines += [f"{name} = {json.dumps(there[name])}" for name in names]
        config = folder / "verdictd.toml"
        config.write_text("\n".join(lines))
        data = folder / "d"
        command = [
            program("verdictd"),
            "--data",
            str(data),
            "--listen",
            "127.0.0.1:0",
            "--config",
            str(config),
        ]
        processes.start("verdictd", command).ready(60)

        def active() -> list[int]:
            listed = _eaa("list", "--state", "active", "--data", data)["reference_sets"]
            return [each["version"] for each in listed]

        _until(lambda: active() == [1])
        _eaa("publish", "--product", "acme/web", *inputs, "--key", key, "--data", folder / "v")
        _until(lambda: active() == [1, 2])
        service.process.kill()
        service.process.wait()
        assert active() == [1, 2]
        _eaa("revoke", "acme/web@1", "--data", data)
        assert active() == [2]
        (source,) = _eaa("sources", "--data", data)["sources"]
        assert source["url"] == there["url"]
        assert source["followed_at"] is not None
