# SPDX-License-Identifier: Apache-2.0
"""The conditions that a build runs under: as its file pins them, or varied in everything that must not matter.

What is varied is what reprotest varies, as far as it can be done without privileges. That an output is the same under both
shows that it follows from the sources and not from where, when and by whom it was built.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.verdict.build_file import BuildFile, Environment

__all__ = ["CLOCK_FOLDER", "Conditions", "Variation", "pinned", "varied"]

CLOCK_FOLDER: Final = "/.clock"
_FAKETIME: Final = Path(f"/usr/lib/{platform.machine()}-linux-gnu/faketime/libfaketime.so.1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Conditions:
    """Where, as whom and with which settings the commands of a build run."""

    folder: str = "/build"
    user: int = 1000
    hostname: str = "build"
    umask: int
    file_time: int
    variables: Mapping[str, str] = field(default_factory=dict)
    one_core: bool = False
    reverse: bool = False
    faketime: Path | None = None


@dataclass(frozen=True, slots=True)
class Variation:
    """One condition that a rebuild changes, and how; or, when it does not, why."""

    name: str
    applied: bool
    how: str


def pinned(environment: Environment) -> Conditions:
    """Return the conditions that a build file pins."""
    variables = {
        **environment.variables,
        "HOME": "/tmp",  # noqa: S108 - the build's own
        "LANG": environment.locale,
        "LC_ALL": environment.locale,
        "SOURCE_DATE_EPOCH": str(environment.source_date_epoch),
        "TZ": environment.timezone,
    }
    return Conditions(
        umask=int(environment.umask, 8), file_time=environment.source_date_epoch, variables=variables
    )


def varied(file: BuildFile, *, cores: int) -> tuple[Conditions, tuple[Variation, ...]]:
    """Return conditions that differ from the pinned ones in all but what the build file asks to keep, and what differs.

    :param cores: how many cores this machine has for us.
    """
    conditions = pinned(file.environment)
    variations = []
    for name, (how, change) in _CHANGES.items():
        reason = "the build file asks to keep it" if name in file.keep else ""
        if name == "cores" and cores == 1:
            reason = reason or "this machine has one core"
        if name == "clock" and not reason:
            how = how if _FAKETIME.is_file() else _WITHOUT_FAKETIME  # noqa: PLW2901 - what is said of it
        variations.append(Variation(name, applied=not reason, how=reason or how))
        if not reason:
            conditions = change(conditions)
    return conditions, tuple(variations)


def _setting(**variables: str) -> Callable[[Conditions], Conditions]:
    return lambda plain: replace(plain, variables={**plain.variables, **variables})


def _clock(plain: Conditions) -> Conditions:
    if not _FAKETIME.is_file():
        return plain
    preload = {
        "LD_PRELOAD": f"{CLOCK_FOLDER}/{_FAKETIME.name}",
        "FAKETIME": "+400d",
        "NO_FAKE_STAT": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    return replace(plain, variables={**plain.variables, **preload}, faketime=_FAKETIME.parent)


_WITHOUT_FAKETIME: Final = "seconds later (400 days where libfaketime is installed)"
_CHANGES: Final[Mapping[str, tuple[str, Callable[[Conditions], Conditions]]]] = {
    "clock": ("400 days later by libfaketime, for programs that are linked statically seconds later", _clock),
    "cores": ("one", lambda plain: replace(plain, one_core=True)),
    "environment": (
        "one variable more, another home",
        _setting(CAPTURE_ENVIRONMENT="must not be in the output", HOME="/nonexistent/home"),
    ),
    "file-times": (
        "inputs are a day younger",
        lambda plain: replace(plain, file_time=plain.file_time + 86400),
    ),
    "locale": (
        "fr_CH.UTF-8",
        _setting(LANG="fr_CH.UTF-8", LC_ALL="fr_CH.UTF-8", LANGUAGE="fr_CH:fr"),
    ),
    "order": ("inputs are laid out in reverse", lambda plain: replace(plain, reverse=True)),
    "path": (
        "/rebuild/in/another/folder",
        lambda plain: replace(plain, folder="/rebuild/in/another/folder"),
    ),
    "timezone": ("GMT+12", _setting(TZ="GMT+12")),
    "umask": (
        "0002, or 0077 where that is pinned",
        lambda plain: replace(plain, umask=0o077 if plain.umask == 0o002 else 0o002),
    ),
    "user": ("user 4321 on host elsewhere", lambda plain: replace(plain, user=4321, hostname="elsewhere")),
}
