# SPDX-License-Identifier: Apache-2.0
"""What an owner accepts of a DCAP platform beyond genuineness. The default accepts nothing that needs a second thought."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from eaa.rats import ConfigurationError
from eaa.tee.dcap.collateral import PLATFORM_STATUSES

__all__ = ["ACCEPTABLE_STATUSES", "AcceptancePolicy"]

RELAUNCH_STATUSES: Final = frozenset({"TDRelaunchAdvised", "TDRelaunchAdvisedConfigurationNeeded"})
ACCEPTABLE_STATUSES: Final = (PLATFORM_STATUSES | RELAUNCH_STATUSES) - {"Revoked"}


@dataclass(frozen=True, slots=True)
class AcceptancePolicy:
    """An owner's conditions.

    ``tcb_statuses`` are the statuses that pass, an explicit set that never holds ``Revoked`` (attack A7);
    ``minimum_tcb_evaluation_number`` refuses collateral of an older evaluation (attack A8); ``service_tds`` lists the allowed
    MRSERVICETD values (48 bytes; attack A11); ``platforms`` (16 bytes each), unless empty, names the only processors, by PPID, or
    platforms, by instance id, that are accepted (attack A24). There is no switch for debug: no policy accepts a debug TEE (attack A18).
    """

    tcb_statuses: frozenset[str] = frozenset({"UpToDate"})
    minimum_tcb_evaluation_number: int = 0
    service_tds: frozenset[bytes] = frozenset()
    allow_migratable: bool = False
    require_sept_ve_disable: bool = True
    platforms: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if any(len(each) != 16 for each in self.platforms):
            raise ConfigurationError("a PPID or a platform instance id has 16 bytes")
        unknown = self.tcb_statuses - ACCEPTABLE_STATUSES
        if unknown:
            raise ConfigurationError(
                f"TCB statuses that cannot be accepted: {', '.join(sorted(unknown))}",
                hint=f"Choose among {', '.join(sorted(ACCEPTABLE_STATUSES))}.",
            )
