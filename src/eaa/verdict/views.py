# SPDX-License-Identifier: Apache-2.0
"""Sets as plain JSON: what lists, explanations and the service's answers show."""

from __future__ import annotations

from base64 import b64encode
from datetime import UTC
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.store import Change, StoredSet

__all__ = ["set_details", "set_summary"]


def set_summary(
    found: StoredSet, signed_by: Iterable[str], threshold: int, *, at: datetime
) -> dict[str, Any]:
    """Return what a list shows of a set; ``expired`` is as of ``at``."""
    return {
        "digest": found.digest,
        "product": found.product,
        "version": found.version,
        "tee": found.tee,
        "state": found.state.value,
        "expires_at": _time(found.expires_at),
        "expired": found.expires_at is not None and found.expires_at <= at,
        "activated_at": _time(found.activated_at),
        "signed_by": sorted(signed_by),
        "threshold": threshold,
    }


def set_details(found: StoredSet, reference: ReferenceSet, changes: Iterable[Change]) -> dict[str, Any]:
    """Return what a set says, where it came from and what happened to it."""
    return {
        "issued_at": _time(reference.issued_at),
        "supersedes": reference.supersedes,
        "note": reference.note,
        "registers": [
            {
                "register": each.register,
                "values": list(each.values),
                "inputs": [{"name": part.name, "digest": part.digest} for part in each.inputs],
            }
            for each in reference.registers
        ],
        "artifacts": [each.to_json() for each in reference.artifacts],
        "provenance": list(reference.provenance),
        "envelope": b64encode(found.envelope).decode(),
        "history": [
            {
                "at": _time(each.at),
                "action": each.action.value,
                "state": each.state.value,
                "who": each.who,
                "why": each.why,
            }
            for each in changes
        ],
    }


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
