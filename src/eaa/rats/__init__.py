# SPDX-License-Identifier: Apache-2.0
"""The vocabulary of remote attestation (RFC 9334) that every other part speaks."""

from eaa.rats.appraisal import Appraisal, Claims, ReferenceValues
from eaa.rats.checks import Check, Result, Rule, Stage
from eaa.rats.errors import (
    AccessDenied,
    ConfigurationError,
    EaaError,
    EndorsementError,
    EvidenceError,
    EvidenceRejected,
    InputError,
    NotFound,
    PolicyError,
    ProtocolError,
    UnavailableError,
)
from eaa.rats.evidence import Endorsement, Endorsements, Evidence, TrustAnchor

__all__ = [
    "AccessDenied",
    "Appraisal",
    "Check",
    "Claims",
    "ConfigurationError",
    "EaaError",
    "Endorsement",
    "EndorsementError",
    "Endorsements",
    "Evidence",
    "EvidenceError",
    "EvidenceRejected",
    "InputError",
    "NotFound",
    "PolicyError",
    "ProtocolError",
    "ReferenceValues",
    "Result",
    "Rule",
    "Stage",
    "TrustAnchor",
    "UnavailableError",
]
