# SPDX-License-Identifier: Apache-2.0
"""Files that commands leave: complete or not at all, and secrets for their owner's eyes only."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eaa._files import write_whole
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
            write_whole(path, data, mode=mode, new=new)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a file name"
        raise ConfigurationError(
            f"{path} cannot be written: {reason}", hint="Name a file in a folder that is yours."
        ) from error
