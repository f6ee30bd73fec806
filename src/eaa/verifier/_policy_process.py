# SPDX-License-Identifier: Apache-2.0
"""One child process in which policies run, as its parent sees it: ask, wait no longer than the deadline, replace when it fails."""

from __future__ import annotations

import json
import os
import selectors
import struct
import subprocess
import sys
from pathlib import Path
from threading import Lock
from time import monotonic
from typing import IO, Any, Final

from eaa.rats import PolicyError, UnavailableError

__all__ = ["PolicyProcess"]

_WORKER: Final = Path(__file__).with_name("_policy_worker.py")
_LENGTH: Final = struct.Struct(">I")
_MAX_ANSWER: Final = 1024 * 1024
_START_SECONDS: Final = 20.0
_GRACE_SECONDS: Final = 1.0


class _Broken(Exception):
    """The child died or talks nonsense."""


class PolicyProcess:
    """A child process that evaluates policies, one at a time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._fresh = True
        self._child: subprocess.Popen[bytes] | None = None
        self._closed = False

    @property
    def pid(self) -> int | None:
        """The child's process id while there is one."""
        return self._child.pid if self._child is not None else None

    def start(self) -> None:
        """Start the child unless it runs.

        :raises UnavailableError: when it does not come up, or after :meth:`stop`.
        """
        with self._lock:
            self._start()

    def _start(self) -> None:
        if self._closed:
            raise UnavailableError(
                "the policy engine is closed", hint="The server is stopping; ask again later."
            )
        if self._child is not None and self._child.poll() is None:
            return
        self._end()
        # -I keeps the user's site and PYTHON* variables out; the environment is empty because policies could read it.
        self._child = subprocess.Popen(  # noqa: S603 - our own interpreter and our own file
            [sys.executable, "-I", str(_WORKER)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            cwd="/",
            start_new_session=True,
        )
        self._fresh = True
        try:
            self._receive(monotonic() + _START_SECONDS)
        except (_Broken, TimeoutError) as error:
            self._end()
            raise UnavailableError(
                "the policy engine does not start",
                hint="Check that the package regopy works on this machine.",
            ) from error

    def ask(self, request: dict[str, Any], seconds: float, *, once: bool = False) -> dict[str, Any]:
        """Send one request and return the answer. ``once`` ends the child afterwards, as the engine's clock stands still at its first use.

        :raises PolicyError: when there is no answer within ``seconds``, or the child dies over it; the next call starts a new child.
        :raises UnavailableError: when no child can be started.
        """
        body = json.dumps({**request, "seconds": seconds + _GRACE_SECONDS}).encode()
        message = _LENGTH.pack(len(body)) + body
        with self._lock:
            try:
                return self._ask(message, seconds)
            finally:
                if once:
                    self._end()

    def _ask(self, message: bytes, seconds: float) -> dict[str, Any]:
        self._start()
        began = monotonic()
        try:
            return self._exchange(message, began + seconds)
        except _Broken:
            if self._fresh:
                raise _failed() from None
        # What came before may have left the child in a bad state: this policy is judged by a fresh one, in the time that is left.
        left = began + seconds - monotonic()
        self._start()
        try:
            return self._exchange(message, monotonic() + left)
        except _Broken:
            raise _failed() from None

    def _exchange(self, message: bytes, deadline: float) -> dict[str, Any]:
        try:
            self._send(message, deadline)
            answer = self._receive(deadline)
        except TimeoutError:
            self._end()
            raise PolicyError(
                "the policy was not evaluated within its time",
                hint="Make it simpler: no unbounded iteration, no regular expression with nested repetition.",
            ) from None
        except _Broken:
            self._end()
            raise
        self._fresh = False
        return answer

    def stop(self) -> None:
        """Kill the child and start no other; a call that waits for it fails. To be followed by :meth:`close`."""
        self._closed = True
        if (child := self._child) is not None:
            child.kill()

    def close(self) -> None:
        """End the child for good, once no call waits for it."""
        self.stop()
        with self._lock:
            self._end()

    def _end(self) -> None:
        child, self._child = self._child, None
        if child is None:
            return
        child.kill()
        child.wait()
        for pipe in (child.stdin, child.stdout):
            if pipe is not None:
                _close(pipe)

    def _pipe(self, name: str) -> int:
        pipe = getattr(self._child, name, None)
        if pipe is None or pipe.closed:
            raise _Broken("closed")
        descriptor: int = pipe.fileno()
        os.set_blocking(descriptor, False)
        return descriptor

    def _send(self, data: bytes, deadline: float) -> None:
        descriptor, view = self._pipe("stdin"), memoryview(data)
        while view:
            _wait(descriptor, selectors.EVENT_WRITE, deadline)
            try:
                view = view[os.write(descriptor, view) :]
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Broken("the pipe is broken") from error

    def _receive(self, deadline: float) -> dict[str, Any]:
        (length,) = _LENGTH.unpack(self._read(_LENGTH.size, deadline))
        if length > _MAX_ANSWER:
            raise _Broken("an answer that is too long")
        try:
            answer = json.loads(self._read(length, deadline), parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise _Broken("an answer that is not JSON") from error
        if not isinstance(answer, dict):
            raise _Broken("an answer that is no object")
        return answer

    def _read(self, size: int, deadline: float) -> bytes:
        descriptor, parts, left = self._pipe("stdout"), [], size
        while left:
            _wait(descriptor, selectors.EVENT_READ, deadline)
            try:
                part = os.read(descriptor, left)
            except BlockingIOError:
                continue
            except OSError as error:
                raise _Broken("the pipe is broken") from error
            if not part:
                raise _Broken("the child is gone")
            parts.append(part)
            left -= len(part)
        return b"".join(parts)


def _failed() -> PolicyError:
    return PolicyError(
        "the policy made the engine fail", hint="It needs too much memory or is nested too deeply."
    )


def _wait(descriptor: int, event: int, deadline: float) -> None:
    with selectors.DefaultSelector() as selector:
        selector.register(descriptor, event)
        if not selector.select(max(0.0, deadline - monotonic())):
            raise TimeoutError


def _close(pipe: IO[bytes]) -> None:
    try:
        pipe.close()
    except OSError:
        # Data that a dead child will never read may still sit in the buffer; the descriptor is closed all the same.
        return


def _no_constant(name: str) -> float:
    raise ValueError(name)
