# SPDX-License-Identifier: Apache-2.0
"""The one hierarchy of errors.

Two branches matter: :class:`InputError` says "these bytes, this request or this configuration is bad" and is safe to
show to whoever sent them; any other exception is a fault of ours and is never echoed to a client.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from eaa.rats.appraisal import Appraisal

__all__ = [
    "AccessDenied",
    "ConfigurationError",
    "EaaError",
    "EndorsementError",
    "EvidenceError",
    "EvidenceRejected",
    "InputError",
    "NotFound",
    "PolicyError",
    "ProtocolError",
    "UnavailableError",
]


class EaaError(Exception):
    """Root of every error EAA raises on purpose.

    ``code`` is stable and meant for machines, ``http_status`` is what a server answers with, ``hint`` is one sentence
    that tells the reader what to do next. No message ever contains a secret.
    """

    code: ClassVar[str] = "error"
    http_status: ClassVar[int] = 500

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class InputError(EaaError):
    """Something that was handed to us is malformed; nothing was changed."""

    code = "input.malformed"
    http_status = 400


class EvidenceError(InputError):
    """Evidence that cannot be parsed. ``check`` names the rule that the bytes break."""

    code = "evidence.malformed"

    def __init__(self, message: str, *, check: str = "evidence.format", hint: str = "") -> None:
        super().__init__(message, hint=hint or "Send the evidence exactly as the hardware produced it.")
        self.check = check


class EndorsementError(InputError):
    """Collateral that cannot be read as what it claims to be."""

    code = "endorsement.malformed"


class PolicyError(InputError):
    """Policy text that does not parse, is not allowed, or ran over its deadline."""

    code = "policy.invalid"


class ProtocolError(InputError):
    """A message that does not follow the protocol spoken on this connection."""

    code = "protocol.violation"


class ConfigurationError(InputError):
    """A setting, file or option that cannot be used."""

    code = "configuration.invalid"


class NotFound(EaaError):
    """The named thing does not exist."""

    code = "not-found"
    http_status = 404


class AccessDenied(EaaError):
    """The caller may not do this. ``check`` names the rule that refused."""

    code = "access.denied"
    http_status = 403

    def __init__(self, message: str, *, check: str, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.check = check


class UnavailableError(EaaError):
    """A service that is needed to answer is not reachable now; trying again later may work."""

    code = "unavailable"
    http_status = 503


class EvidenceRejected(EaaError):
    """The appraisal has a check that does not hold; ``appraisal`` is the whole explanation."""

    code = "evidence.rejected"
    http_status = 403

    def __init__(self, appraisal: Appraisal) -> None:
        failing = ", ".join(check.id for check in appraisal.failing) or "no check was made"
        super().__init__(f"evidence rejected: {failing}")
        self.appraisal = appraisal
