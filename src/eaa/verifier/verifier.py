# SPDX-License-Identifier: Apache-2.0
"""The one door to verification: evidence, endorsements, a time and the expected report data in; an Appraisal out."""

from __future__ import annotations

from base64 import b64decode
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from cryptography.x509 import load_der_x509_certificate

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

INTEL_ROOT: Final = TrustAnchor.from_certificate(
    load_der_x509_certificate(
        b64decode(
            "MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIwaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3Qg"
            "Q0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT"
            "AlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoM"
            "EUludGVsIENvcnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYTAlVTMFkwEwYHKoZI"
            "zj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi71OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxF"
            "P2sJBK5zlKOBuzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJMEegRaBDhkFodHRwczovL2Nl"
            "cnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInz"
            "g7SVUr9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYIKoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9C"
            "iSDcNoowLuPRLsWGf/Yi7GSX94BgwTwgAiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI="
        )
    ),
    simulated=False,
)
"""Intel's root: its key is pinned, in every issue of the certificate. Source: IntelSGXRootCA.der at Intel PCS."""


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
