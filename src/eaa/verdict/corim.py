# SPDX-License-Identifier: Apache-2.0
"""A set as a CoRIM (draft-ietf-rats-corim), for verifiers that know nothing of ours, and back.

One reference triple has the product as vendor and model, and one measurement per value under the register's name, so that Trustee calls it
``vendor/model/register/digests``. Under the profile's own member the manifest carries the set's statement as well: whoever knows
the profile gets the same set back, with artifacts, inputs and digest, and holds the two against each other.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from cbor2 import CBORTag

from eaa._cbor import write_cbor
from eaa._keys import key_id
from eaa.rats import EvidenceError
from eaa.rim.corim import CORIM, MEDIA_TYPE, META, parse_corim
from eaa.rim.cose import CONTENT_TYPE, sign1
from eaa.tee.registry import kind_of
from eaa.verdict.errors import StatementError
from eaa.verdict.reference_set import ReferenceSet
from eaa.verdict.statement import parse_statement

if TYPE_CHECKING:
    from datetime import datetime

    from eaa._keys import PrivateKey
    from eaa.rim.corim import Corim

__all__ = ["PROFILE", "corim_of", "is_corim", "set_of_corim", "signed_corim_of"]

PROFILE: Final = "urn:eaa:corim:1"
_STATEMENT: Final = -1
"""The profile's member of a CoRIM: the set's statement, in canonical JSON."""
_COMID, _TIME, _URI, _BYTES, _MIN_SVN = 506, 1, 32, 560, 553
_ALGORITHMS: Final = {32: 1, 48: 7, 64: 8}
"""SHA-2 by its bytes (IANA Named Information Hash Algorithm Registry)."""
_NUMBER: Final = re.compile(r"[0-9]{1,10}", re.ASCII)
_HEX: Final = re.compile(r"([0-9a-f]{2})+", re.ASCII)


def corim_of(found: ReferenceSet) -> bytes:
    """Return the set as an unsigned CoRIM. The same set gives the same bytes.

    :raises StatementError: when it has a value that is neither hex nor a number: CoRIM has no word for it.
    """
    vendor, _, model = found.product.rpartition("/")
    described = {0: CBORTag(_BYTES, found.tee.encode()), 2: model} | ({1: vendor} if vendor else {})
    minimums = _minimums(found.tee)
    measurements = [
        {0: each.register, 1: _value(value, minimum=each.register in minimums)}
        for each in found.registers
        for value in each.values
    ]
    comid = {1: {0: found.product, 1: found.version}, 4: {0: [[{0: described}, measurements]]}}
    members: dict[int, Any] = {
        0: f"{found.product} {found.version}",
        1: [CBORTag(_COMID, write_cbor(comid))],
        3: CBORTag(_URI, PROFILE),
        _STATEMENT: found.to_statement().to_bytes(),
    }
    if found.expires_at is not None:
        members[4] = {0: _time(found.issued_at), 1: _time(found.expires_at)}
    return write_cbor(CBORTag(CORIM, members))


def signed_corim_of(found: ReferenceSet, key: PrivateKey) -> bytes:
    """Return the set as a CoRIM in a COSE_Sign1.

    :raises StatementError: as :func:`corim_of` does.
    """
    meta = write_cbor({0: {0: key_id(key.public_key())}})
    return sign1(corim_of(found), key, {CONTENT_TYPE: MEDIA_TYPE, META: meta})


def is_corim(data: bytes) -> bool:
    """Tell whether bytes can be a CoRIM, and no JSON: CBOR's maps, arrays and tags all begin beyond ASCII."""
    return data[:1] >= b"\x80"


def set_of_corim(corim: Corim) -> ReferenceSet | None:
    """Return the set that a manifest of our profile carries; nothing for one of another profile.

    :raises StatementError: when what it carries is no set, or another than its measurements say.
    """
    statement = corim.extensions.get(_STATEMENT)
    if PROFILE not in corim.profiles:
        return None
    if not isinstance(statement, bytes):
        raise StatementError("the manifest follows our profile and carries no statement")
    found = ReferenceSet.from_statement(parse_statement(statement))
    if parse_corim(corim_of(found)) != corim:
        raise StatementError("the manifest's measurements are not those of the statement that it carries")
    return found


def _minimums(tee: str) -> frozenset[str]:
    try:
        return kind_of(tee).minimums
    except EvidenceError:
        return frozenset()


def _value(value: str, *, minimum: bool) -> dict[int, Any]:
    if _NUMBER.fullmatch(value):
        return {1: CBORTag(_MIN_SVN, int(value))} if minimum else {15: int(value)}
    if not _HEX.fullmatch(value):
        raise StatementError(
            f"the value {value[:100]!r} cannot be said in a CoRIM", hint="Export it as json or rvps."
        )
    content = bytes.fromhex(value)
    algorithm = _ALGORITHMS.get(len(content))
    return {2: [[algorithm, content]]} if algorithm else {4: CBORTag(_BYTES, content)}


def _time(moment: datetime) -> CBORTag:
    return CBORTag(_TIME, int(moment.timestamp()))
