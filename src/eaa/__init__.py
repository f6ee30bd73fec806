# SPDX-License-Identifier: Apache-2.0
"""EAA: remote attestation and key release for confidential containers.

::

    import datetime, eaa

    quote = eaa.parse_evidence(open("quote.bin", "rb").read(), tee="tdx")
    collateral = eaa.load_endorsements("collateral.json")
    appraisal = eaa.Verifier().verify(
        quote, collateral, at=datetime.datetime.now(datetime.UTC), report_data=expected
    )
    claims = appraisal.accept()  # the trusted claims, or EvidenceRejected with every reason
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from eaa.endorser.files import load_endorsements
    from eaa.rats import (
        Appraisal,
        Claims,
        EaaError,
        Endorsements,
        EvidenceError,
        EvidenceRejected,
        TrustAnchor,
    )
    from eaa.tee.dcap.policy import AcceptancePolicy
    from eaa.tee.dcap.roots import INTEL_ROOT
    from eaa.tee.registry import parse_evidence
    from eaa.verifier import Verifier

__all__ = [
    "INTEL_ROOT",
    "AcceptancePolicy",
    "Appraisal",
    "Claims",
    "EaaError",
    "Endorsements",
    "EvidenceError",
    "EvidenceRejected",
    "TrustAnchor",
    "Verifier",
    "load_endorsements",
    "parse_evidence",
]

_HOME: Final = {
    "AcceptancePolicy": "eaa.tee.dcap.policy",
    "INTEL_ROOT": "eaa.tee.dcap.roots",
    "Verifier": "eaa.verifier.verifier",
    "load_endorsements": "eaa.endorser.files",
    "parse_evidence": "eaa.tee.registry",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used, so that ``eaa --help`` does not pay for cryptography."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib  # noqa: PLC0415 - as above

    value = getattr(importlib.import_module(_HOME.get(name, "eaa.rats")), name)
    globals()[name] = value
    return value
