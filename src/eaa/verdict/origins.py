# SPDX-License-Identifier: Apache-2.0
"""Who built what a set was computed from: its provenance, as it says and as far as an owner's trusted builders vouch for it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from eaa._json import parse_json
from eaa.rats import EaaError
from eaa.verdict.envelope import parse_envelope
from eaa.verdict.errors import StatementError
from eaa.verdict.provenance import check_provenance, open_signed
from eaa.verdict.sigstore import MAX_BUNDLE

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from eaa.verdict.envelope import Sealed
    from eaa.verdict.provenance import BuilderPolicy

__all__ = ["Origins", "origins_of", "sealed_provenance"]


@dataclass(frozen=True, slots=True)
class Origins:
    """For each artifact, the trusted builders that made it with the same digest; and why other provenance does not count."""

    builders: Mapping[str, tuple[str, ...]]
    refused: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return it for machines."""
        return {
            "builders": {name: list(each) for name, each in self.builders.items()},
            "refused": list(self.refused),
        }


def sealed_provenance(data: bytes) -> Sealed:
    """Read provenance, an envelope or the one in a sigstore bundle, and verify nothing.

    :raises StatementError: when it is neither.
    """
    value = parse_json(data, MAX_BUNDLE, error=StatementError)
    if isinstance(value, dict) and "dsseEnvelope" in value:
        return parse_envelope(json.dumps(value["dsseEnvelope"]).encode())
    return parse_envelope(data)


def origins_of(artifacts: Mapping[str, str], provenance: Iterable[bytes], policy: BuilderPolicy) -> Origins:
    """Return which trusted builders made the artifacts, given as names and SHA-256. What is not verified counts for nobody."""
    builders: dict[str, list[str]] = {name: [] for name in artifacts}
    refused = []
    for data in provenance:
        try:
            opened = open_signed(data, policy)
            said = {each.sha256 for each in opened.statement.subject}
            named = {name: digest for name, digest in artifacts.items() if digest in said}
            found = check_provenance(opened, policy, named)
        except EaaError as error:
            refused.append(str(error))
            continue
        for name in named:
            builders[name].append(found.builder)
    return Origins({name: tuple(dict.fromkeys(each)) for name, each in builders.items()}, tuple(refused))
