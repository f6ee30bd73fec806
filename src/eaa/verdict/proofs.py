# SPDX-License-Identifier: Apache-2.0
"""What the signatures on a set's envelope are worth: who of its product's signers made them, and whether the set counts."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from eaa.rats import EaaError
from eaa.tee.registry import kinds
from eaa.verdict.corim import is_corim
from eaa.verdict.envelope import Sealed
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.presented import parse_presented
from eaa.verifier.expected_sets import ExpectedSet, MeasuredInput

if TYPE_CHECKING:
    from datetime import datetime

    from eaa.verdict.reference_set import ReferenceSet
    from eaa.verdict.signers import SignerPolicy
    from eaa.verdict.store import StoredSet

__all__ = ["joined", "proven", "signatures"]

_log: Final = logging.getLogger("eaa.verdict")


def signatures(envelope: bytes, product: str, policy: SignerPolicy) -> tuple[frozenset[str], int]:
    """Return which of the product's signers signed, and how many must; nobody and 0 for a product without signers."""
    try:
        entry = policy.of_product(product)
    except SignatureRefused:
        return frozenset(), 0
    return parse_presented(envelope).signers(entry.keys.values()), entry.threshold


def joined(kept: bytes, new: bytes, product: str, policy: SignerPolicy) -> bytes:
    """Return one envelope with the signatures of the product's signers from both: signers need not wait for each other."""
    before, after = parse_presented(kept).around, parse_presented(new).around
    if not isinstance(before, Sealed) or not isinstance(after, Sealed) or before.payload != after.payload:
        # The same set in other bytes, which other signatures are over. An envelope can still be signed by others, a CoRIM cannot.
        return max(
            (kept, new),
            key=lambda each: (len(signatures(each, product, policy)[0]), not is_corim(each)),
        )
    try:
        keys = list(policy.of_product(product).keys.values())
    except SignatureRefused:
        return kept
    by_signer = {
        name: each
        for each in (*before.signatures, *after.signatures)
        for name in Sealed(before.payload, (each,)).signers(keys)
    }
    return Sealed(before.payload, tuple(sorted(by_signer.values()))).to_bytes()


def proven(found: StoredSet, policy: SignerPolicy) -> ExpectedSet | None:
    """Return an active set as verdicts use it; nothing, and a line in the log, where it is not signed as its product asks for."""
    try:
        presented = parse_presented(found.envelope)
        presented.check(policy)
        ends_at = presented.ends_at
    except EaaError as error:
        _log.error("the active set %s admits nobody: %s", found.name, error)
        return None
    reference = presented.set
    if reference.digest != found.digest:
        _log.error("the active set %s admits nobody: its envelope holds another set", found.name)
        return None
    if reference.tee not in kinds():
        _log.warning("the active set %s is of a kind of TEE that is not verified here", found.name)
        return None
    return _expected_set(reference, ends_at)


def _expected_set(reference: ReferenceSet, expires_at: datetime | None) -> ExpectedSet:
    return ExpectedSet(
        product=reference.product,
        version=reference.version,
        tee=reference.tee,
        values={each.register: each.values for each in reference.registers},
        inputs={
            each.register: tuple(MeasuredInput(part.name, part.digest) for part in each.inputs)
            for each in reference.registers
        },
        expires_at=expires_at,
    )
