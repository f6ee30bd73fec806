# SPDX-License-Identifier: Apache-2.0
"""The data directory: folders 0700, secrets 0600, and neither used when others may write or read them."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["make_folder", "read_secret"]


def make_folder(path: Path) -> Path:
    """Create a folder only its owner may enter, and return it; one that exists keeps its mode unless others could write to it.

    :raises ConfigurationError: when it cannot be made or others may write to it.
    """
    try:
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigurationError(f"cannot use {path} as data directory: {error.strerror}") from error
    if mode & 0o022:
        raise ConfigurationError(
            f"others may write to {path}",
            hint=f"Run chmod go-w {path}: it holds the keys everything rests on.",
        )
    return path


def read_secret(path: Path) -> bytes:
    """Return the content of a secret file.

    :raises ConfigurationError: when it cannot be read, or when anyone but its owner may read it.
    """
    try:
        with path.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & 0o077:
                raise ConfigurationError(f"others may read {path}", hint=f"Run chmod 600 {path}.")
            return stream.read()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
