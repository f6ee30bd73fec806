# SPDX-License-Identifier: Apache-2.0
"""The trustworthiness vector and its tiers (draft-ietf-rats-ar4si, sections 2.3 and 3.2)."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["CLAIM_NAMES", "Tier", "status", "tier", "worst"]

CLAIM_NAMES: Final = (
    "instance-identity", "configuration", "executables", "file-system",
    "hardware", "runtime-opaque", "storage-opaque", "sourced-data",
)  # fmt: skip
"""The eight claims of AR4SI, in the order of their keys."""


class Tier(StrEnum):
    """How far a claim lets its reader trust, from no assertion to known bad."""

    NONE = "none"
    AFFIRMING = "affirming"
    WARNING = "warning"
    CONTRAINDICATED = "contraindicated"


_ORDER: Final = {each: rank for rank, each in enumerate(Tier)}


def tier(value: int) -> Tier:
    """Return the tier of one claim's value, a signed 8-bit integer.

    :raises ValueError: when it does not fit 8 bits.
    """
    if not -128 <= value <= 127:
        raise ValueError(f"{value} is not a signed 8-bit integer")
    if -1 <= value <= 1:
        return Tier.NONE
    if -32 <= value <= 31:
        return Tier.AFFIRMING
    if -96 <= value <= 95:
        return Tier.WARNING
    return Tier.CONTRAINDICATED


def status(vector: Mapping[str, int]) -> Tier:
    """Return the worst tier of the claims; ``none`` when nothing is claimed."""
    return max((tier(value) for value in vector.values()), key=_ORDER.__getitem__, default=Tier.NONE)


def worst(vector: Mapping[str, int]) -> str:
    """Name the claims that keep the vector from being affirming, worst first, for a reader: ``hardware 97, executables 33``."""
    held = [(name, value) for name, value in vector.items() if _ORDER[tier(value)] > _ORDER[Tier.AFFIRMING]]
    held.sort(key=lambda claim: (-_ORDER[tier(claim[1])], claim[0]))
    return ", ".join(f"{name} {value}" for name, value in held)
