# SPDX-License-Identifier: Apache-2.0
"""Whether independent builders made the same: before a value is published, enough of them must agree on every output."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eaa.verdict.provenance import ProvenanceRefused

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from eaa.verdict.provenance import Provenance

__all__ = ["Agreement", "compare", "require_agreement"]


@dataclass(frozen=True, slots=True)
class Agreement:
    """For each output, which builders made which digest; and how many had to agree."""

    outputs: dict[str, dict[str, tuple[str, ...]]]
    builders: tuple[str, ...]
    threshold: int

    @property
    def disputed(self) -> tuple[str, ...]:
        """The outputs that not all builders made alike."""
        return tuple(name for name, digests in self.outputs.items() if len(digests) > 1)

    @property
    def reached(self) -> bool:
        """Whether enough builders took part, and none of them disagrees."""
        return len(self.builders) >= self.threshold and not self.disputed

    def require(self) -> dict[str, str]:
        """Return each output's one digest.

        :raises ProvenanceRefused: when builders disagree, with who and where, or are too few.
        """
        for name in self.disputed:
            parts = [f"{', '.join(who)} made {digest}" for digest, who in self.outputs[name].items()]
            raise ProvenanceRefused(
                f"builders disagree on {name}: {'; '.join(parts)}",
                check="provenance.agreement",
                hint="Rebuild it with eaa verdict rebuild, which tells what differs.",
            )
        if not self.reached:
            raise ProvenanceRefused(
                f"{len(self.builders)} independent builders made it, {self.threshold} must",
                check="provenance.threshold",
                hint="Have another builder build the same file: eaa verdict build FILE --key KEY",
            )
        return {name: next(iter(digests)) for name, digests in self.outputs.items()}

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "agreed": self.reached,
            "threshold": self.threshold,
            "builders": list(self.builders),
            "outputs": {
                name: [{"sha256": digest, "builders": list(who)} for digest, who in digests.items()]
                for name, digests in self.outputs.items()
            },
        }


def compare(provenances: Sequence[Provenance], threshold: int) -> Agreement:
    """Lay the proven provenances of one build beside each other. A builder counts once, however often it built.

    :raises ProvenanceRefused: when they are of different builds.
    """
    first = provenances[0]
    for other in provenances:
        if (other.build_type, other.external) != (first.build_type, first.external):
            raise ProvenanceRefused(
                f"{first.builder} and {other.builder} built from different build files or parameters",
                check="provenance.same-build",
                hint="Compare builds of the same file.",
            )
    outputs: dict[str, dict[str, tuple[str, ...]]] = {}
    names = sorted({each.name for provenance in provenances for each in provenance.outputs})
    for name in names:
        made: dict[str, tuple[str, ...]] = {}
        for provenance in provenances:
            digest = next((each.sha256 for each in provenance.outputs if each.name == name), None)
            who = made.get(digest or "nothing", ())
            made[digest or "nothing"] = tuple(dict.fromkeys((*who, provenance.builder)))
        outputs[name] = made
    builders = tuple(sorted({each.builder for each in provenances}))
    return Agreement(outputs, builders, threshold)


def require_agreement(provenances: Iterable[Provenance], threshold: int) -> None:
    """Require that of each build among the proven provenances at least ``threshold`` builders made the same.

    :raises ProvenanceRefused: when builders disagree, with who and where, or are too few.
    """
    builds: list[list[Provenance]] = []
    for each in provenances:
        of_same = (
            it for it in builds if (it[0].build_type, it[0].external) == (each.build_type, each.external)
        )
        if (same := next(of_same, None)) is None:
            builds.append(same := [])
        same.append(each)
    for build in builds:
        compare(build, threshold).require()
