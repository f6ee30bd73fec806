# SPDX-License-Identifier: Apache-2.0
"""Where the commands of builds run: unprivileged, without network, and within limits, or not at all.

The sandbox is bubblewrap. A command runs in namespaces of its own (users, processes, mounts, network, IPC, host name), without a
capability and without a way to get one, and sees a read-only root. Started by root, it runs as a user number that nobody has.
When it ends or is ended, everything that it has started ends with it, because its namespace of processes goes.

What bubblewrap does not bound is bounded here: seconds, bytes and files by watching, what one process or one file may take by resource
limits. They are set in a user namespace around bubblewrap's, so that the number of processes counts these alone.
"""

from __future__ import annotations

import json
import os
import pwd
import secrets
import select
import shutil
import signal
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eaa.rats import InputError, UnavailableError
from eaa.verdict.build_file import Limits

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

__all__ = ["Cell", "LimitExceeded", "Mount", "Ran", "Sandbox", "SandboxUnavailable", "folder_size"]

_PROGRAMS: Final = ("bwrap", "setpriv", "unshare", "prlimit", "taskset")
_TOOLS: Final = ("usr", "bin", "sbin", "lib", "lib32", "lib64")
_TOOL_SETTINGS: Final = ("alternatives", "ld.so.cache", "magic", "magic.mime")
_DYNAMIC_USERS: Final = range(61184, 65520)  # systemd's range for users that exist only while something runs
_SHARED_MEMORY: Final = 64 << 20
_OPEN_FILES: Final = 1024
_RESERVE: Final = (
    256 << 20
)  # a build ends before it takes the last of the disk, whatever it deletes and keeps open
_KEPT_OUTPUT: Final = 16 * 1024
_LOOK: Final = 0.1
_GRACE: Final = 30.0
_PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"


class SandboxUnavailable(UnavailableError):
    """There is no sandbox on this machine. Nothing is ever run without one."""

    code = "sandbox.unavailable"


class LimitExceeded(InputError):
    """A command took more than the build file allows, and was ended. ``limit`` names what it took too much of."""

    code = "build.limit"

    def __init__(self, message: str, *, limit: str) -> None:
        super().__init__(message, hint=f"Raise limits.{limit} in the build file, if the build is meant to.")
        self.limit = limit


@dataclass(frozen=True, slots=True)
class Mount:
    """A folder or file of this machine that the command sees at ``target``."""

    source: Path
    target: str
    writable: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """What a command sees. Without ``root`` it sees this machine's programs and libraries, read-only, and nothing else of it."""

    root: Path | None = None
    mounts: tuple[Mount, ...] = ()
    folder: str = "/"
    variables: Mapping[str, str] = field(default_factory=dict)
    hostname: str = "build"
    user: int = 1000
    umask: int = 0o022
    one_core: bool = False
    network: bool = False


@dataclass(frozen=True, slots=True)
class Ran:
    """A command that came to its end: its exit status, and the end of what it printed."""

    status: int
    output: str


class Sandbox:
    """Runs commands confined. :meth:`find` makes one, having seen that it works."""

    def __init__(self, owner: int | None) -> None:
        self._owner = owner

    @classmethod
    def find(cls) -> Sandbox:
        """Return a sandbox that works on this machine, proven by running a command in it.

        :raises SandboxUnavailable: when there is none, with what stands in its way.
        """
        if missing := [name for name in _PROGRAMS if shutil.which(name, path=_PATH) is None]:
            raise SandboxUnavailable(
                f"builds run in a sandbox only, and {', '.join(missing)} is not installed",
                hint="On Debian: apt-get install bubblewrap util-linux.",
            )
        sandbox = cls(_free_user() if os.geteuid() == 0 else None)
        with sandbox.stage() as stage:
            sandbox.own(stage / "probe")
            cell = Cell(mounts=(Mount(stage / "probe", "/probe", writable=True),), folder="/probe")
            done = sandbox.run(cell, ["true"], Limits(), seconds=30)
        if done.status != 0:
            raise SandboxUnavailable(
                f"builds run in a sandbox only, and bubblewrap cannot make one here: {done.output[-300:].strip()}",
                hint="User namespaces must be allowed, and TMPDIR a folder that every user may enter.",
            )
        return sandbox

    @contextmanager
    def stage(self) -> Iterator[Path]:
        """Give a new folder that commands can reach, and remove it with all that they have left in it."""
        folder = Path(tempfile.mkdtemp(prefix="eaa-build-"))
        folder.chmod(0o711)
        try:
            yield folder
        finally:
            _remove(folder)

    @staticmethod
    def folder(folder: Path) -> Path:
        """Make ``folder``, which commands may read where it is mounted, whatever this process's umask is."""
        folder.mkdir()
        folder.chmod(0o755)
        return folder

    def own(self, folder: Path) -> Path:
        """Make ``folder``, which commands may write to where it is mounted so."""
        self.folder(folder)
        if self._owner is not None:
            os.chown(folder, self._owner, self._owner)
        return folder

    def run(
        self, cell: Cell, argv: Sequence[str], limits: Limits, *, seconds: float, stdout: Path | None = None
    ) -> Ran:
        """Run ``argv`` in ``cell`` to its end. With ``stdout``, what it prints there becomes that file.

        :raises LimitExceeded: when it takes longer than ``seconds``, or more than ``limits``; nothing of it runs any longer then.
        """
        deadline = time.monotonic() + seconds
        watched = tuple(mount.source for mount in cell.mounts if mount.writable)
        with ExitStack() as stack:
            target = subprocess.PIPE if stdout is None else stack.enter_context(stdout.open("xb")).fileno()
            told, tell = os.pipe()
            with os.fdopen(told, "rb") as info:
                try:
                    process = self._start(cell, argv, limits, target, tell)
                finally:
                    os.close(tell)
                first = _first_process(info.read())
            try:
                output = _follow(process, deadline, limits, watched)
            finally:
                _end(process, first)
        _hold(limits, watched)
        return Ran(process.returncode, output.decode(errors="replace"))

    def _start(
        self, cell: Cell, argv: Sequence[str], limits: Limits, stdout: int, tell: int
    ) -> subprocess.Popen[bytes]:
        # The user is changed by a program and not by Popen, which would have to fork: a fork runs the handlers of every library in
        # this process, and gRPC's write into the build's output or crash.
        owner = self._owner
        command = (
            []
            if owner is None
            else ["setpriv", f"--reuid={owner}", f"--regid={owner}", "--clear-groups", "--"]
        )
        command += ["unshare", "--user", "--map-root-user", "--", *_resource_limits(limits)]
        if cell.one_core:
            command += ["taskset", "--cpu-list", str(min(os.sched_getaffinity(0)))]
        command += ["bwrap", "--info-fd", str(tell), *_namespaces(cell), *_view(cell), "--", *argv]
        return subprocess.Popen(  # noqa: S603 - the point of this module
            command,
            stdin=subprocess.DEVNULL,
            stdout=stdout,
            stderr=subprocess.STDOUT if stdout == subprocess.PIPE else subprocess.PIPE,
            pass_fds=(tell,),
            env={"PATH": _PATH},
            cwd="/",
            umask=cell.umask,
            start_new_session=True,
        )


def _follow(
    process: subprocess.Popen[bytes], deadline: float, limits: Limits, watched: tuple[Path, ...]
) -> bytes:
    """Read what a process prints until it has ended, and return the end of it."""
    pipe = process.stdout or process.stderr
    assert pipe is not None
    output = b""
    with pipe:
        while chunk := _read(pipe.fileno(), deadline, limits, watched):
            output = (output + chunk)[-_KEPT_OUTPUT:]
        while True:  # it may have closed its output and go on
            with suppress(subprocess.TimeoutExpired):
                process.wait(_LOOK)
                return output
            _check_time(deadline)
            _hold(limits, watched)


def _read(pipe: int, deadline: float, limits: Limits, watched: tuple[Path, ...]) -> bytes:
    """Return what is printed next, nothing at the end, looking meanwhile at time and size."""
    look_at = 0.0
    while True:
        _check_time(deadline)
        now = time.monotonic()
        if now > look_at:
            _hold(limits, watched)
            took = time.monotonic() - now
            look_at = now + max(_LOOK, 10 * took)
        if select.select([pipe], [], [], _LOOK)[0]:
            return os.read(pipe, 65536)


def _check_time(deadline: float) -> None:
    if time.monotonic() > deadline:
        raise LimitExceeded("the command did not end in time", limit="seconds")


def _first_process(info: bytes) -> int | None:
    """Return a descriptor of the namespace's first process, of which bubblewrap tells, unless it has gone or never came to be."""
    try:
        return os.pidfd_open(int(json.loads(info)["child-pid"]))
    except (OSError, ValueError):
        return None


def _end(process: subprocess.Popen[bytes], first: int | None) -> None:
    """End what has not ended. The kernel lets go of a namespace's first process when all others are gone, so that one is waited for."""
    if first is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return
    try:
        if (
            process.poll() is None
        ):  # so the descriptor is of its child, and of nobody who has got its number since
            with suppress(ProcessLookupError):
                signal.pidfd_send_signal(first, signal.SIGKILL)
        if not select.select([first], [], [], _GRACE)[0]:
            raise SandboxUnavailable("a command cannot be ended: the kernel waits for something that it does")
        process.wait()
    finally:
        os.close(first)


def _hold(limits: Limits, watched: tuple[Path, ...]) -> None:
    """Hold what lies in the watched folders against the limits."""
    used, files = (sum(each) for each in zip((0, 0), *map(folder_size, watched), strict=True))
    if used > limits.bytes:
        raise LimitExceeded(f"the build wrote more than {limits.bytes} bytes", limit="bytes")
    if files > limits.files:
        raise LimitExceeded(f"the build wrote more than {limits.files} files", limit="files")
    for folder in watched[:1]:
        room = os.statvfs(folder)
        if room.f_bavail * room.f_frsize < _RESERVE:
            raise LimitExceeded(
                f"less than {_RESERVE} bytes are left on the disk of {folder.parent}", limit="bytes"
            )


def folder_size(folder: Path) -> tuple[int, int]:
    """Return how many bytes of disk, and how many files and folders, lie in a folder. No link is followed.

    :raises LimitExceeded: when it cannot be told: a folder that is closed to its owner, or too deep.
    """
    used = files = 0
    closed: list[OSError] = []
    try:
        for _, folders, names, descriptor in os.fwalk(folder, onerror=closed.append):
            for name in (*folders, *names):
                with suppress(FileNotFoundError):
                    used += os.stat(name, dir_fd=descriptor, follow_symlinks=False).st_blocks * 512
                files += 1
    except (RecursionError, OSError) as deep:
        if not isinstance(deep, FileNotFoundError | NotADirectoryError):
            raise LimitExceeded(
                "the build made folders that are too deep to look into", limit="files"
            ) from deep
    if any(isinstance(error, PermissionError) for error in closed):
        raise LimitExceeded("the build made a folder that cannot be looked into", limit="files")
    return used, files


def _resource_limits(limits: Limits) -> list[str]:
    return [
        "prlimit",
        "--core=0",
        f"--nofile={_OPEN_FILES}",
        f"--nproc={limits.processes + 4}",  # bubblewrap's own
        f"--fsize={limits.bytes}",
        f"--as={limits.memory}",
        "--",
    ]


def _namespaces(cell: Cell) -> list[str]:
    options = [
        *("--unshare-user", "--unshare-ipc", "--unshare-pid", "--unshare-uts", "--unshare-cgroup-try"),
        *("--disable-userns", "--die-with-parent", "--new-session", "--cap-drop", "ALL"),
        *("--uid", str(cell.user), "--gid", str(cell.user), "--hostname", cell.hostname),
        *("--clearenv", "--setenv", "PATH", _PATH),
    ]
    for name, value in sorted(cell.variables.items()):
        options += ["--setenv", name, value]
    return options if cell.network else [*options, "--unshare-net"]


def _view(cell: Cell) -> list[str]:
    """Return bubblewrap's options for what the command sees, in the order in which they are mounted."""
    options = ["--ro-bind", str(cell.root), "/"] if cell.root is not None else _machine_tools()
    options += ["--proc", "/proc", "--dev", "/dev"]
    options += ["--size", str(_SHARED_MEMORY), "--tmpfs", "/dev/shm", "--remount-ro", "/dev"]  # noqa: S108 - the command's own
    for mount in cell.mounts:
        options += ["--bind" if mount.writable else "--ro-bind", str(mount.source), mount.target]
    if cell.network:
        options += ["--ro-bind-try", "/etc/resolv.conf", "/etc/resolv.conf"]
    if cell.root is None:
        options += ["--remount-ro", "/"]
    return [*options, "--chdir", cell.folder]


def _machine_tools() -> list[str]:
    options: list[str] = []
    for name in _TOOLS:
        folder = Path("/", name)
        if folder.is_symlink():
            options += ["--symlink", str(folder.readlink()), str(folder)]
        elif folder.is_dir():
            options += ["--ro-bind", str(folder), str(folder)]
    for name in _TOOL_SETTINGS:
        options += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    return options


def _free_user() -> int:
    """Return a user number that no account of this machine has."""
    taken = {account.pw_uid for account in pwd.getpwall()}
    return secrets.choice([number for number in _DYNAMIC_USERS if number not in taken])


def _remove(folder: Path) -> None:
    """Remove a folder of any depth and any permissions; neither program follows links."""
    for command in (["chmod", "--recursive", "u+rwx"], ["rm", "--recursive", "--force"]):
        subprocess.run([*command, "--", str(folder)], check=False, capture_output=True, env={"PATH": _PATH})  # noqa: S603 - programs of the system
