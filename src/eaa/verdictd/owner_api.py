# SPDX-License-Identifier: Apache-2.0
"""EAA's own administration, JSON under ``/eaa/v0/``: keys, resources, policies, reference values, verdicts, sessions.

Every route needs the administrator's token. No answer holds a key's or a resource's bytes.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from eaa.image import ResourceUri
from eaa.rats import InputError, NotFound
from eaa.rim.values import checked_reference_values
from eaa.storage import Conflict
from eaa.verdictd._http import json_body, read_body
from eaa.verdictd._logging import log
from eaa.verdictd.keyprovider import ensure_kek, new_kek_uri

if TYPE_CHECKING:
    from eaa.storage import (
        PolicyInfo,
        ReferenceValueInfo,
        ReleaseRecord,
        ResourceInfo,
        SessionInfo,
        VerdictRecord,
    )
    from eaa.verdictd.services import Services

__all__ = ["owner_router"]

MAX_RESOURCE: Final = 1 << 20
MAX_LISTED: Final = 1000

_Kind = Literal["attestation", "resource"]
_Limit = Annotated[int, Query(ge=1, le=MAX_LISTED)]


class _Body(BaseModel):
    """A request's JSON: strict, and nothing in it is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class NewKey(_Body):
    """A key to be made; without a name one is made up."""

    name: str | None = Field(default=None, max_length=1024)


class PolicyText(_Body):
    """A policy in Rego."""

    text: str = Field(max_length=1 << 20)


class ReferenceValues(_Body):
    """Names and what they may be; ``expires_at`` is an RFC 3339 time."""

    values: dict[str, Any] = Field(min_length=1, max_length=10_000)
    expires_at: str | None = None


class EndedSessions(_Body):
    """Which sessions to end: the one of an id, those on a verdict, or all."""

    session: str | None = Field(default=None, pattern=r"^[0-9a-f]{64}$")
    verdict: str | None = Field(default=None, max_length=64)
    all: Literal[True] | None = None


def owner_router(services: Services) -> APIRouter:
    """Return the routes, without the check of who asks; :func:`eaa.verdictd.app.create_app` puts it before them."""
    router = APIRouter(prefix="/eaa/v0")
    _keys(router, services)
    _resources(router, services)
    _policies(router, services)
    _reference_values(router, services)
    _verdicts(router, services)
    _sessions(router, services)
    return router


def _keys(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.post("/keys", status_code=201)
    async def create_key(body: Annotated[NewKey, Depends(json_body(NewKey))]) -> dict[str, str]:
        uri = ResourceUri.parse_key_id(body.name) if body.name is not None else new_kek_uri()
        if not await ensure_kek(database, uri.path):
            raise Conflict(f"there is a key {uri.path} already", hint="Use it, or choose another name.")
        return {"path": uri.path, "uri": f"kbs:///{uri.path}"}

    @router.get("/keys")
    async def list_keys() -> dict[str, Any]:
        listed = await database.list_resources(kind="kek")
        return {"keys": [_resource(info) | {"uri": f"kbs:///{info.path}"} for info in listed]}

    @router.delete("/keys/{path:path}", status_code=204)
    async def delete_key(path: str) -> Response:
        await _delete(services, path, "kek")
        return Response(status_code=204)


def _resources(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.put("/resources/{path:path}")
    async def put_resource(path: str, request: Request) -> dict[str, Any]:
        stored = await database.put_resource(path, await read_body(request, MAX_RESOURCE))
        log.info("resource stored", path=path, version=stored.version)
        return _resource(stored)

    @router.get("/resources")
    async def list_resources(prefix: Annotated[str, Query(max_length=1024)] = "") -> dict[str, Any]:
        listed = await database.list_resources(prefix, kind="resource")
        return {"resources": [_resource(info) for info in listed]}

    @router.delete("/resources/{path:path}", status_code=204)
    async def delete_resource(path: str) -> Response:
        await _delete(services, path, "resource")
        return Response(status_code=204)


async def _delete(services: Services, path: str, kind: Literal["resource", "kek"]) -> None:
    """Delete what is at ``path`` if it is of this kind."""
    if not any(info.path == path for info in await services.database.list_resources(path, kind=kind)):
        what = "key" if kind == "kek" else "resource"
        raise NotFound(f"there is no {what} {path[:200]!r}", hint=f"`eaa {what} list` shows what there is.")
    await services.database.delete_resource(path)
    log.info("resource deleted", path=path, kind=kind)


def _policies(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.get("/policies")
    async def list_policies() -> dict[str, Any]:
        return {"policies": [_policy(info) for info in await database.list_policies()]}

    @router.post("/policies/{kind}/check")
    async def check_policy(
        kind: _Kind, body: Annotated[PolicyText, Depends(json_body(PolicyText))]
    ) -> dict[str, Any]:
        await services.policies.validate(body.text, kind)
        return {"valid": True, "kind": kind}

    @router.get("/policies/{kind}/{name}")
    async def get_policy(kind: _Kind, name: str) -> dict[str, Any]:
        info = await database.get_policy(kind, name)
        return _policy(info) | {"text": info.text}

    @router.put("/policies/{kind}/{name}")
    async def put_policy(
        kind: _Kind, name: str, body: Annotated[PolicyText, Depends(json_body(PolicyText))]
    ) -> dict[str, Any]:
        await services.policies.validate(body.text, kind)
        info = await database.put_policy(kind, name, body.text)
        log.info("policy in force", kind=kind, name=info.name, version=info.version, digest=info.digest)
        return _policy(info)

    @router.delete("/policies/{kind}/{name}", status_code=204)
    async def delete_policy(kind: _Kind, name: str) -> Response:
        await database.delete_policy(kind, name)
        log.info("policy deleted", kind=kind, name=name)
        return Response(status_code=204)


def _reference_values(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.put("/reference-values")
    async def put_reference_values(
        body: Annotated[ReferenceValues, Depends(json_body(ReferenceValues))],
    ) -> dict[str, Any]:
        values = checked_reference_values(body.values)
        await database.put_reference_values(values, expires_at=_time(body.expires_at))
        log.info("reference values set", names=sorted(values))
        return {"stored": list(values)}

    @router.get("/reference-values")
    async def list_reference_values() -> dict[str, Any]:
        listed = await database.list_reference_values()
        return {"reference_values": [_reference_value(info) for info in listed]}

    @router.delete("/reference-values/{name:path}", status_code=204)
    async def delete_reference_value(name: str) -> Response:
        await database.delete_reference_value(name)
        log.info("reference value deleted", name=name)
        return Response(status_code=204)


def _verdicts(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.get("/verdicts")
    async def list_verdicts(limit: _Limit = 100) -> dict[str, Any]:
        return {"verdicts": [_verdict(record) for record in await database.list_verdicts(limit)]}

    @router.get("/verdicts/{verdict_id}")
    async def get_verdict(verdict_id: str) -> dict[str, Any]:
        record = await database.verdict(verdict_id)
        releases = await database.releases(verdict_id=verdict_id, limit=MAX_LISTED)
        return _verdict(record) | {
            "evidence_digest": record.evidence_digest.hex(),
            "document": record.document,
            "releases": [_release(each) for each in releases],
        }


def _sessions(router: APIRouter, services: Services) -> None:
    database = services.database

    @router.get("/sessions")
    async def list_sessions(limit: _Limit = 100) -> dict[str, Any]:
        listed = await database.list_sessions(services.clock(), limit)
        return {"sessions": [_session(info) for info in listed]}

    @router.post("/sessions/revoke")
    async def revoke_sessions(
        body: Annotated[EndedSessions, Depends(json_body(EndedSessions))],
    ) -> dict[str, Any]:
        if len(body.model_dump(exclude_none=True)) != 1:
            raise InputError(
                "which sessions?", hint="Name a session, a verdict, or all of them: one of the three."
            )
        digest = None if body.session is None else bytes.fromhex(body.session)
        ended = await database.end_sessions(services.clock(), digest=digest, verdict_id=body.verdict)
        if not ended and body.all is None:
            raise NotFound("no such session is open", hint="`eaa session list` shows those that are.")
        log.info("sessions revoked", count=ended, digest=body.session, verdict=body.verdict)
        return {"revoked": ended}


def rfc3339(time: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _resource(info: ResourceInfo) -> dict[str, Any]:
    updated = rfc3339(info.updated_at)
    return {"path": info.path, "size": info.size, "version": info.version, "updated_at": updated}


def _policy(info: PolicyInfo) -> dict[str, Any]:
    return {
        "kind": info.kind,
        "name": info.name,
        "version": info.version,
        "digest": info.digest,
        "updated_at": rfc3339(info.updated_at),
    }


def _reference_value(info: ReferenceValueInfo) -> dict[str, Any]:
    return {
        "name": info.name,
        "value": info.value,
        "expires_at": rfc3339(info.expires_at) if info.expires_at is not None else None,
        "updated_at": rfc3339(info.updated_at),
    }


def _verdict(record: VerdictRecord) -> dict[str, Any]:
    return {
        "id": record.id,
        "at": rfc3339(record.at),
        "tee": record.tee,
        "accepted": record.accepted,
        "status": record.document.get("status"),
        "simulated": record.document.get("simulated"),
        "failed_checks": record.document.get("failed_checks", []),
        "request_id": record.request_id,
    }


def _session(info: SessionInfo) -> dict[str, Any]:
    return {
        "id": info.digest.hex(),
        "tee": info.tee,
        "verdict": info.verdict_id,
        "opened_at": rfc3339(info.opened_at),
        "expires_at": rfc3339(info.expires_at),
    }


def _release(record: ReleaseRecord) -> dict[str, Any]:
    return {"at": rfc3339(record.at), "path": record.path, "resource_version": record.resource_version}


def _time(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        time = datetime.fromisoformat(text)
        if time.tzinfo is None:
            raise ValueError  # noqa: TRY301 - one refusal for what is no RFC 3339 time
        return time.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InputError("expires_at is no RFC 3339 time with its offset") from None
