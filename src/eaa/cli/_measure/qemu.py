# SPDX-License-Identifier: Apache-2.0
"""The owner's own QEMU, run until firmware has asked for the ACPI tables, to learn which it was given.

QEMU makes the tables when firmware first asks for them, from what firmware has set up until then (where PCI configuration space
and the devices' memory lie), and keeps them from then on. So firmware has to run, without hardware acceleration and as briefly as that takes: the
machine is stopped at once, and the tables are read through QEMU's test protocol (``qtest``) from the same device that firmware reads them from.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.tee.fw_cfg import DIRECTORY, DMA_ADDRESS, ENTRY_SIZE, MAX_FILES, File, dma_read, parse_directory
from eaa.tee.tdx.acpi import MAX_BLOB, AcpiBlobs

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import BinaryIO

__all__ = ["ask_for_acpi"]

_REQUEST_AT: Final = 0x1000
_CONTENT_AT: Final = 0x10_0000
_POLL: Final = 0.02
_HINT: Final = "Give the machine as QEMU gets it: -machine, -m, -smp, devices and firmware (-bios or pflash)."
_REFUSED: Final = ("-daemonize", "-qtest", "-qmp", "-trace", "-D", "-S", "-incoming", "-loadvm")


def ask_for_acpi(qemu: str, machine: Sequence[str], seconds: float) -> AcpiBlobs:
    """Return the ACPI tables that this QEMU gives to the firmware of this machine.

    :param machine: QEMU's arguments; without an accelerator among them, TCG is used.
    :raises ConfigurationError: when QEMU does not start, or firmware does not ask for the tables in time.
    :raises InputError: when what QEMU says of its files cannot be.
    """
    _check(machine)
    with (
        tempfile.TemporaryDirectory(prefix="eaa-acpi-") as folder,
        _started(qemu, machine, Path(folder), seconds) as ours,
    ):
        files = parse_directory(ours.read(File(DIRECTORY, 4 + MAX_FILES * ENTRY_SIZE)))
        wanted = [files.get(name) for name in ("etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables")]
        loader, rsdp, tables = wanted
        if loader is None or rsdp is None or tables is None:
            raise ConfigurationError("this machine has no ACPI tables", hint=_HINT)
        ours.run_until_selected(loader.key)
        return AcpiBlobs(ours.read(loader), ours.read(rsdp), ours.read(tables))


def _check(machine: Sequence[str]) -> None:
    for word in machine:
        if f"-{word.lstrip('-')}" in _REFUSED and word.startswith("-"):
            raise ConfigurationError(f"{word} cannot be among the machine's arguments", hint=_HINT)
    if not any(word in {"-bios", "--bios"} or "pflash" in word for word in machine):
        raise ConfigurationError(
            "the machine has no firmware, which has a part in its ACPI tables", hint=_HINT
        )


@contextmanager
def _started(qemu: str, machine: Sequence[str], folder: Path, seconds: float) -> Iterator[_Qemu]:
    """Start QEMU, stopped, with both of its control sockets in ``folder``; end it whatever happens."""
    deadline = time.monotonic() + seconds
    chosen = any(word.lstrip("-") == "accel" or "accel=" in word for word in machine)
    command = [
        qemu, *machine, *(() if chosen else ("-accel", "tcg")), "-S", "-no-reboot", "-display", "none", "-monitor", "none",
        "-qtest", f"unix:{folder / 'qtest'}", "-qtest-log", "none", "-qmp", f"unix:{folder / 'qmp'}",
        "-trace", "enable=fw_cfg_select", "-D", str(folder / "trace"),
    ]  # fmt: skip
    with (
        _listening(folder / "qtest") as for_qtest,
        _listening(folder / "qmp") as for_qmp,
        (folder / "said").open("w+b") as said,
    ):
        try:
            process = subprocess.Popen(  # noqa: S603 - the program and the arguments that the owner named
                command, stdin=subprocess.DEVNULL, stdout=said, stderr=said, start_new_session=True
            )
        except OSError as error:
            raise ConfigurationError(
                f"cannot start {qemu}: {error.strerror}", hint="Name it with --qemu."
            ) from error
        try:
            qtest, qmp = (_accepted(each, process, said, deadline) for each in (for_qtest, for_qmp))
            with qtest, qmp:
                yield _Qemu(qtest, qmp, folder / "trace", deadline)
        except (OSError, ValueError, EOFError) as error:
            raise ConfigurationError(
                f"QEMU ended or did not answer{_last_words(said)}", hint=_HINT
            ) from error
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(path))
    listener.listen(1)
    listener.settimeout(_POLL)
    return listener


def _accepted(
    listener: socket.socket, process: subprocess.Popen[bytes], said: BinaryIO, deadline: float
) -> socket.socket:
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ConfigurationError(f"QEMU did not start{_last_words(said)}", hint=_HINT)
        try:
            return listener.accept()[0]
        except TimeoutError:
            continue
    raise ConfigurationError("QEMU did not start in time", hint=_HINT)


def _last_words(said: BinaryIO) -> str:
    said.seek(0)
    lines = said.read(1 << 16).decode(errors="replace").strip().splitlines()
    return f": {lines[-1][:200]}" if lines else ""


class _Qemu:
    """A QEMU that waits: its test protocol and its machine protocol, each a line at a time."""

    def __init__(self, qtest: socket.socket, qmp: socket.socket, trace: Path, deadline: float) -> None:
        self._qtest, self._qmp, self._trace, self._deadline = qtest, qmp, trace, deadline
        self._answers, self._messages = qtest.makefile("rb"), qmp.makefile("rb")
        self._message("greeting")
        self._execute("qmp_capabilities")

    def read(self, file: File) -> bytes:
        """Return a file's content, and the zeros behind it if the file is shorter than said. Guest memory is written to."""
        if file.size > MAX_BLOB:
            raise ConfigurationError(f"QEMU has a file of {file.size} bytes, at most {MAX_BLOB} are read")
        request = dma_read(file, _CONTENT_AT)
        address = int.from_bytes(_REQUEST_AT.to_bytes(4, "big"), "little")
        self._ask(f"write {_REQUEST_AT:#x} {len(request)} 0x{request.hex()}")
        self._ask(f"outl {DMA_ADDRESS:#x} 0x0")
        self._ask(f"outl {DMA_ADDRESS + 4:#x} {address:#x}")
        return bytes.fromhex(self._ask(f"read {_CONTENT_AT:#x} {file.size:#x}").removeprefix("0x"))

    def run_until_selected(self, key: int) -> None:
        """Let the machine run until firmware selects the file with this key, then stop it."""
        self._execute("cont")
        selected = f"key {key:#06x} "
        while not (self._trace.exists() and selected in self._trace.read_text(errors="replace")):
            if time.monotonic() > self._deadline:
                raise ConfigurationError(
                    "the firmware did not ask for the ACPI tables in time",
                    hint="Give more time with --timeout; QEMU must have been built with the trace backend log, as distributions do.",
                )
            time.sleep(_POLL)
        self._execute("stop")

    def _ask(self, command: str) -> str:
        self._qtest.settimeout(self._left())
        self._qtest.sendall(f"{command}\n".encode())
        while True:
            status, _, answer = _line(self._answers).partition(" ")
            if status == "OK":
                return answer
            if status != "IRQ":
                raise ConfigurationError("QEMU refused a command of its test protocol")

    def _execute(self, command: str) -> None:
        self._qmp.settimeout(self._left())
        self._qmp.sendall(json.dumps({"execute": command}).encode() + b"\n")
        while True:
            answer = self._message(command)
            if "error" in answer:
                raise ConfigurationError(f"QEMU refused {command}")
            if "return" in answer:
                return

    def _message(self, what: str) -> dict[str, Any]:
        self._qmp.settimeout(self._left())
        message = json.loads(_line(self._messages))
        if not isinstance(message, dict):
            raise ConfigurationError(f"QEMU's answer to {what} is none")
        return message

    def _left(self) -> float:
        return max(self._deadline - time.monotonic(), 0.1)


def _line(stream: BinaryIO) -> str:
    line = stream.readline(2 * MAX_BLOB + 64)
    if not line.endswith(b"\n"):
        raise EOFError
    return line.decode().strip()
