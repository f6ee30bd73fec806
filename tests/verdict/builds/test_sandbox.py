# SPDX-License-Identifier: Apache-2.0
"""The sandbox holds: commands here try to get out, to take too much and to live on."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from eaa.verdict import sandbox as module
from eaa.verdict.build_file import Limits
from eaa.verdict.sandbox import Cell, LimitExceeded, Mount, Ran, Sandbox, SandboxUnavailable, folder_size

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    Shell = Callable[..., Ran]

SMALL = Limits(seconds=60, bytes=4 << 20, files=200, processes=16, memory=1 << 30)


@pytest.fixture
def stage(sandbox: Sandbox) -> Iterator[Path]:
    """A folder for commands, gone after the test with all that they left in it."""
    with sandbox.stage() as folder:
        yield folder


@pytest.fixture
def work(sandbox: Sandbox, stage: Path) -> Path:
    """What commands see as /place and may write to."""
    return sandbox.own(stage / "work")


@pytest.fixture
def shell(sandbox: Sandbox, work: Path) -> Shell:
    """Run a script among this machine's programs."""

    def run(script: str, *mounts: Mount, seconds: float = 60, limits: Limits = SMALL, **cell: object) -> Ran:
        mounts = (Mount(work, "/place", writable=True), *mounts)
        confined = Cell(mounts=mounts, folder="/place", **cell)  # type: ignore[arg-type]
        return sandbox.run(confined, ["bash", "-c", script], limits, seconds=seconds)

    return run


def running(marker: str) -> list[int]:
    """The processes of this machine that have ``marker`` in their command line."""
    found = []
    for entry in Path("/proc").iterdir():
        try:
            if entry.name.isdecimal() and marker.encode() in (entry / "cmdline").read_bytes():
                found.append(int(entry.name))
        except OSError:
            continue
    return found


def test_a_command_runs_and_leaves_what_it_made(shell: Shell, work: Path) -> None:
    """Its status and what it printed come back, and its files are there."""
    done = shell("echo made > file; echo said; exit 3")
    assert (done.status, done.output) == (3, "said\n")
    assert (work / "file").read_text() == "made\n"


def test_it_sees_nothing_of_the_machine_but_programs(shell: Shell, tmp_path: Path) -> None:
    """No home, no configuration, no temporary files, no process of others, no variable of ours."""
    secret = tmp_path / "secret"
    secret.write_text("mine")
    done = shell(
        f"cat {secret} /etc/passwd /etc/shadow; ls / /root /home /tmp; ls -d /proc/[0-9]* | wc -l; env"
    )
    assert "mine" not in done.output
    assert "root:" not in done.output
    assert sorted(
        line for line in done.output.splitlines() if "=" in line and "cannot" not in line
    ) == sorted(
        ["PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin", "PWD=/place", "SHLVL=0", "_=/usr/bin/env"]
    )
    processes = next(line for line in done.output.splitlines() if line.isdecimal())
    assert int(processes) <= 4


def test_it_writes_nowhere_else(shell: Shell, sandbox: Sandbox, stage: Path) -> None:
    """The root, inputs, devices and the kernel's settings are read-only."""
    inputs = sandbox.own(stage / "inputs")
    (inputs / "file").write_text("as it was")
    done = shell(
        "for path in /x /usr/x /dev/x /proc/sys/kernel/core_pattern /inputs/x /inputs/file; do"
        " (echo x > $path) 2>/dev/null && echo wrote $path; done; rm /inputs/file; chmod 777 /inputs; true",
        Mount(inputs, "/inputs"),
    )
    assert "wrote" not in done.output
    assert (inputs / "file").read_text() == "as it was"
    assert inputs.stat().st_mode & 0o777 == 0o755


def test_it_has_no_privilege_and_gets_none(shell: Shell) -> None:
    """No capability, no new privileges, no user of this machine, and no further namespace to be root in."""
    done = shell(
        "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; id -u; cat /proc/self/uid_map;"
        " unshare --user --map-root-user true && echo got-nested; mount -t tmpfs x /place && echo got-mounted;"
        " mknod /place/disk b 8 0 && echo got-device; true",
        user=4321,
    )
    status = dict(line.split(":\t") for line in done.output.splitlines() if ":\t" in line)
    assert {name: int(value, 16) for name, value in status.items()} == {
        "NoNewPrivs": 1,
        **dict.fromkeys(("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0),
    }
    assert "\n4321\n" in done.output
    assert "got-" not in done.output


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be told apart from who runs for it")
def test_for_root_it_runs_as_a_user_whom_nobody_is(shell: Shell, work: Path) -> None:
    """A file that the command makes is not root's."""
    shell("touch file")
    assert (work / "file").stat().st_uid in module._DYNAMIC_USERS


def test_it_has_no_network(shell: Shell) -> None:
    """A listener on this machine's loopback hears nothing; with the network declared, it does."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(30)
        address = f"/dev/tcp/127.0.0.1/{listener.getsockname()[1]}"
        assert shell(f"exec 3<>{address}").status != 0
        heard: list[bool] = []

        def listen() -> None:
            connection, _ = listener.accept()
            connection.close()
            heard.append(True)

        thread = threading.Thread(target=listen)
        thread.start()
        assert shell(f"exec 3<>{address}", network=True).status == 0
        thread.join()
        assert heard == [True]


def test_the_deadline_ends_all_that_it_started(shell: Shell) -> None:
    """A process group of its own, a session of its own, a closed output: none of it outlives the deadline."""
    marker = f"31.{os.getpid()}{time.monotonic_ns()}"
    begun = time.monotonic()
    with pytest.raises(LimitExceeded) as ended:
        shell(f"setsid sleep {marker} & (exec >/dev/null 2>&1; sleep {marker}) & sleep {marker}", seconds=2)
    assert ended.value.limit == "seconds"
    assert time.monotonic() - begun < 20
    assert running(marker) == []


def test_closing_its_output_buys_no_time(shell: Shell) -> None:
    """A command that prints no more is still ended at the deadline."""
    with pytest.raises(LimitExceeded) as ended:
        shell("exec >/dev/null 2>&1; sleep 300", seconds=1)
    assert ended.value.limit == "seconds"


def test_what_it_leaves_running_ends_with_it(shell: Shell, work: Path) -> None:
    """A daemon that the command forks off does not live to write anything."""
    marker = f"32.{os.getpid()}{time.monotonic_ns()}"
    done = shell(f"setsid bash -c 'sleep {marker}; touch late' >/dev/null 2>&1 & disown; true")
    assert done.status == 0
    assert running(marker) == []
    assert not (work / "late").exists()


@pytest.mark.parametrize(
    ("script", "limit"),
    [
        ("for i in 1 2 3; do head -c 3000000 /dev/zero > $i; done; sleep 30", "bytes"),
        ("for i in $(seq 500); do : > $i; done; sleep 30", "files"),
        ("yes", "seconds"),
    ],
)
def test_too_much_ends_it(shell: Shell, script: str, limit: str) -> None:
    """Bytes and files are watched while it runs, and endless output is no way around the clock."""
    with pytest.raises(LimitExceeded) as ended:
        shell(script, seconds=3 if limit == "seconds" else 60)
    assert ended.value.limit == limit
    assert f"limits.{limit}" in ended.value.hint


@pytest.mark.parametrize(
    "script",
    [
        "head -c 9000000 /dev/zero > large",
        "truncate --size 1T sparse",
        "head -c 99000000 /dev/zero > /dev/shm/large",
        "fallocate --length 1G reserved",
        "for i in $(seq 40); do sleep 1 & done; wait; exit 1",
        "python3 -c 'bytearray(2 << 30)'",
    ],
)
def test_what_one_file_or_process_may_take_is_bounded(shell: Shell, work: Path, script: str) -> None:
    """A large, sparse or reserved file, shared memory, memory and processes: refused by the kernel."""
    assert shell(script).status != 0
    assert sum(path.stat().st_size for path in work.iterdir()) <= SMALL.bytes


def test_many_processes_are_not_to_be_had(shell: Shell) -> None:
    """Of forty, no more start than the limit allows."""
    done = shell("for i in $(seq 40); do sleep 2 & done")
    assert "Resource temporarily unavailable" in done.output


def test_one_core_is_one_core(shell: Shell) -> None:
    """A command that asks is told of one."""
    assert shell("nproc", one_core=True).output == "1\n"


def test_what_is_printed_is_kept_in_part(shell: Shell) -> None:
    """Of much output, the end is kept."""
    done = shell("seq 100000")
    assert done.output.endswith("99999\n100000\n")
    assert len(done.output) <= 16 * 1024


def test_the_stage_goes_whatever_was_left_in_it(sandbox: Sandbox, tmp_path: Path) -> None:
    """Closed folders are removed too, and links lead the removal nowhere."""
    outside = tmp_path / "outside"
    outside.mkdir(mode=0o500)
    with sandbox.stage() as stage:
        work = sandbox.own(stage / "work")
        cell = Cell(mounts=(Mount(work, "/place", writable=True),), folder="/place")
        script = (
            f"mkdir a; touch a/b; ln -s {outside} a/c; chmod 0 a; for i in $(seq 300); do mkdir d; cd d; done"
        )
        with suppress(LimitExceeded):  # but for root it is not to be seen how much is in a closed folder
            sandbox.run(cell, ["bash", "-c", script], Limits(), seconds=60)
    assert not stage.exists()
    assert outside.stat().st_mode & 0o777 == 0o500


def test_sizes_are_told_without_following_links(tmp_path: Path) -> None:
    """A link counts as a file, not as what it names."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_bytes(b"x" * 10_000)
    (tmp_path / "link").symlink_to("/usr")
    used, files = folder_size(tmp_path)
    assert files == 3
    assert 10_000 <= used < 100_000


def test_without_bubblewrap_nothing_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    """A missing program is named, with how to get it."""
    monkeypatch.setattr(module, "_PROGRAMS", ("bwrap", "no-such-program"))
    with pytest.raises(SandboxUnavailable) as refused:
        Sandbox.find()
    assert "no-such-program" in str(refused.value)
    assert "apt-get install bubblewrap" in refused.value.hint


def test_where_it_cannot_confine_nothing_is_built(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    """That bubblewrap is there is not enough: it is tried, and what it says is shown."""
    broken = ["--no-such-option"]
    monkeypatch.setattr(module, "_namespaces", lambda _: broken)
    with pytest.raises(SandboxUnavailable) as refused:
        Sandbox.find()
    assert "no-such-option" in str(refused.value)


def test_there_is_no_way_to_run_without_it() -> None:
    """The one place in the package that starts programs besides is apt's and the removal's."""
    folder = Path(module.__file__).parent
    starts = {path.name: path.read_text().count("subprocess.") for path in folder.glob("*.py")}
    assert {name for name, count in starts.items() if count} == {"packages.py", "sandbox.py"}


FORKS = """
import ctypes
from eaa.verdict.build_file import Limits
from eaa.verdict.sandbox import Cell, Sandbox

forks = 0

@ctypes.CFUNCTYPE(None)
def prepare():
    global forks
    forks += 1

assert ctypes.CDLL(None).__register_atfork(prepare, None, None, None) == 0
done = Sandbox.find().run(Cell(), ["true"], Limits(), seconds=60)
print(done.status, forks)
"""


def test_no_library_in_this_process_hears_of_a_start(sandbox: Sandbox) -> None:
    """A command is started without fork(), whose handlers, such as gRPC's, would run in the child and write or crash there."""
    told = subprocess.run(
        [sys.executable, "-c", FORKS], capture_output=True, text=True, check=True, timeout=120
    )
    assert told.stdout == "0 0\n"
