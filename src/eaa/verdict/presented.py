# SPDX-License-Identifier: Apache-2.0
"""A set as somebody presents it: in a DSSE envelope, or in a CoRIM whose own signature is its signer's. What it is worth, its signers say."""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

from eaa._keys import key_id
from eaa.rim.corim import signature_validity, unwrap_corim
from eaa.verdict.corim import is_corim, set_of_corim
from eaa.verdict.envelope import Sealed, parse_envelope
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.reference_set import ReferenceSet
from eaa.verdict.signers import SignedSet, check_validity, open_set

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from eaa._keys import PublicKey
    from eaa.rim.cose import Sign1
    from eaa.verdict.signers import SignerPolicy

__all__ = ["Presented", "open_signed_set", "parse_presented"]


@dataclass(frozen=True, slots=True)
class Presented:
    """A set and what is signed around it, believed by nobody yet; a CoRIM without a signature has none."""

    set: ReferenceSet
    around: Sealed | Sign1 | None

    def signers(self, keys: Iterable[PublicKey]) -> frozenset[str]:
        """Return the ids of those of ``keys`` that signed."""
        if isinstance(self.around, Sealed):
            return self.around.signers(keys)
        return frozenset(
            key_id(key) for key in keys if self.around is not None and self.around.signed_by(key)
        )

    def check(self, policy: SignerPolicy) -> frozenset[str]:
        """Return the ids of the product's signers that signed: as many as must.

        :raises SignatureRefused: when they are too few, with the reason.
        """
        signers = policy.of_product(self.set.product)
        if isinstance(self.around, Sealed):
            return signers.check(self.around)
        hint = f"Import it and have {signers.threshold} of the signers of {signers.pattern} sign the set."
        if self.around is None:
            raise SignatureRefused("nobody has signed it", check="signature.none", hint=hint)
        signed_by = self.signers(signers.keys.values())
        if not signed_by:
            raise SignatureRefused(
                f"no key that may sign {signers.pattern} signed it as it is",
                check="signature.foreign",
                hint=hint,
            )
        if len(signed_by) < signers.threshold:
            raise SignatureRefused(
                f"a CoRIM has one signature, and {signers.threshold} must sign it",
                check="signature.threshold",
                hint=hint,
            )
        return signed_by

    def check_signature_time(self, at: datetime) -> None:
        """Refuse a CoRIM's signature before and after the time that its signer gives it.

        :raises SignatureRefused: when it is not valid at that time.
        """
        begin, end = self._signature_validity()
        if (begin is not None and at < begin) or (end is not None and at >= end):
            raise SignatureRefused(
                "its signature is not valid at this time",
                check="signature.validity",
                hint="Have it signed again, or import it and have its signers sign the set.",
            )

    @property
    def ends_at(self) -> datetime | None:
        """When the set ends, or the signature around it, if that is sooner."""
        ends = (self.set.expires_at, self._signature_validity()[1])
        return min((each for each in ends if each is not None), default=None)

    def _signature_validity(self) -> tuple[datetime | None, datetime | None]:
        if self.around is None or isinstance(self.around, Sealed):
            return None, None
        return signature_validity(self.around)


def parse_presented(data: bytes) -> Presented:
    """Read a set in an envelope or a CoRIM, and verify nothing.

    :raises InputError: when it is neither.
    :raises SignatureRefused: when it is a CoRIM that carries no set of ours.
    """
    if not is_corim(data):
        sealed = parse_envelope(data)
        return Presented(ReferenceSet.from_statement(sealed.statement()), sealed)
    corim, signed = unwrap_corim(data)
    found = set_of_corim(corim)
    if found is None:
        raise SignatureRefused(
            "a CoRIM of another profile is a proposal, whoever signed it",
            check="set.type",
            hint="Make a set of it and sign that: eaa verdict import FILE --out SET",
        )
    return Presented(found, signed)


def open_signed_set(data: bytes, policy: SignerPolicy, at: datetime) -> SignedSet:
    """Return the set in an envelope, or in a CoRIM whose own signature is its signer's, as :func:`open_set` does.

    :raises InputError: when it is neither.
    :raises SignatureRefused: when it is not signed as it must be, or is not valid at that time.
    """
    if not is_corim(data):
        return open_set(data, policy, at)
    found = parse_presented(data)
    signed_by = found.check(policy)
    found.check_signature_time(at)
    check_validity(found.set, at)
    return SignedSet(found.set, signed_by, sha256(data).hexdigest())
