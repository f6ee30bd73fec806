# SPDX-License-Identifier: Apache-2.0
"""What the database gives and takes: frozen records, the sealer it needs, and its two errors.

Every datetime is aware and in UTC, in and out.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Protocol

from eaa.rats import AccessDenied, InputError

if TYPE_CHECKING:
    from datetime import datetime

__all__ = [
    "Conflict",
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

ResourceKind = Literal["resource", "kek"]
"""``resource`` is a secret that is released wrapped; ``kek`` is a key-encryption key of images, 32 raw bytes."""

PolicyKind = Literal["attestation", "resource"]
"""``attestation`` policies appraise claims, ``resource`` policies decide who may have which resource."""


class Sealer(Protocol):
    """Encrypts and authenticates what lies in the database. A key manager of :mod:`eaa.kms` is one."""

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Return ``plaintext`` sealed, to be opened under the same ``context`` only."""
        ...

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """Return what was sealed.

        :raises eaa.rats.EaaError: when it was altered, or sealed under another root key or context.
        """
        ...


class NonceReused(AccessDenied):
    """The nonce was spent already; nothing was recorded. The client has to ask for a new challenge."""

    code = "access.nonce-reused"

    def __init__(self) -> None:
        super().__init__(
            "the nonce of this attestation was used before",
            check="session.nonce",
            hint="Ask for a new challenge and attest again; evidence is good for one use.",
        )


class Conflict(InputError):
    """The name is taken by something of another kind; nothing was changed."""

    code = "storage.conflict"
    http_status = 409


@dataclass(frozen=True, slots=True)
class ResourceInfo:
    """A stored resource without its content. ``size`` counts the content's bytes, ``version`` starts at 1."""

    path: str
    kind: ResourceKind
    version: int
    size: int
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class PolicyInfo:
    """One version of a policy. ``digest`` is the SHA-384 of the text in UTF-8, lower-case hex."""

    kind: PolicyKind
    name: str
    version: int
    digest: str
    text: str = field(repr=False)
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class ReferenceValueInfo:
    """A reference value: any JSON value, and the instant from which it counts no longer, if there is one."""

    name: str
    value: Any
    expires_at: datetime | None
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class VerdictRecord:
    """The result of one appraisal, kept for good.

    ``document`` is the full appraisal as JSON with every check; ``evidence_digest`` identifies the evidence;
    ``accepted`` is the one bit on which a release depends.
    """

    id: str
    at: datetime
    tee: str
    accepted: bool
    evidence_digest: bytes
    document: dict[str, Any] = field(repr=False)
    request_id: str


@dataclass(frozen=True, slots=True)
class SessionRecord:
    """What an attested client may come back with until ``expires_at``.

    ``id`` is the credential itself: the database keeps its SHA-256 only. ``tee_public_key`` is the JWK that the evidence
    binds; ``claims`` are the token's claims, the input of resource policies; ``token`` is the attestation token. All but
    ``verdict_id`` and ``expires_at`` is stored sealed, and those two are bound to what is sealed.
    """

    id: bytes = field(repr=False)
    tee: str
    verdict_id: str
    tee_public_key: dict[str, Any]
    claims: dict[str, Any] = field(repr=False)
    token: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class SessionInfo:
    """A session that is open, as its owner sees it. ``digest`` names it and opens nothing."""

    digest: bytes
    tee: str
    verdict_id: str
    opened_at: datetime
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class ReleaseRecord:
    """That a resource left, when, in which version and on which verdict."""

    id: int
    at: datetime
    path: str
    resource_version: int
    verdict_id: str
