# SPDX-License-Identifier: Apache-2.0
"""The root key's file: made once, complete or not at all, and for its owner's eyes only."""

from __future__ import annotations

import base64
import os
import secrets
import stat
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["ROOT_KEY_BYTES", "load_or_create_key_file", "read_key_file", "root_key_from_text"]

ROOT_KEY_BYTES: Final = 32
FILE_LIMIT: Final = 4096
OTHERS: Final = stat.S_IRWXG | stat.S_IRWXO


def root_key_from_text(text: str | bytes, origin: str) -> bytes:
    """Return the key that ``text`` holds as base64, white space around it aside.

    :param origin: where the text was found, for the error.
    :raises ConfigurationError: when it is not base64 of 32 bytes.
    """
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:  # binascii.Error is one; a character outside ASCII another
        key = b""
    if len(key) != ROOT_KEY_BYTES:
        raise ConfigurationError(
            f"{origin} does not hold a root key",
            hint=f"It must be base64 of {ROOT_KEY_BYTES} random bytes, as `openssl rand -base64 {ROOT_KEY_BYTES}` prints.",
        )
    return key


def read_key_file(path: Path) -> bytes:
    """Return the root key in the file.

    :raises ConfigurationError: when the file is missing, is readable by others than its owner, or holds no root key.
    """
    try:
        with open(path, "rb", opener=_open_without_waiting) as file:
            _check_status(
                path, os.fstat(file.fileno())
            )  # of what is open, not of what the name may mean by now
            return root_key_from_text(file.read(FILE_LIMIT), str(path))
    except OSError as error:
        raise _unusable(path, error) from error


def _open_without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a FIFO in the file's place must not hang the start


def _check_status(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise ConfigurationError(f"{path} is no regular file", hint="Name the file that holds the root key.")
    if status.st_mode & OTHERS:
        raise ConfigurationError(
            f"the root key file {path} is open to others than its owner (mode {stat.S_IMODE(status.st_mode):04o})",
            hint=f"Run `chmod 600 {path}` (in a Kubernetes secret volume: defaultMode 0400), and consider whether "
            "someone may have read the key already.",
        )
    if status.st_uid not in {os.geteuid(), 0}:
        raise ConfigurationError(
            f"the root key file {path} belongs to user {status.st_uid}",
            hint=f"It must belong to the user that runs this program: `chown {os.geteuid()} {path}`.",
        )


def load_or_create_key_file(path: Path) -> bytes:
    """Return the root key in the file, which is made with a new key if there is none.

    Of several processes that do so at once, one makes the key and all return it. A crash leaves no file, or a whole one.

    :raises ConfigurationError: when the file cannot be made or used.
    """
    if not os.path.lexists(path):
        try:
            _create(path)
        except OSError as error:
            raise _unusable(path, error) from error
    return read_key_file(path)


def _create(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(scratch, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(base64.b64encode(secrets.token_bytes(ROOT_KEY_BYTES)) + b"\n")
            file.flush()
            os.fsync(descriptor)
        with suppress(FileExistsError):  # another process was first: its key is the key
            os.link(scratch, path)
    finally:
        scratch.unlink()
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _unusable(path: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"cannot use the root key file {path}: {error.strerror}",
        hint="The file and its folder must belong to the user that runs this program.",
    )
