# SPDX-License-Identifier: Apache-2.0
"""What the rest of EAA needs to know of one kind of TEE. Adding a TEE is adding a folder with one :class:`TeeKind`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Mapping, Sequence
    from datetime import datetime

    from eaa.rats import Appraisal, Endorsements, Evidence, TrustAnchor

_Policy = TypeVar("_Policy")

__all__ = ["REPORT_DATA_SIZE", "EvidenceVerifier", "TeeClaims", "TeeKind", "policy_of"]

REPORT_DATA_SIZE: Final = 64
"""Bytes that SGX, TDX and SNP let software have signed."""


class EvidenceVerifier(Protocol):
    """Verifies evidence of one or several kinds of TEE. Holds caches only, and is safe to share between threads."""

    def verify(
        self, evidence: Any, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify as of ``at`` (UTC) against 64 bytes of expected report data. Pure; whatever is wrong is in the checks."""
        ...


@dataclass(frozen=True, slots=True)
class TeeClaims:
    """Claims under Trustee's names: ``claims`` stand below the TEE's name; ``init_data`` is the field that binds init-data.

    ``init_data_from`` gives what the field holds for a digest; without it, the digest cut to the field or followed by zeros.
    """

    claims: Mapping[str, Any]
    init_data: bytes
    init_data_from: Callable[[bytes], bytes] | None = None

    def init_data_of(self, digest: bytes) -> bytes:
        """Return what the field holds if the TEE was launched with init-data of this digest."""
        if self.init_data_from is not None:
            return self.init_data_from(digest)
        return digest[: len(self.init_data)].ljust(len(self.init_data), b"\0")


@dataclass(frozen=True, slots=True)
class TeeKind:
    """One kind of TEE.

    ``parse`` reads its evidence as the hardware or its library returns it, ``from_kbs`` the JSON that CoCo's attesters send; both raise
    only :class:`~eaa.rats.EvidenceError`. ``verifier`` makes the verifier for a set of trust anchors and acceptance policies; kinds
    that share a verifier name the same function. ``roots`` are the chip maker's own roots, trusted unless somebody says otherwise.
    ``registers`` are what reference values can speak of, name → title, and
    ``required`` says which of them must have one, given the names that have; those in ``minimums`` are numbers to reach.
    """

    name: str
    parse: Callable[[bytes], Evidence]
    from_kbs: Callable[[Mapping[str, Any]], Evidence]
    verifier: Callable[[Sequence[TrustAnchor], Sequence[object]], EvidenceVerifier]
    claims: Callable[[Appraisal], TeeClaims]
    registers: Mapping[str, str]
    register_source: str
    required: Callable[[Container[str]], frozenset[str]]
    minimums: frozenset[str] = field(default_factory=frozenset)
    roots: tuple[TrustAnchor, ...] = ()


def policy_of(kind: type[_Policy], policies: Sequence[object]) -> _Policy:
    """Return the acceptance policy of one kind among ``policies``, or its default, which accepts the least."""
    return next((each for each in policies if isinstance(each, kind)), None) or kind()
