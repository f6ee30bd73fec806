# SPDX-License-Identifier: Apache-2.0
"""The file that says who may sign which product's reference values: read for a server, and begun for a newcomer."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from eaa.cli._verdict_files import read_signers
from eaa.cli._write import write_file
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.verdict.signers import SignerPolicy

__all__ = ["enrol", "signers_of"]


def signers_of(named: str | None, default: Path) -> Callable[[], SignerPolicy]:
    """Return what reads the signers' file whenever signatures are verified: the one that is named, or the default, which may be absent.

    The function raises :class:`~eaa.rats.ConfigurationError` when the file cannot be used.
    """

    def read() -> SignerPolicy:
        from eaa.verdict.signers import SignerPolicy  # noqa: PLC0415 - --help does not need it

        if named is None and not default.exists():
            return SignerPolicy(())
        return read_signers(Path(named) if named is not None else default)

    return read


def enrol(path: Path, product: str, name: str, public: bytes) -> str | None:
    """Let a key sign a product, alone, in a signers' file that this may make; return what must be written there by hand instead, if so.

    :raises ConfigurationError: when the file is unsound, or cannot be written.
    """
    key = f'"{name}" = """\n{public.decode().strip()}\n"""\n'
    entry = f'[products."{product}"]\nsigners = ["{name}"]\nthreshold = 1\n'
    if not path.exists():
        write_file(path, f"[keys]\n{key}\n{entry}".encode(), 0o600)
        read_signers(path)
        return None
    policy = read_signers(path)
    if any(each.pattern == product for each in policy.products):
        return f'to [keys]:\n{key}and its name to the signers of [products."{product}"]'
    text = path.read_text(encoding="utf-8")
    head, keys, rest = text.partition("[keys]\n")
    if not keys or f'"{name}" =' in text:
        return f"to [keys]:\n{key}and below:\n{entry}"
    draft = path.with_name(f"{path.name}.new")
    write_file(draft, f"{head}{keys}{key}{rest.rstrip()}\n\n{entry}".encode(), 0o600)
    try:
        read_signers(draft)
        draft.replace(path)
    except (ConfigurationError, OSError):
        draft.unlink(missing_ok=True)
        return f"to [keys]:\n{key}and below:\n{entry}"
    return None
