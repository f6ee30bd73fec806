# SPDX-License-Identifier: Apache-2.0
"""Releases of the chip maker's TCB data: what each TCB evaluation data number says, as recoveries follow each other."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from eaa.simulator.collateral import (
    QE_MODELS,
    QVE_MODEL,
    TCB_LEVELS,
    TDX_MODULE_VERSION,
    TDX_MODULES,
    IsvLevel,
    QeModel,
    TcbLevel,
)
from eaa.simulator.folder import moment
from eaa.simulator.traits import svns

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import TypeVar

    from eaa.simulator.timeline import Recovery, Timeline

    _Level = TypeVar("_Level", TcbLevel, IsvLevel)

__all__ = ["Release", "releases"]

_FIRST_EVENT: Final = datetime(2024, 11, 12, tzinfo=UTC)
"""When the first release became public: Intel's number 18."""
_DEMOTED: Final = frozenset({"UpToDate", "SWHardeningNeeded", "ConfigurationNeeded"})
_LATE_MICROCODE: Final = 2
"""The component of a TDX TCB level that late microcode updates raise."""


@dataclass(frozen=True, slots=True)
class Release:
    """What one TCB evaluation data number says: early from ``event`` on, for everybody from ``standard`` on.

    ``levels`` and those of ``modules`` (by the TDX module's major version) and ``enclaves`` (``sgx``, ``tdx``, ``qve``) are highest
    first.
    """

    number: int
    event: datetime
    standard: datetime
    levels: tuple[TcbLevel, ...]
    modules: Mapping[int, tuple[IsvLevel, ...]]
    enclaves: Mapping[str, QeModel]

    def up_to_date(self) -> dict[str, Any]:
        """Return the traits of a machine that is up to date by this release, for :meth:`ChipMaker.machine`."""
        level, module = self.levels[0], self.modules[TDX_MODULE_VERSION][0]
        return {
            "sgx_svns": level.sgx_svns,
            "pce_svn": level.pce_svn,
            "tdx_svns": bytes((module.isv_svn, TDX_MODULE_VERSION)) + level.tdx_svns[2:],
            # A machine's quoting enclaves move together; the one that gained more tells by how much.
            "qe_behind": -max(self.enclaves[tee].isv_svn - QE_MODELS[tee].isv_svn for tee in QE_MODELS),
        }


def releases(timeline: Timeline) -> tuple[Release, ...]:
    """Return every release that ``timeline`` will ever have, oldest first."""
    first = Release(
        timeline.publishing.evaluation,
        _FIRST_EVENT,
        _FIRST_EVENT,
        TCB_LEVELS,
        TDX_MODULES,
        {**QE_MODELS, "qve": QVE_MODEL},
    )
    known = [first]
    for recovery in timeline.recoveries:
        known.append(_recovered(known[-1], recovery))
    return tuple(known)


def _recovered(before: Release, recovery: Recovery) -> Release:
    event = moment(recovery.early)
    date = event.strftime("%Y-%m-%dT00:00:00Z")
    top = before.levels[0]
    sgx, tdx = recovery.sgx_svns, recovery.tdx_svns
    level = TcbLevel(
        _raised(top.sgx_svns, 0, 1) if sgx is None else svns(*sgx),
        top.pce_svn if recovery.pce_svn is None else recovery.pce_svn,
        _raised(top.tdx_svns, _LATE_MICROCODE) if tdx is None else svns(*tdx),
        date,
        "UpToDate",
    )
    modules = dict(before.modules)
    if recovery.module_svn is not None:
        modules[TDX_MODULE_VERSION] = _above(recovery.module_svn, date, modules[TDX_MODULE_VERSION], recovery)
    enclaves = dict(before.enclaves)
    for tee, svn in (("sgx", recovery.sgx_qe_svn), ("tdx", recovery.tdx_qe_svn)):
        if svn is not None:
            old = enclaves[tee]
            levels = _above(svn, date, old.levels, recovery)
            enclaves[tee] = QeModel(old.id, old.isv_prod_id, levels, old.attributes)
    demoted = tuple(_demoted(each, recovery) for each in before.levels)
    return Release(recovery.number, event, moment(recovery.standard), (level, *demoted), modules, enclaves)


def _above(svn: int, date: str, levels: tuple[IsvLevel, ...], recovery: Recovery) -> tuple[IsvLevel, ...]:
    return (IsvLevel(svn, date, "UpToDate"), *(_demoted(each, recovery) for each in levels))


def _demoted(level: _Level, recovery: Recovery) -> _Level:
    status = "OutOfDate" if level.status in _DEMOTED else level.status
    advisories = tuple(dict.fromkeys((*level.advisory_ids, *recovery.advisories)))
    return level._replace(status=status, advisory_ids=advisories)


def _raised(components: bytes, *indexes: int) -> bytes:
    return bytes(svn + (index in indexes) for index, svn in enumerate(components))
