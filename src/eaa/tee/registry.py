# SPDX-License-Identifier: Apache-2.0
"""Which kinds of TEE there are: ours, and those that other packages offer under the entry point group ``eaa.tees``."""

from __future__ import annotations

from functools import cache
from importlib.metadata import entry_points
from typing import TYPE_CHECKING, Final

from eaa.rats import EvidenceError
from eaa.tee.azure.kind import AZ_SNP, AZ_TDX
from eaa.tee.kind import TeeKind
from eaa.tee.sgx.kind import KIND as SGX
from eaa.tee.snp.kind import KIND as SNP
from eaa.tee.tdx.kind import KIND as TDX
from eaa.tee.tpm.kind import KIND as TPM

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Evidence, TrustAnchor

__all__ = ["OURS", "kind_of", "kinds", "parse_evidence", "vendor_roots"]

OURS: Final[dict[str, TeeKind]] = {kind.name: kind for kind in (SGX, TDX, SNP, TPM, AZ_SNP, AZ_TDX)}


@cache
def kinds() -> Mapping[str, TeeKind]:
    """Return every kind by name. Ours cannot be replaced by another package's."""
    offered = (entry.load() for entry in entry_points(group="eaa.tees"))
    return {kind.name: kind for kind in offered if isinstance(kind, TeeKind)} | OURS


def kind_of(tee: str) -> TeeKind:
    """Return the kind of that name.

    :raises EvidenceError: when there is none.
    """
    kind = OURS.get(tee) or kinds().get(tee)
    if kind is None:
        raise EvidenceError(
            f"no verifier for TEE {tee[:40]!r}",
            check="evidence.tee",
            hint=f"Known are: {', '.join(sorted(kinds()))}.",
        )
    return kind


def vendor_roots() -> tuple[TrustAnchor, ...]:
    """Return the roots of every chip maker, each once."""
    return tuple(dict.fromkeys(root for kind in kinds().values() for root in kind.roots))


def parse_evidence(data: bytes, *, tee: str) -> Evidence:
    """Parse evidence of the named kind of TEE, as the hardware or its library returns it.

    :raises EvidenceError: when the kind is unknown or the bytes are not evidence of that kind.
    """
    return kind_of(tee).parse(data)
