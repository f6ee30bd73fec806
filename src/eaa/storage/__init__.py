# SPDX-License-Identifier: Apache-2.0
"""State: resources, policies, reference values, verdicts, sessions and releases in one SQL database."""

from eaa.storage.database import Database
from eaa.storage.records import (
    Conflict,
    NonceReused,
    PolicyInfo,
    PolicyKind,
    ReferenceValueInfo,
    ReleaseRecord,
    ResourceInfo,
    ResourceKind,
    Sealer,
    SessionInfo,
    SessionRecord,
    VerdictRecord,
)

__all__ = [
    "Conflict",
    "Database",
    "NonceReused",
    "PolicyInfo",
    "PolicyKind",
    "ReferenceValueInfo",
    "ReleaseRecord",
    "ResourceInfo",
    "ResourceKind",
    "Sealer",
    "SessionInfo",
    "SessionRecord",
    "VerdictRecord",
]
