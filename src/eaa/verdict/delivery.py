# SPDX-License-Identifier: Apache-2.0
"""The folder that a build leaves: outputs and provenance together, complete or not at all."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import tempfile
from hashlib import file_digest
from pathlib import Path
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.verdict.build_file import RESERVED_NAMES
from eaa.verdict.envelope import MAX_ENVELOPE, parse_envelope
from eaa.verdict.errors import StatementError
from eaa.verdict.provenance import Provenance

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.verdict.envelope import Sealed
    from eaa.verdict.statement import Artifact

__all__ = ["PROVENANCE_FILE", "deliver", "delivered", "sha256_of"]

PROVENANCE_FILE: Final = "provenance.dsse.json"
_RENAME_EXCHANGE: Final = 2  # linux/fs.h
_AT_FDCWD: Final = -100


def sha256_of(path: Path) -> str:
    """Return the SHA-256, in hex, of a file."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


def delivered(folder: Path) -> tuple[Provenance, Sealed] | None:
    """Return the provenance of a build that lies in ``folder`` whole, every output being what it says; proven or not."""
    found = _provenance(folder)
    try:
        whole = found is not None and all(_holds(folder, each) for each in found[0].outputs)
    except OSError:
        return None
    return found if whole else None


def _provenance(folder: Path) -> tuple[Provenance, Sealed] | None:
    try:
        with (folder / PROVENANCE_FILE).open("rb") as file:
            sealed = parse_envelope(file.read(MAX_ENVELOPE + 1))
        return Provenance.from_statement(sealed.statement()), sealed
    except (OSError, StatementError):
        return None


def _holds(folder: Path, output: Artifact) -> bool:
    path = folder / output.name
    return path.parent == folder and path.is_file() and sha256_of(path) == output.sha256


def deliver(folder: Path, files: Mapping[str, Path | bytes]) -> None:
    """Make ``folder`` hold exactly ``files``. Until all of them are on disk it stays as it was.

    :raises ConfigurationError: when it holds something that no build has left there, or cannot be written.
    """
    try:
        if folder.exists() and not _is_ours(folder):
            raise ConfigurationError(
                f"{folder} is there and is not what a build has left; nothing in it is replaced",
                hint="Name a folder that does not exist yet with --out.",
            )
        folder.parent.mkdir(parents=True, exist_ok=True)
        draft = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
        try:
            draft.chmod(0o755)
            for name, content in files.items():
                _write(draft / name, content)
            _sync(draft)
            _put(draft, folder)
            _sync(folder.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror}", hint="Name a folder in a folder that is yours."
        ) from error


def _is_ours(folder: Path) -> bool:
    """Tell whether all that is in a folder was put there by a build."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    names = {path.name for path in folder.iterdir()}
    if PROVENANCE_FILE not in names:
        return not names
    found = _provenance(folder)
    outputs = {each.name for each in found[0].outputs} if found is not None else set()
    return all(name in outputs or name.startswith(RESERVED_NAMES) for name in names)


def _write(path: Path, content: Path | bytes) -> None:
    with path.open("xb") as file:
        if isinstance(content, bytes):
            file.write(content)
        else:
            with content.open("rb") as source:
                shutil.copyfileobj(source, file, 1 << 20)
        file.flush()
        os.fsync(file.fileno())
    path.chmod(0o644)


def _put(draft: Path, folder: Path) -> None:
    """Give the draft its name in one step; what had the name before has the draft's then."""
    if not folder.exists():
        draft.rename(folder)
        return
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(draft), _AT_FDCWD, os.fsencode(folder), ctypes.c_uint(_RENAME_EXCHANGE)
    )
    if done != 0:
        raise OSError(ctypes.get_errno() or errno.EIO, os.strerror(ctypes.get_errno()))


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
