# SPDX-License-Identifier: Apache-2.0
"""Files that commands leave: complete or not at all, and secrets for their owner's eyes only."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_file"]


def write_file(path: Path, data: bytes, mode: int, *, new: bool = False) -> None:
    """Write a file whose ``mode`` holds from the first byte on, and give it its name when it is on disk.

    :param new: refuse to replace a file that is there.
    :raises ConfigurationError: when it cannot be written.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe or a terminal, which nothing can take the place of
            path.write_bytes(data)
        else:
            _put(path, data, mode, new=new)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise ConfigurationError(
            f"{path} cannot be written: {reason}", hint="Name a file in a folder that is yours."
        ) from error


def _put(path: Path, data: bytes, mode: int, *, new: bool) -> None:
    draft = path if new else path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
