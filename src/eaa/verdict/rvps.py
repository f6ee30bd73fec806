# SPDX-License-Identifier: Apache-2.0
"""Signed sets for clients of Trustee's reference value provider service: what they query, and what becomes of what they register.

Trustee's service takes whatever it is sent for true. Here a registration is a proposal without a signature, which somebody who may sign
the product has to sign before it counts. A message of the type ``dsse``, or a CoRIM that one of the product's signers has signed, carries a
set that is signed already: with enough signatures it is activated at once.
"""

from __future__ import annotations

import json
from base64 import b64decode
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import InputError
from eaa.rim.rvps import parse_message
from eaa.tee.registry import kinds
from eaa.verdict.envelope import MAX_ENVELOPE, seal
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.imported import Document, Format, read_document
from eaa.verdict.reference_set import ReferenceSet
from eaa.verdict.statement import Artifact

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa.verdict.imported import Imported
    from eaa.verdict.service import ReferenceSets

__all__ = ["PRODUCT", "query", "register"]

PRODUCT: Final = "rvps/registered"
"""The product of registrations that name none."""
MAX_WAITING: Final = 100
"""Registrations that may wait for a signature: nobody proves who they are before they register something."""
_SIGNED: Final = "dsse"


async def query(sets: ReferenceSets, name: str, at: datetime) -> str | None:
    """Return the values that active sets allow a register at ``at``, as JSON text; nothing if there are none."""
    values = (await sets.active()).values_named(name, at)
    return json.dumps(values) if values else None


async def register(sets: ReferenceSets, message: str, *, who: str, at: datetime) -> dict[str, Any]:
    """Take a message in; return the set that it became, proposed or active.

    :raises InputError: when the message is malformed, or too many wait for a signature.
    :raises AccessDenied: when a signed set is refused.
    """
    data = message.encode()
    value = parse_json(data, 2 * MAX_ENVELOPE, error=StatementError)
    if isinstance(value, dict) and value.get("type") == _SIGNED:
        return await _register_signed(sets, _enveloped(value), who)
    carried = parse_message(data)
    if carried.kind == "corim" and sets.is_signed(carried.payload):
        return await _register_signed(sets, carried.payload, who)
    imported = read_document(Document(data, Format.RVPS, unsigned=True))
    waiting = await sets.listed(state="proposed")
    if len(waiting) >= MAX_WAITING:
        raise InputError(
            f"{len(waiting)} sets wait for a signature already", hint="Sign or revoke some of them first."
        )
    if imported.set is not None and imported.set.product == PRODUCT:
        raise InputError(
            f"{PRODUCT} is for what names no product",
            hint="Give the set a product of yours, or have it signed first.",
        )
    found = imported.set or await _described(sets, imported, data, at)
    return await sets.propose(seal(found.to_statement(), []), who=who, why="registered", unsigned=True)


def _enveloped(message: dict[str, Any]) -> bytes:
    payload = message.get("payload")
    try:
        envelope = b64decode(payload, validate=True) if isinstance(payload, str) else b""
    except ValueError:
        envelope = b""
    if not envelope:
        raise StatementError("the payload is not standard base64 of a signed set")
    return envelope


async def _register_signed(sets: ReferenceSets, envelope: bytes, who: str) -> dict[str, Any]:
    proposed = await sets.propose(envelope, who=who, why="registered")
    try:
        return await sets.change(
            proposed["digest"], "activate", who=who, why="registered, and signed by its signers"
        )
    except SignatureRefused as refused:
        if refused.check != "signature.threshold":
            raise
        return proposed


async def _described(sets: ReferenceSets, imported: Imported, data: bytes, at: datetime) -> ReferenceSet:
    """Return a set of values that came by name alone."""
    before = await sets.listed(PRODUCT)
    described = ReferenceSet(
        product=PRODUCT,
        version=max((int(each["version"]) for each in before), default=0) + 1,
        tee=_tee_of(imported.values),
        registers=imported.registers({}),
        artifacts=(Artifact.of("message", data),),
        issued_at=at,
        note="; ".join(imported.notes)[:4000],
    )
    for each in before:
        found = await sets.reference(each["digest"]) if each["state"] == "proposed" else None
        if (
            found is not None
            and replace(found, version=described.version, issued_at=described.issued_at) == described
        ):
            return found  # the same message again is the same registration
    return described


def _tee_of(names: Iterable[str]) -> str:
    """Return the kind of TEE that has the most of these registers."""
    given = set(names)
    best = max(kinds().values(), key=lambda kind: len(given & kind.registers.keys()))
    if not given & best.registers.keys():
        raise InputError(
            f"no kind of TEE has a register named {min(given)[:100]!r}",
            hint="Name registers as `eaa measure` prints them, or import the document: eaa verdict import",
        )
    return best.name
