# SPDX-License-Identifier: Apache-2.0
"""The one door to verification: evidence, endorsements, a time and the expected report data in; an Appraisal out."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from eaa.rats import InputError, TrustAnchor
from eaa.tee.dcap.policy import AcceptancePolicy
from eaa.tee.dcap.verify import REPORT_DATA_SIZE, DcapVerifier

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.rats import Appraisal, Endorsements
    from eaa.tee.sgx.evidence import SgxQuote
    from eaa.tee.tdx.evidence import TdxQuote

__all__ = ["INTEL_ROOT", "Verifier"]

INTEL_ROOT: Final = TrustAnchor(
    "Intel SGX Root CA",
    bytes.fromhex(
        "3059301306072a8648ce3d020106082a8648ce3d030107034200040ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e"
        "705525f567918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394"
    ),
    certificates=frozenset(
        {bytes.fromhex("44a0196b2b99f889b8e149e95b807a350e7424964399e885a7cbb8ccfab674d3")}
    ),
)
"""The public key of Intel's root, in every issue of its certificate. Source: IntelSGXRootCA.der at Intel PCS."""


class Verifier:
    """Verifies evidence of every TEE that EAA knows.

    It holds caches only: same input, same appraisal, from any thread. ``anchors`` are the roots that are trusted, by default
    Intel's alone; ``policy`` says what is accepted beyond genuineness.
    """

    def __init__(
        self, anchors: Iterable[TrustAnchor] = (INTEL_ROOT,), policy: AcceptancePolicy | None = None
    ) -> None:
        self._dcap = DcapVerifier(tuple(anchors), policy or AcceptancePolicy())

    def verify(
        self, evidence: SgxQuote | TdxQuote, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify ``evidence`` as of ``at`` and for ``report_data``, which is required: no binding, no trust.

        ``report_data`` has at most 64 bytes and is padded with zeros on the right, as attesters do.

        :raises InputError: when ``at`` has no time zone or ``report_data`` is too long or empty. Whatever is wrong with the evidence
            or the endorsements is in the appraisal's checks.
        """
        if at.utcoffset() != timedelta(0):
            raise InputError("the time to verify at must be in UTC")
        if not 0 < len(report_data) <= REPORT_DATA_SIZE:
            raise InputError(
                f"the expected report data has {len(report_data)} bytes, 1 to {REPORT_DATA_SIZE} are due",
                hint="Give the bytes that the challenge demands; an empty expectation would accept any evidence.",
            )
        return self._dcap.verify(
            evidence, endorsements, at=at, report_data=report_data.ljust(REPORT_DATA_SIZE, b"\0")
        )
