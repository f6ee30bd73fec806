# SPDX-License-Identifier: Apache-2.0
"""Trustee's administration under ``/kbs/v0/``, so that its clients work here: resources, policies, reference values.

Every route needs the administrator's token. Policies travel as base64url without padding.
"""

from __future__ import annotations

from base64 import b64decode
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from eaa.rats import NotFound, PolicyError
from eaa.rim.rvps import values_of_message
from eaa.verdictd._http import json_body, read_body
from eaa.verdictd._logging import log
from eaa.verdictd.owner_api import MAX_RESOURCE
from eaa.verdictd.services import RESOURCE_POLICY

if TYPE_CHECKING:
    from eaa.storage import PolicyKind
    from eaa.verdictd.services import Services

__all__ = ["admin_router"]


class _Body(BaseModel):
    """A request's JSON. Members that are not known are ignored, as Trustee does."""

    model_config = ConfigDict(strict=True, extra="ignore", frozen=True)


class AttestationPolicy(_Body):
    """An attestation policy under an id such as ``default_cpu``."""

    policy_id: str = Field(min_length=1, max_length=255)
    policy: str = Field(max_length=1 << 20)


class ResourcePolicy(_Body):
    """The resource policy."""

    policy: str = Field(max_length=1 << 20)


class ReferenceValueMessage(_Body):
    """A message for the reference value provider."""

    version: str = "0.1.0"
    type: str
    payload: str = Field(max_length=2 << 20)


def admin_router(services: Services) -> APIRouter:
    """Return the routes, without the check of who asks; :func:`eaa.verdictd.app.create_app` puts it before them."""
    router = APIRouter(prefix="/kbs/v0")
    database = services.database

    @router.post("/resource/{path:path}")
    async def put_resource(path: str, request: Request) -> Response:
        stored = await database.put_resource(path, await read_body(request, MAX_RESOURCE))
        log.info("resource stored", path=path, version=stored.version)
        return Response(media_type="text/xml")

    @router.delete("/resource/{path:path}")
    async def delete_resource(path: str) -> Response:
        await database.delete_resource(path)
        log.info("resource deleted", path=path)
        return Response(media_type="text/xml")

    @router.post("/attestation-policy")
    async def set_attestation_policy(
        body: Annotated[AttestationPolicy, Depends(json_body(AttestationPolicy))],
    ) -> Response:
        return await _set_policy(services, "attestation", body.policy_id, body.policy)

    @router.post("/resource-policy")
    async def set_resource_policy(
        body: Annotated[ResourcePolicy, Depends(json_body(ResourcePolicy))],
    ) -> Response:
        return await _set_policy(services, "resource", RESOURCE_POLICY, body.policy)

    @router.get("/resource-policy")
    async def list_resource_policies() -> list[str]:
        return [info.name for info in await database.list_policies("resource")]

    @router.post("/reference-value")
    async def set_reference_value(
        body: Annotated[ReferenceValueMessage, Depends(json_body(ReferenceValueMessage))],
    ) -> Response:
        values = values_of_message(body.model_dump())
        await database.put_reference_values(values)
        log.info("reference values set", names=sorted(values))
        return Response(media_type="application/json")

    @router.get("/reference-value/{name:path}")
    async def get_reference_value(name: str) -> Any:
        at = services.clock()
        own = (await database.reference_values(at)).get(name)
        signed = [] if services.sets is None else (await services.sets.active()).values_named(name, at)
        if own is None and not signed:
            raise NotFound(f"no reference value {name[:200]!r}")
        if not signed:
            return own
        listed = own if isinstance(own, list) else [] if own is None else [own]
        return [*listed, *(each for each in signed if each not in listed)]

    return router


async def _set_policy(services: Services, kind: PolicyKind, name: str, encoded: str) -> Response:
    text = _decoded(encoded)
    await services.policies.validate(text, kind)
    info = await services.database.put_policy(kind, name, text)
    log.info("policy in force", kind=kind, name=info.name, version=info.version, digest=info.digest)
    return Response(media_type="application/json")


def _decoded(policy: str) -> str:
    try:
        return b64decode(policy + "=" * (-len(policy) % 4), altchars=b"-_", validate=True).decode()
    except ValueError:
        raise PolicyError(
            "the policy is not base64url of UTF-8 text",
            hint="Encode it without padding, as RFC 4648 §5 says.",
        ) from None
