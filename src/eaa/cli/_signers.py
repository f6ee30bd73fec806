# SPDX-License-Identifier: Apache-2.0
"""Whose reference values count: the signers' file, read for a server and begun for a newcomer, and the Verdicts that are subscribed to."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from eaa.cli._verdict_files import read_file, read_signers
from eaa.cli._write import write_file
from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    from eaa.cli._verdictd_config import VerdictConfig
    from eaa.verdict.signers import SignerPolicy
    from eaa.verdict.subscription import Source

__all__ = ["enrol", "signers_of", "sources_of"]


def signers_of(named: str | None, default: Path) -> Callable[[], SignerPolicy]:
    """Return what reads the signers' file whenever signatures are verified: the one that is named, or the default, which may be absent.

    The function raises :class:`~eaa.rats.ConfigurationError` when the file cannot be used.
    """
    path = Path(named) if named is not None else default
    kept: list[_Read] = []

    def read() -> SignerPolicy:
        from eaa.verdict.signers import SignerPolicy  # noqa: PLC0415 - --help does not need it

        if named is None and not default.exists():
            return SignerPolicy(())
        # It is asked often, and parsed only when a file says something else than before: times of files can lie, bytes cannot.
        if kept and all(read_file(*each) == content for each, content in kept[0].files.items()):
            return kept[0].policy
        files: dict[tuple[Path, int], bytes] = {}

        def reading(file: Path, limit: int) -> bytes:
            return files.setdefault((file, limit), read_file(file, limit))

        policy = read_signers(path, reading)
        kept[:] = [_Read(policy, files)]
        return policy

    return read


class _Read(NamedTuple):
    """Who may sign, and what the files said from which that follows."""

    policy: SignerPolicy
    files: dict[tuple[Path, int], bytes]


def sources_of(configuration: VerdictConfig) -> list[Source]:
    """Return the Verdicts that are subscribed to.

    :raises ConfigurationError: when a file of theirs cannot be used.
    """
    from eaa._keys import read_public_key  # noqa: PLC0415 - --help does not need it
    from eaa.verdict.subscription import Source  # noqa: PLC0415

    found = []
    for each in configuration.subscribe:
        try:
            key = read_public_key(Path(each.index_key).read_bytes())
            token = Path(each.token_file).read_text(encoding="ascii").strip()
            tls = None if each.ca_file is None else ssl.create_default_context(cafile=each.ca_file)
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or type(error).__name__
            raise ConfigurationError(
                f"a file for the Verdict at {each.url} cannot be read: {reason}",
                hint="They are index_key, token_file and ca_file under [[verdict.subscribe]].",
            ) from error
        found.append(Source(each.url, key, token, tls))
    return found


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
