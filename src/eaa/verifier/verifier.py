# SPDX-License-Identifier: Apache-2.0
"""The one door to verification: evidence, endorsements, a time and the expected report data in; an Appraisal out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from eaa.rats import InputError
from eaa.tee.kind import REPORT_DATA_SIZE
from eaa.tee.registry import kind_of, kinds, vendor_roots

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.rats import Appraisal, Endorsements, Evidence, TrustAnchor

__all__ = ["Verifier"]


class Verifier:
    """Verifies evidence of every TEE that EAA knows.

    It holds caches only: same input, same appraisal, from any thread. ``anchors`` are the roots that are trusted, by default
    the chip makers' own; ``policies`` say what is accepted beyond genuineness, at most one for each family of TEEs
    (:class:`~eaa.tee.dcap.policy.AcceptancePolicy` for SGX and TDX); a missing one accepts the least.
    """

    def __init__(self, anchors: Iterable[TrustAnchor] | None = None, *policies: object) -> None:
        trusted = vendor_roots() if anchors is None else tuple(anchors)
        makers = {kind.verifier for kind in kinds().values()}
        verifiers = {make: make(trusted, policies) for make in makers}
        self._verifiers = {kind.name: verifiers[kind.verifier] for kind in kinds().values()}

    def verify(
        self, evidence: Evidence, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify ``evidence`` as of ``at`` and for ``report_data``, which is required: no binding, no trust.

        ``report_data`` has at most 64 bytes and is padded with zeros on the right, as attesters do.

        :raises EvidenceError: when the evidence is of a kind that is not known.
        :raises InputError: when ``at`` is not in UTC or ``report_data`` is too long or empty. Whatever else is wrong with the evidence
            or the endorsements is in the appraisal's checks.
        """
        if at.utcoffset() != timedelta(0):
            raise InputError("the time to verify at must be in UTC")
        if not 0 < len(report_data) <= REPORT_DATA_SIZE:
            raise InputError(
                f"the expected report data has {len(report_data)} bytes, 1 to {REPORT_DATA_SIZE} are due",
                hint="Give the bytes that the challenge demands; an empty expectation would accept any evidence.",
            )
        verifier = self._verifiers[kind_of(evidence.tee).name]
        return verifier.verify(
            evidence, endorsements, at=at, report_data=report_data.ljust(REPORT_DATA_SIZE, b"\0")
        )
