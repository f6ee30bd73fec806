# SPDX-License-Identifier: Apache-2.0
"""From a measurement before the fact to the registers of a set, each with what went into it."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

from eaa.tee.measured import inputs_of
from eaa.verdict.agreement import require_agreement
from eaa.verdict.errors import StatementError
from eaa.verdict.origins import sealed_provenance
from eaa.verdict.provenance import check_provenance as require_provenance
from eaa.verdict.provenance import open_signed
from eaa.verdict.reference_set import BuiltBy, Input, RegisterValue

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from eaa.tee.measured import LaunchMeasurement
    from eaa.verdict.provenance import BuilderPolicy
    from eaa.verdict.statement import Artifact, Statement

__all__ = ["built_by", "check_provenance", "registers_of"]


def registers_of(measured: LaunchMeasurement) -> tuple[RegisterValue, ...]:
    """Return the registers that are known, with their inputs in the order of measurement."""
    inputs = inputs_of(measured.events)
    return tuple(
        RegisterValue(
            name,
            (value.hex(),),
            tuple(Input(part.value, digest.hex()) for part, digest in inputs.get(name, ())),
        )
        for name, value in measured.registers.items()
    )


def check_provenance(artifacts: Sequence[Artifact], provenance: Iterable[bytes]) -> None:
    """Refuse provenance that is about none of the artifacts: it would prove nothing of the set. Signatures are not looked at.

    :raises StatementError: when it is, or is no statement in an envelope or a sigstore bundle.
    """
    for data in provenance:
        statement = sealed_provenance(data).statement()
        if not _about(statement, artifacts):
            raise _about_nothing(statement)


def built_by(
    artifacts: Sequence[Artifact],
    provenance: Iterable[bytes],
    policy: BuilderPolicy,
    trusted_root: Path | None = None,
    *,
    agree: int = 1,
) -> tuple[BuiltBy, ...]:
    """Return which trusted builder made which artifact, once every provenance holds and ``agree`` builders made each build alike.

    :raises StatementError: when one is no provenance, or is about none of the artifacts.
    :raises AccessDenied: when one is not signed by the trusted builder that it names, or does not hold otherwise; when builders
        disagree or are too few.
    """
    found, proven = [], []
    for data in provenance:
        opened = open_signed(data, policy, trusted_root)
        named = _about(opened.statement, artifacts)
        if not named:
            raise _about_nothing(opened.statement)
        proven.append(require_provenance(opened, policy, named))
        found += [BuiltBy(name, proven[-1].builder, sha256(data).hexdigest()) for name in named]
    require_agreement(proven, agree)
    return tuple(found)


def _about(statement: Statement, artifacts: Sequence[Artifact]) -> dict[str, str]:
    """Return those of the artifacts, with their SHA-256, that a statement is about."""
    said = {each.sha256 for each in statement.subject}
    return {each.name: each.sha256 for each in artifacts if each.sha256 is not None and each.sha256 in said}


def _about_nothing(statement: Statement) -> StatementError:
    return StatementError(
        f"the provenance of {statement.subject[0].name[:200]!r} is about none of the artifacts",
        hint="Give the provenance of the firmware, kernel or initrd that is measured here.",
    )
