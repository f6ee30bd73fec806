# SPDX-License-Identifier: Apache-2.0
"""Sets as plain JSON: what lists, explanations and the service's answers show."""

from __future__ import annotations

from base64 import b64encode
from dataclasses import asdict
from datetime import UTC
from typing import TYPE_CHECKING, Any

from eaa.verdict.origins import sealed_provenance

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from eaa.verdict.following import SourceState
    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.store import Change, StoredSet

__all__ = ["set_details", "set_summary", "source_summary"]


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


def set_details(
    found: StoredSet, reference: ReferenceSet, changes: Iterable[Change], proofs: Mapping[str, bytes]
) -> dict[str, Any]:
    """Return what a set says, where it came from and what happened to it; ``proofs`` are its provenance as far as it is kept."""
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
        "provenance": [
            {"digest": digest} | (_provenance(proofs[digest]) if digest in proofs else {})
            for digest in reference.provenance
        ],
        "built_by": [asdict(each) for each in reference.built_by],
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


def source_summary(found: SourceState) -> dict[str, Any]:
    """Return how it stands with a Verdict that is subscribed to."""
    return {
        "url": found.url,
        "sequence": found.sequence,
        "asked_at": _time(found.asked_at),
        "followed_at": _time(found.followed_at),
        "error": found.error,
        "held": found.held,
    }


def _provenance(envelope: bytes) -> dict[str, Any]:
    """Return what a SLSA provenance says of a build, as far as it does, and the ids of the keys beside its signatures."""
    sealed = sealed_provenance(envelope)
    statement = sealed.statement()
    definition = _object(statement.predicate.get("buildDefinition"))
    details = _object(statement.predicate.get("runDetails"))
    sources = definition.get("resolvedDependencies")
    return {
        "subject": [each.to_json() for each in statement.subject],
        "predicate_type": statement.predicate_type,
        "builder": _object(details.get("builder")).get("id"),
        "build_type": definition.get("buildType"),
        "sources": sources if isinstance(sources, list) else [],
        "signed_by": [name for name, _ in sealed.signatures],
        "envelope": b64encode(envelope).decode(),
    }


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _time(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat().replace("+00:00", "Z")
