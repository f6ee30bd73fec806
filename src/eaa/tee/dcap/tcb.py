# SPDX-License-Identifier: Apache-2.0
"""TCB levels: which one a platform reaches, and how several statuses become one.

The rules are those of Intel's Quote Verification Library: component-wise comparison, convergence of platform, module and
quoting enclave, and relaunch advice for TDs that outlived an update of the TDX module.
"""

from __future__ import annotations

from dataclasses import dataclass
from operator import ge
from typing import TYPE_CHECKING, Final, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

    from eaa.tee.dcap.collateral import IdentityLevel, TcbInfo
    from eaa.tee.dcap.shapes import TcbLevel

__all__ = [
    "Rating",
    "best_level",
    "combine",
    "converge",
    "match_isv_level",
    "match_level",
    "relaunch",
    "shortfalls",
    "svn_shortfall",
]

UP_TO_DATE: Final = "UpToDate"
RELAUNCH: Final = "TDRelaunchAdvised"
"""With or without ``ConfigurationNeeded`` after it."""

_HARDENED: Final = frozenset({UP_TO_DATE, "SWHardeningNeeded"})
_CONFIGURED: Final = frozenset({"ConfigurationNeeded", "ConfigurationAndSWHardeningNeeded"})
_OUT_OF_DATE: Final = frozenset({"OutOfDate", "OutOfDateConfigurationNeeded"})


@dataclass(frozen=True, slots=True)
class Rating:
    """A converged status with the advisories of everything that went into it, sorted, and what keeps it from a better one."""

    status: str
    advisory_ids: tuple[str, ...]
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        return "; ".join((self.status, *self.reasons))


def match_level(
    levels: Sequence[TcbLevel],
    components: Sequence[int],
    pce_svn: int,
    tdx_components: Sequence[int] | None = None,
) -> TcbLevel | None:
    """Return the first level all of whose SVNs the platform reaches, component by component (attack A6).

    ``tdx_components`` is TEE_TCB_SVN for a TD. When its byte 1, the module's major version, is not zero, bytes 0 and 1 are
    rated by the module's identity instead and are left out here.
    """
    start = 2 if tdx_components is not None and tdx_components[1] > 0 else 0
    for level in levels:
        tcb = level.tcb
        if pce_svn < tcb.pcesvn or not tcb.reached_by(components):
            continue
        if tdx_components is None:
            return level
        needed = tcb.tdx_components
        if needed is not None and all(map(ge, tdx_components[start:], needed[start:])):
            return level
    return None


_L = TypeVar("_L", "TcbLevel", "IdentityLevel")


def best_level(levels: Sequence[_L]) -> _L:
    """Return the level that a platform should reach: the first that is up to date, or where none is, the first of all."""
    return next((level for level in levels if level.status == UP_TO_DATE), levels[0])


def shortfalls(
    level: TcbLevel,
    info: TcbInfo,
    components: Sequence[int],
    pce_svn: int,
    tdx_components: Sequence[int] | None = None,
) -> tuple[str, ...]:
    """Say which of the SVNs that :func:`match_level` compares are below those of ``level``, for a reader."""
    start = 2 if tdx_components is not None and tdx_components[1] > 0 else 0
    missed = _missed("SGX", components, level.tcb.sgx_components, info.newest.sgx_label, 0)
    if pce_svn < level.tcb.pcesvn:
        missed.append(f"PCE SVN is {pce_svn}, needs {level.tcb.pcesvn}")
    missed += _missed(
        "TDX", tdx_components or (), level.tcb.tdx_components or (), info.newest.tdx_label, start
    )
    return _for(level, missed)


def _missed(
    kind: str, found: Sequence[int], needed: Sequence[int], label_of: Callable[[int], str], start: int
) -> list[str]:
    """Name the components, from the one at ``start`` on, that are below what is needed."""
    missed = [
        (n, label_of(n))
        for n, (has, needs) in enumerate(zip(found, needed, strict=False))
        if has < needs and n >= start
    ]
    return [
        f"{kind} component {n + 1}{label and f' ({label})'} is {found[n]}, needs {needed[n]}"
        for n, label in missed
    ]


def svn_shortfall(what: str, svn: int, levels: Sequence[IdentityLevel]) -> tuple[str, ...]:
    """Say how far the SVN of an enclave or module is below its best level; nothing when it is not."""
    if not levels or svn >= (best := best_level(levels)).isv_svn:
        return ()
    return _for(best, [f"{what} is {svn}, needs {best.isv_svn}"])


def _for(level: TcbLevel | IdentityLevel, missed: Sequence[str]) -> tuple[str, ...]:
    """Return one reason that says for which level something is missed, or none."""
    when = f" of {level.date.date()}" if level.date is not None else ""
    return (f"for {level.status}{when}, {'; '.join(missed)}",) if missed else ()


def match_isv_level(levels: Iterable[IdentityLevel], isv_svn: int) -> IdentityLevel | None:
    """Return the first level whose SVN is reached."""
    return next((level for level in levels if isv_svn >= level.isv_svn), None)


def converge(platform: str, components: Iterable[str]) -> str:
    """Return the status of a platform whose module and quoting enclave have the statuses ``components``."""
    parts = set(components)
    if platform == "Revoked" or "Revoked" in parts:
        return "Revoked"
    if parts & _OUT_OF_DATE:
        if platform in _HARDENED:
            return "OutOfDate"
        if platform in _CONFIGURED:
            return "OutOfDateConfigurationNeeded"
    return platform


def relaunch(launch: str, current: str) -> str:
    """Return the status of a TD that was launched under ``launch`` and now runs on a platform rated ``current``."""
    if launch not in _OUT_OF_DATE or current not in _HARDENED | _CONFIGURED:
        return launch
    if launch == "OutOfDateConfigurationNeeded" or current in _CONFIGURED:
        return f"{RELAUNCH}ConfigurationNeeded"
    return RELAUNCH


def combine(platform: TcbLevel, components: Sequence[IdentityLevel]) -> Rating:
    """Converge a platform's level with those of its module and quoting enclave, joining their advisories."""
    advisories = set(platform.advisory_ids).union(*(each.advisory_ids for each in components))
    return Rating(converge(platform.status, (each.status for each in components)), tuple(sorted(advisories)))
