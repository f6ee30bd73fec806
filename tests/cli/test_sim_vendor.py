# SPDX-License-Identifier: Apache-2.0
"""``eaa sim vendor serve`` as a process: it says when it is ready, keeps its own time, and can refuse connections."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx2
import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

TIMELINE = """
[[recoveries]]
number = 19
early = 2026-11-06T00:00:00Z
standard = 2026-11-20T00:00:00Z

[[troubles]]
kind = "refused"
begin = 2026-11-06T00:00:00Z
end = 2026-11-07T00:00:00Z
paths = "*/pckcrl"
"""
EAA = (sys.executable, "-m", "eaa.cli.main")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("sim")
    subprocess.run([*EAA, "sim", "init", made / "vendor"], check=True, capture_output=True)
    (made / "story.toml").write_text(TIMELINE)
    return made


@contextmanager
def serving(folder: Path, *options: str) -> Iterator[str]:
    command = [
        *EAA,
        "sim",
        "vendor",
        "serve",
        "--vendor",
        str(folder / "vendor"),
        "--listen",
        "127.0.0.1:0",
        *options,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield json.loads(line)["url"]
        finally:
            process.send_signal(signal.SIGTERM)
            _, complaints = process.communicate(timeout=10)
        assert complaints == ""


def number_at(url: str) -> int:
    answer = httpx2.get(f"{url}/sgx/certification/v4/qe/identity?update=early").json()
    return int(answer["enclaveIdentity"]["tcbEvaluationDataNumber"])


def test_it_stands_still_at_a_time(folder: Path) -> None:
    story = ("--timeline", str(folder / "story.toml"))
    with serving(folder, *story, "--at", "2026-11-05T23:59:59Z") as url:
        assert number_at(url) == 18
        assert httpx2.get(f"{url}/sgx/certification/v4/pckcrl?ca=platform").status_code == 200
    with serving(folder, *story, "--at", "2026-11-06T00:00:00Z") as url:
        assert number_at(url) == 19
        with pytest.raises(httpx2.TransportError):
            httpx2.get(f"{url}/sgx/certification/v4/pckcrl?ca=platform")
        assert number_at(url) == 19


def test_time_passes_as_fast_as_it_is_told(folder: Path) -> None:
    options = ("--timeline", str(folder / "story.toml"), "--at", "2026-11-05T00:00:00Z", "--speed", "864000")
    with serving(folder, *options) as url:
        for _ in range(500):
            if number_at(url) == 19:
                break
        else:
            pytest.fail("ten days a second, and no day has passed")


def test_what_cannot_be_used_is_refused(folder: Path) -> None:
    for options, complaint in (
        (("--vendor", str(folder / "nobody")), "no chip maker"),
        (("--vendor", str(folder / "vendor"), "--listen", "here"), "HOST:PORT"),
        (
            ("--vendor", str(folder / "vendor"), "--timeline", str(folder / "vendor" / "root_ca.pem")),
            "neither TOML",
        ),
    ):
        done = subprocess.run(
            [*EAA, "sim", "vendor", "serve", *options],
            check=False,
            capture_output=True,
            text=True,
            timeout=30,
        )
        assert (done.returncode, complaint in done.stderr) == (2, True), done.stderr
        assert "Traceback" not in done.stderr
