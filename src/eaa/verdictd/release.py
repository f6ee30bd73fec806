# SPDX-License-Identifier: Apache-2.0
"""The release: who asks, what the policy says about the path, whether it exists, in this order; then wrapped, and recorded."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from eaa.image import ImageError, ResourceUri
from eaa.kbs import encrypt
from eaa.rats import AccessDenied, NotFound, PolicyError
from eaa.rats.views import redacted_checks
from eaa.verdictd._logging import log
from eaa.verdictd._refusals import ReleaseDenied

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from eaa.verdictd.owner_state import OwnerState
    from eaa.verdictd.services import Services

__all__ = ["Releases"]

_SUBMOD = "cpu0"


@dataclass(frozen=True, slots=True)
class _Holder:
    """Whoever holds an attestation: the TEE's key that the evidence bound, and the verdict it rests on."""

    verdict_id: str
    tee_public_key: Mapping[str, Any]
    claims: Mapping[str, Any] = field(repr=False)
    session_id: bytes | None = field(repr=False)


class Releases:
    """Releases resources to attested TEEs, wrapped to the key that their evidence binds and to no other."""

    def __init__(self, services: Services, owner: OwnerState) -> None:
        self._services = services
        self._owner = owner

    async def release(
        self, path: str, *, cookie: str | None, bearer: str | None, query: Mapping[str, str]
    ) -> dict[str, str]:
        """Return the resource as JWE to the asking TEE's key. Without a record of it nothing leaves.

        :raises AccessDenied: when nobody attested asks (a cookie counts before a token).
        :raises ReleaseDenied: when the owner's policy refuses; names the checks that the verdict failed.
        :raises NotFound: when the policy allows it, but there is no such resource.
        """
        at = self._services.clock()
        try:
            holder = await self._holder(cookie, bearer, at)
            uri = _uri(path)
            await self._require_allowed(uri, holder, query)
            content = await self._services.database.release_resource(
                uri.path, session_id=holder.session_id, verdict_id=holder.verdict_id, at=at
            )
        except (AccessDenied, NotFound) as error:
            self._services.metrics.released(_outcome(error))
            raise
        self._services.metrics.released("released")
        log.info("resource released", path=uri.path, verdict=holder.verdict_id)
        return encrypt(content, holder.tee_public_key)

    async def _holder(self, cookie: str | None, bearer: str | None, at: datetime) -> _Holder:
        if cookie is not None:
            try:
                session_id = self._services.challenges.open(cookie).session
                session = await self._services.database.session(session_id, at)
            except (AccessDenied, NotFound):
                if bearer is None:
                    raise AccessDenied(
                        "this session has no attestation that is valid now",
                        check="session.attested",
                        hint="Attest, then ask again.",
                    ) from None
            else:
                return _Holder(session.verdict_id, session.tee_public_key, session.claims, session_id)
        if bearer is None:
            raise AccessDenied(
                "a resource is released to an attested TEE only",
                check="session.attested",
                hint="Begin with POST /kbs/v0/auth, or send an attestation token.",
            )
        return _holder_of(self._services.tokens.verify(bearer, at=at))

    async def _require_allowed(self, uri: ResourceUri, holder: _Holder, query: Mapping[str, str]) -> None:
        policy = (await self._owner.current()).resource_policy
        segments = [uri.repository, uri.type, uri.tag]
        data = {"plugin": "resource", "resource-path": segments, "query": dict(query)}
        try:
            if policy is not None and await self._services.policies.allow(
                policy, data=data, input=holder.claims
            ):
                return
            reason = "denied" if policy is not None else "no resource policy is in force"
        except PolicyError as error:
            reason = f"the policy failed: {error}"
        record = await self._services.database.verdict(holder.verdict_id)
        checks = [
            check
            for check in record.document.get("appraisal", {}).get("checks", ())
            if check["result"] in ("fail", "not-made")
        ]
        log.info(
            "release denied",
            path=uri.path,
            verdict=holder.verdict_id,
            reason=reason,
            failed_checks=[check["id"] for check in checks],
        )
        raise ReleaseDenied(verdict=holder.verdict_id, checks=redacted_checks(checks))


def _holder_of(claims: dict[str, Any]) -> _Holder:
    """Return who a token of ours was issued to."""
    try:
        submod = claims["submods"][_SUBMOD]
        key = submod["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"]
        return _Holder(submod["ear.eaa.verdict"]["id"], key, claims, None)
    except (KeyError, TypeError):
        raise AccessDenied(
            "the token names no verdict or no TEE key",
            check="token.format",
            hint="Attest again to get a token.",
        ) from None


def _uri(path: str) -> ResourceUri:
    try:
        return ResourceUri.parse(f"kbs:///{path}")
    except ImageError as error:
        raise NotFound("this is no path of a resource", hint=error.hint) from None


def _outcome(error: AccessDenied | NotFound) -> str:
    if isinstance(error, ReleaseDenied):
        return "denied"
    return "missing" if isinstance(error, NotFound) else "unauthorized"
