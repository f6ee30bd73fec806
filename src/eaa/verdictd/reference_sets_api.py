# SPDX-License-Identifier: Apache-2.0
"""Administration of signed sets of reference values, JSON under ``/eaa/v0/reference-sets``.

Every route needs the administrator's token. A change can be asked for as a dry run, and says either way which workloads on record it
admits or refuses that were refused or admitted before.
"""

from __future__ import annotations

import json
from base64 import b64decode
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Depends, Query, Request
from pydantic import BaseModel, ConfigDict, Field

from eaa.rats import InputError, NotFound
from eaa.tee.registry import kinds
from eaa.verdictd._http import json_body
from eaa.verdictd._logging import log
from eaa.verdictd.services import ATTESTATION_POLICY
from eaa.verifier.dry_run import compare_sets

if TYPE_CHECKING:
    from collections.abc import Iterable

    from eaa.storage import VerdictRecord
    from eaa.verdictd.services import ReferenceSetSource, Services
    from eaa.verifier.dry_run import Comparison

__all__ = ["reference_sets_router"]

MAX_ENVELOPE: Final = 12 << 20
MAX_WORKLOADS: Final = 1000

_Text = Annotated[str, Query(max_length=4096)]


class _Body(BaseModel):
    """A request's JSON: strict, and nothing in it is ignored."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)


class Proposal(_Body):
    """A signed set: its DSSE envelope as a JSON object, or a signed CoRIM in base64; and the base64 of the provenance that it names."""

    envelope: dict[str, Any] | str
    provenance: list[str] = Field(default=[], max_length=64)
    why: str = Field(default="", max_length=1000)


class Change(_Body):
    """What to do, why, and whether to do it; ``workloads`` is how many of the latest verdicts are looked at for its effect."""

    why: str = Field(default="", max_length=1000)
    dry_run: bool = False
    workloads: int = Field(default=200, ge=0, le=MAX_WORKLOADS)


class SourceChange(_Body):
    """What to do with a Verdict that is subscribed to."""

    url: str = Field(max_length=2048)
    action: str = Field(max_length=40)


def reference_sets_router(services: Services, sets: ReferenceSetSource) -> APIRouter:
    """Return the routes, without the check of who asks; :func:`eaa.verdictd.app.create_app` puts it before them."""
    router = APIRouter(prefix="/eaa/v0/reference-sets")

    @router.post("", status_code=201)
    async def propose(
        request: Request, body: Annotated[Proposal, Depends(json_body(Proposal, MAX_ENVELOPE))]
    ) -> dict[str, Any]:
        signed = body.envelope
        envelope = _decoded(signed, "envelope") if isinstance(signed, str) else json.dumps(signed).encode()
        proposed = await sets.propose(
            envelope,
            who=request.state.administrator,
            why=body.why,
            provenance=[_decoded(each) for each in body.provenance],
        )
        log.info("reference values proposed", set=_named(proposed), digest=proposed["digest"])
        return proposed

    @router.get("")
    async def listed(product: _Text | None = None, state: _Text | None = None) -> dict[str, Any]:
        return {"reference_sets": await sets.listed(product, state)}

    @router.get("/explain")
    async def explain(value: _Text) -> dict[str, Any]:
        return {"reference_sets": await sets.explain(value)}

    @router.get("/sources")
    async def sources() -> dict[str, Any]:
        return {"sources": await sets.sources()}

    @router.post("/sources")
    async def set_source(
        body: Annotated[SourceChange, Depends(json_body(SourceChange))],
    ) -> dict[str, Any]:
        changed = await sets.set_source(body.url, body.action)
        log.info("subscription changed", url=body.url, action=body.action)
        return changed

    @router.get("/{name:path}")
    async def get(name: str) -> dict[str, Any]:
        return await sets.get(name)

    @router.post("/{name:path}/{action}")
    async def change(
        request: Request, name: str, action: str, body: Annotated[Change, Depends(json_body(Change))]
    ) -> dict[str, Any]:
        effect = await _effect(services, sets, name, action, body.workloads)
        if body.dry_run:
            return {"done": False, "set": await sets.get(name), **effect}
        changed = await sets.change(name, action, who=request.state.administrator, why=body.why)
        log.info("reference values changed", action=action, set=_named(changed), digest=changed["digest"])
        return {"done": True, "set": changed, **effect}

    return router


async def _effect(
    services: Services, sets: ReferenceSetSource, name: str, action: str, workloads: int
) -> dict[str, Any]:
    """Return which known workloads a change admits or refuses that it did not before."""
    after = await sets.preview(name, action)
    before = await sets.active()
    at, database = services.clock(), services.database
    try:
        policy: str | None = (await database.get_policy("attestation", ATTESTATION_POLICY)).text
    except NotFound:
        policy = None
    own = await database.reference_values(at)
    known = _workloads(await database.list_verdicts(workloads) if workloads else ())
    compared = [
        await compare_sets(
            services.policies,
            {"id": record.id, **record.document},
            policy=policy,
            reference_values=own,
            before=before,
            after=after,
            at=at,
        )
        for record in known
    ]
    asked = [each for each in compared if each.before]
    return {"looked_at": len(asked), "changes": [_change(each) for each in asked if each.changes]}


def _workloads(records: Iterable[VerdictRecord]) -> list[VerdictRecord]:
    """Return the latest verdict of each workload that proved genuine: what has the same registers is the same workload."""
    latest: dict[tuple[str | None, ...], VerdictRecord] = {}
    for record in records:
        if record.accepted and record.tee in kinds() and "appraisal" in record.document:
            measured = record.document["appraisal"]["claims"]["measurements"]
            registers = (measured.get(name) for name in kinds()[record.tee].registers)
            latest.setdefault((record.tee, *registers), record)
    return list(latest.values())


def _decoded(text: str, name: str = "a provenance") -> bytes:
    try:
        return b64decode(text, validate=True)
    except ValueError:
        raise InputError(f"{name} is not base64") from None


def _change(compared: Comparison) -> dict[str, Any]:
    found = compared.to_json()
    return {name: found[name] for name in ("verdict", "before", "after", "reasons")}


def _named(found: dict[str, Any]) -> str:
    return f"{found['product']}@{found['version']}"
