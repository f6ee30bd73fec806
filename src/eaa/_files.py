# SPDX-License-Identifier: Apache-2.0
"""Files that are whole or not there, with their mode from the first byte on."""

from __future__ import annotations

import os
import secrets
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_whole"]


def write_whole(path: Path, content: bytes, *, mode: int = 0o600, new: bool = False) -> None:
    """Write a file that has its name only when it is complete and on disk; one that is ``new`` is made under its name at once.

    :param new: refuse to replace a file that is there.
    :raises OSError: when it cannot be written; nothing is left of it then.
    """
    draft = path if new else path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        if not new:
            draft.replace(path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
