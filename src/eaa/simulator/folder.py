# SPDX-License-Identifier: Apache-2.0
"""The folder that a chip maker is kept in: ``vendor.json`` (0600) with its seed, and its root certificate for others to read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = [
    "AUTHORITIES",
    "SEED_SIZE",
    "State",
    "home_of",
    "is_founded",
    "moment",
    "read_state",
    "write_secret",
    "write_state",
]

AUTHORITIES: Final = ("platform", "processor")
SEED_SIZE: Final = 32
_FILE: Final = "vendor.json"
_FORMAT: Final = 1
_MAX_SERIAL: Final = 1 << 159
_FIRST_YEAR: Final = 2000
_LAST_YEAR: Final = 2200
_ABOUT: Final = "A simulated chip maker. The seed is secret: it is the root CA's key and every other key."


@dataclass(frozen=True)
class State:
    """All that determines a chip maker: its seed, when it was founded, and the serial numbers it revoked, by CA."""

    seed: bytes = field(repr=False)
    created: datetime
    revoked: Mapping[str, tuple[int, ...]]


def home_of(folder: Path) -> Path:
    """Return where the chip maker of ``folder`` lives: in itself, or in ``simulator/`` of a Verdictd data folder."""
    within = folder / "simulator"
    if not is_founded(folder) and (within.is_dir() or (folder / "verdictd.db").exists()):
        return within
    return folder


def moment(time: datetime) -> datetime:
    """Return ``time`` in UTC and whole seconds, as certificates and collateral have it.

    :raises ConfigurationError: when it has no time zone, or certificates around it could not be written.
    """
    if time.tzinfo is None or not _FIRST_YEAR <= time.year <= _LAST_YEAR:
        raise ConfigurationError(
            f"the simulated chip maker does not know the time {time.isoformat()}",
            hint=f"Give a time with its offset, in the years {_FIRST_YEAR} to {_LAST_YEAR}.",
        )
    return time.astimezone(UTC).replace(microsecond=0)


def is_founded(home: Path) -> bool:
    """Tell whether a chip maker is kept in ``home``."""
    return (home / _FILE).exists()


def read_state(home: Path) -> State:
    """Read the chip maker that is kept in ``home``.

    :raises ConfigurationError: when there is none, or its file cannot be used.
    """
    path = home / _FILE
    try:
        return _state(json.loads(path.read_bytes()))
    except (FileNotFoundError, NotADirectoryError) as error:
        raise ConfigurationError(
            f"there is no chip maker in {home}",
            hint="`eaa sim init DIR` founds one, and so does `verdictd --data DIR --simulator`.",
        ) from error
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError, ConfigurationError):
        # Whatever went wrong may quote the file, which holds the seed: it is neither shown nor chained.
        raise ConfigurationError(
            f"{path} is not a chip maker's file of this version", hint="Found a new one in another folder."
        ) from None


def write_state(home: Path, state: State, root: Mapping[str, bytes], *, keep: bool) -> None:
    """Write a chip maker and the files of its ``root`` certificate into ``home``, which is made with mode 0700.

    With ``keep``, a chip maker that is there already stays as it is.

    :raises ConfigurationError: when the folder holds something else or cannot be written.
    """
    try:
        home.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = {entry.name for entry in home.iterdir() if not entry.name.startswith(".")}
        foreign = sorted(found - set(root))
        if foreign and not is_founded(home):
            raise ConfigurationError(
                f"{home} is no chip maker's folder: it holds {foreign[0]}", hint="Name another folder."
            )
        text = json.dumps(_to_json(state), indent=2) + "\n"
        if write_secret(home / _FILE, text.encode(), keep=keep):
            for name, content in root.items():
                (home / name).write_bytes(content)
    except OSError as error:
        raise ConfigurationError(f"cannot write the chip maker to {home}: {error.strerror}") from error


def _state(stored: Any) -> State:
    seed = bytes.fromhex(stored["seed"])
    if stored["format"] != _FORMAT or len(seed) != SEED_SIZE:
        raise ValueError
    created = moment(datetime.fromisoformat(stored["created"]))
    revoked = {ca: tuple(int(serial, 16) for serial in stored["revoked"][ca]) for ca in AUTHORITIES}
    if not all(0 < serial < _MAX_SERIAL for serials in revoked.values() for serial in serials):
        raise ValueError
    return State(seed, created, revoked)


def _to_json(state: State) -> dict[str, Any]:
    return {
        "format": _FORMAT,
        "about": _ABOUT,
        "created": state.created.isoformat().replace("+00:00", "Z"),
        "seed": state.seed.hex(),
        "revoked": {ca: [f"{serial:x}" for serial in state.revoked[ca]] for ca in AUTHORITIES},
    }


def write_secret(path: Path, content: bytes, *, keep: bool) -> bool:
    """Write a file of mode 0600 in one step and tell whether it was; with ``keep``, one that is there stays."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
    if not keep:
        draft.replace(path)
        return True
    try:
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True
