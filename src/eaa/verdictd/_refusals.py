# SPDX-License-Identifier: Apache-2.0
"""What a refused client is told: one description of an error, rendered in the KBS protocol's words or in EAA's.

Guests see of failed checks what :mod:`eaa.rats.views` leaves of them.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from eaa.kbs import ErrorInformation
from eaa.rats import (
    AccessDenied,
    EaaError,
    EvidenceError,
    EvidenceRejected,
    InputError,
    NotFound,
    PolicyError,
    UnavailableError,
)
from eaa.rats.views import redacted_checks

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

__all__ = [
    "AttestationRefused",
    "ReleaseDenied",
    "TooLarge",
    "check_lines",
    "eaa_refusal",
    "kbs_refusal",
]


class TooLarge(InputError):
    """The request is larger than this server reads."""

    code = "request.too-large"
    http_status = 413


class AttestationRefused(EaaError):
    """Evidence was not accepted. ``verdict`` names the recorded verdict, ``checks`` are those that failed, as guests see them."""

    code = "attestation.refused"
    http_status = 401

    def __init__(self, message: str, *, verdict: str, checks: Iterable[dict[str, str]]) -> None:
        super().__init__(message)
        self.verdict = verdict
        self.checks = tuple(checks)


class ReleaseDenied(AccessDenied):
    """The owner's policy does not release this resource on this verdict."""

    code = "release.denied"

    def __init__(self, *, verdict: str, checks: Iterable[dict[str, str]]) -> None:
        super().__init__(
            "Access denied by policy",
            check="policy.resource",
            hint="Ask the owner of the resource; the verdict names what kept this TEE from it.",
        )
        self.verdict = verdict
        self.checks = tuple(checks)


@dataclass(frozen=True, slots=True)
class Refusal:
    """An error as a client may see it."""

    status: int
    variant: str
    code: str
    message: str
    hint: str = ""
    check: str = ""
    verdict: str = ""
    checks: tuple[dict[str, str], ...] = field(default=())

    @property
    def detail(self) -> str:
        """Everything in one text, for clients that show nothing else: first which checks, then what is known about each."""
        ids = [each["id"] for each in self.checks]
        if self.check and self.check not in ids:
            ids.append(self.check)
        parts = [
            ": ".join(part for part in (self.message, ", ".join(f"check {each}" for each in ids)) if part)
        ]
        parts += check_lines(self.checks)
        if self.hint:
            parts.append(self.hint)
        if self.verdict:
            parts.append(f"verdict {self.verdict}")
        return ". ".join(part.rstrip(".") for part in parts)


def check_lines(checks: Iterable[Mapping[str, str]]) -> list[str]:
    """Return one line per check that says what a guest may know about it."""
    lines = []
    for check in checks:
        line = f"{check['id']}: {check['title']}"
        if "expected" in check:
            line += f"; expected {check['expected'] or 'nothing'}, found {check['found'] or 'nothing'}"
        lines.append(f"{line}; {check['remedy'].rstrip('.')}" if check["remedy"] else line)
    return lines


def kbs_refusal(
    error: EaaError, request_id: str, *, variant: str = "HTTPFailed", guest: bool = True
) -> JSONResponse:
    """Return ``error`` as the KBS protocol's ErrorInformation.

    Guests know 401 (attest again, or show the detail) and 404 only; administrators get the true status.

    :param variant: the protocol's kind of error, unless the error itself tells.
    """
    refusal = _describe(error, variant)
    if guest and refusal.status not in (404, 413) and refusal.status < 500:
        refusal = replace(refusal, status=401)
    body = ErrorInformation.of(refusal.variant, f"{refusal.detail}. request {request_id}").model_dump()
    body["request_id"] = request_id
    if refusal.verdict:
        body["verdict"] = refusal.verdict
    if refusal.checks:
        body["checks"] = list(refusal.checks)
    return _response(refusal, body)


def eaa_refusal(error: EaaError, request_id: str) -> JSONResponse:
    """Return ``error`` in the form of EAA's own interface."""
    refusal = _describe(error, "")
    body: dict[str, Any] = {"code": refusal.code, "message": refusal.message, "request_id": request_id}
    body |= {name: value for name, value in (("hint", refusal.hint), ("check", refusal.check)) if value}
    return _response(refusal, {"error": body})


def _response(refusal: Refusal, body: dict[str, Any]) -> JSONResponse:
    headers = {"www-authenticate": "Bearer"} if refusal.variant == "AdminAuthAccess" else {}
    if refusal.status == 413:
        headers["connection"] = "close"
    return JSONResponse(body, refusal.status, headers)


def _describe(error: EaaError, variant: str) -> Refusal:
    refusal = Refusal(
        error.http_status,
        _variant(error, variant),
        error.code,
        str(error),
        error.hint,
        str(getattr(error, "check", "")),
        str(getattr(error, "verdict", "")),
        tuple(getattr(error, "checks", ())),
    )
    if isinstance(error, EvidenceRejected):
        return replace(refusal, checks=redacted_checks(check.to_json() for check in error.appraisal.failing))
    return replace(refusal, status=401) if refusal.variant == "AdminAuthAccess" else refusal


def _variant(error: EaaError, otherwise: str) -> str:
    match error:
        case ReleaseDenied():
            return "PolicyDeny"
        case AccessDenied() if error.check.startswith("admin."):
            return "AdminAuthAccess"
        case AttestationRefused() | EvidenceError() | EvidenceRejected():
            return "AttestationError"
        case PolicyError():
            return "ParsePolicyError"
        case NotFound():
            return "PluginInternalError" if otherwise == "HTTPFailed" else otherwise
        case TooLarge() | UnavailableError():
            return "HTTPFailed"
    return otherwise
