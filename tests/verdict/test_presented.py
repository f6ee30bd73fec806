# SPDX-License-Identifier: Apache-2.0
"""A set in a CoRIM that its signer signed: proposed, activated, followed, and joined with an envelope of the same set."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cbor2 import CBORTag
from hypothesis import given
from hypothesis import strategies as st

from eaa._cbor import write_cbor
from eaa._keys import key_id
from eaa.rats import InputError
from eaa.rim.corim import MEDIA_TYPE, META
from eaa.rim.cose import CONTENT_TYPE, sign1
from eaa.verdict.corim import corim_of, is_corim, signed_corim_of
from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused
from eaa.verdict.presented import parse_presented

from .desk import AT, Desk

if TYPE_CHECKING:
    from eaa._keys import PrivateKey
    from eaa.verdict.reference_set import ReferenceSet

pytestmark = pytest.mark.anyio


def corim_until(desk: Desk, end: datetime) -> bytes:
    """Return the first set in a CoRIM whose signature ends before the set does."""
    meta = write_cbor({0: {0: "acme"}, 1: {1: CBORTag(1, int(end.timestamp()))}})
    return sign1(corim_of(desk.set(1)), desk.keys[0], {CONTENT_TYPE: MEDIA_TYPE, META: meta})


async def test_a_corim_of_a_signer_counts_as_a_set_does(desk: Desk) -> None:
    proposed = await desk.sets.propose(signed_corim_of(desk.set(1), desk.keys[0]), who="alice")
    assert proposed["digest"] == desk.set(1).digest
    assert proposed["signed_by"] == [key_id(desk.keys[0].public_key())]
    assert await desk.admitted() == []
    await desk.do("activate", proposed["digest"])
    assert await desk.admitted() == [1]
    desk.policy = desk.policy_of(desk.keys[1:2])
    assert await desk.admitted() == []


async def test_a_corim_of_nobody_or_another_is_refused(desk: Desk) -> None:
    whole = signed_corim_of(desk.set(1), desk.keys[0])
    for data, check in (
        (corim_of(desk.set(1)), "signature.none"),
        (signed_corim_of(desk.set(1), desk.keys[2]), "signature.foreign"),
        (whole[:-1] + bytes([whole[-1] ^ 1]), "signature.foreign"),
        (signed_corim_of(desk.set(1, product="other/web"), desk.keys[0]), "signature.product"),
    ):
        with pytest.raises(SignatureRefused) as refused:
            await desk.sets.propose(data, who="mallory")
        assert refused.value.check == check
    assert await desk.sets.listed() == []


async def test_an_active_corim_ends_with_its_signature(desk: Desk) -> None:
    end = AT + timedelta(hours=1)
    digest = (await desk.sets.propose(corim_until(desk, end), who="alice"))["digest"]
    await desk.do("activate", digest)
    desk.time = end - timedelta(seconds=1)
    assert await desk.admitted() == [1]
    desk.time = end
    assert await desk.admitted() == []
    (listed,) = await desk.sets.listed()
    assert listed["expired"]
    await desk.do("retire", digest)
    with pytest.raises(SignatureRefused) as refused:
        await desk.do("rollback", digest)
    assert refused.value.check == "signature.validity"


async def test_an_envelope_takes_a_corims_place_so_that_others_can_sign(desk: Desk) -> None:
    desk.policy = desk.policy_of(desk.keys[:2], threshold=2)
    statement = desk.set(1).to_statement()
    corim = signed_corim_of(desk.set(1), desk.keys[0])
    digest = (await desk.sets.propose(corim, who="alice"))["digest"]
    with pytest.raises(SignatureRefused, match="2 must sign"):
        await desk.do("activate", digest)
    for key in desk.keys[:2]:
        await desk.sets.propose(seal(statement, [key]), who="alice")
        await desk.sets.propose(corim, who="alice")  # which takes nothing away again
    await desk.do("activate", digest)
    assert await desk.admitted() == [1]


@given(data=st.binary(max_size=200), beginning=st.sampled_from((b"", b"\xd2\x84", b"\xd9\x01\xf5\xa3", b"{")))
def test_any_bytes_are_read_or_refused(data: bytes, beginning: bytes) -> None:
    with contextlib.suppress(InputError, SignatureRefused):
        parse_presented(beginning + data)


def test_reading_believes_nothing(keys: tuple[PrivateKey, ...], reference_set: ReferenceSet) -> None:
    for data in (seal(reference_set.to_statement(), []), corim_of(reference_set)):
        found = parse_presented(data)
        assert found.set == reference_set
        assert found.signers(key.public_key() for key in keys) == frozenset()
        assert found.ends_at == datetime(2027, 3, 16, 12, tzinfo=UTC)
    assert is_corim(corim_of(replace(reference_set, note="")))
