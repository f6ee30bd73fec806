# SPDX-License-Identifier: Apache-2.0
"""A set as a CoRIM: others find its values, we get it back whole, and its one signature counts for one."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import cbor2
import pytest
from cbor2 import CBORTag

from eaa._cbor import write_cbor
from eaa._keys import key_id
from eaa.rim.corim import MEDIA_TYPE, META, parse_corim, unwrap_corim
from eaa.rim.cose import CONTENT_TYPE, sign1
from eaa.rim.names import named_values
from eaa.verdict.corim import PROFILE, corim_of, is_corim, set_of_corim, signed_corim_of
from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.presented import open_signed_set
from eaa.verdict.reference_set import ReferenceSet, RegisterValue
from eaa.verdict.signers import SignerPolicy, Signers

if TYPE_CHECKING:
    from pathlib import Path

    from eaa._keys import PrivateKey

Keys = tuple["PrivateKey", ...]
AT = datetime(2026, 6, 1, tzinfo=UTC)
SGX = (
    RegisterValue("mr_enclave", ("ab" * 32, "cd" * 32)),
    RegisterValue("isv_prod_id", ("7",)),
    RegisterValue("isv_svn", ("3",)),
    RegisterValue("config_id", ("ef" * 64,)),
)


def policy(keys: Keys, threshold: int = 1) -> SignerPolicy:
    named = {f"key{number}": key.public_key() for number, key in enumerate(keys)}
    return SignerPolicy((Signers("acme/web", named, threshold),))


def changed(found: ReferenceSet, members: dict[int, Any]) -> bytes:
    found = replace(found, expires_at=None)  # a time would not be decoded to what it was encoded from
    return write_cbor(CBORTag(501, {**cbor2.loads(corim_of(found)).value, **members}))


def test_a_set_comes_back_whole(reference_set: ReferenceSet) -> None:
    for found in (reference_set, replace(reference_set, expires_at=None, product="web")):
        back = set_of_corim(parse_corim(corim_of(found)))
        assert back == found
        assert back.digest == found.digest


def test_others_find_the_values(reference_set: ReferenceSet) -> None:
    corim = parse_corim(corim_of(reference_set))
    assert named_values(corim) == (
        {"acme/web/mr_td/digests": ["ab" * 48], "acme/web/rtmr_2/digests": ["cd" * 48, "ef" * 48]},
        [],
    )
    assert corim.profiles == (PROFILE,)
    assert (corim.not_before, corim.not_after) == (reference_set.issued_at, reference_set.expires_at)


def test_numbers_and_raw_values_have_their_own_words(reference_set: ReferenceSet) -> None:
    registers = (*SGX, RegisterValue("other", ("0102",)), RegisterValue("short", ("a1b2c3d4e5f6",)))
    found = replace(reference_set, tee="sgx", registers=registers)
    corim = parse_corim(corim_of(found))
    assert set_of_corim(corim) == found
    measurements = {each.key: each for each in corim.comids[0].triples[0].measurements}
    assert (measurements["isv_svn"].svn, measurements["isv_svn"].minimum) == (3, True)
    assert measurements["isv_prod_id"].number == 7
    assert measurements["short"].raw == bytes.fromhex("a1b2c3d4e5f6")


def test_words_cannot_be_said(reference_set: ReferenceSet) -> None:
    found = replace(reference_set, registers=(RegisterValue("status", ("UpToDate",)),))
    with pytest.raises(StatementError, match="cannot be said"):
        corim_of(found)


def test_a_manifest_must_say_what_its_statement_says(reference_set: ReferenceSet) -> None:
    other = cbor2.loads(corim_of(replace(reference_set, version=4, expires_at=None))).value
    for members in (
        {1: other[1]},
        {4: {1: CBORTag(1, 2**31)}},
        {0: "another"},
        {-2: 1},
        {-1: None},
        {-1: b"{}"},
    ):
        with pytest.raises(StatementError):
            set_of_corim(parse_corim(changed(reference_set, members)))
    assert set_of_corim(parse_corim(changed(reference_set, {3: CBORTag(32, "urn:another")}))) is None


def test_its_signers_signature_makes_it_a_set(keys: Keys, reference_set: ReferenceSet) -> None:
    for key in keys:
        found = open_signed_set(signed_corim_of(reference_set, key), policy(keys), AT)
        assert found.set == reference_set
        assert found.signed_by == {key_id(key.public_key())}
    enveloped = open_signed_set(seal(reference_set.to_statement(), keys), policy(keys, 2), AT)
    assert enveloped.set == reference_set


def refused(data: bytes, signers: SignerPolicy, at: datetime = AT) -> str:
    with pytest.raises(SignatureRefused) as caught:
        open_signed_set(data, signers, at)
    assert caught.value.hint
    return caught.value.check


def test_any_other_signature_is_refused(keys: Keys, reference_set: ReferenceSet, vectors: Path) -> None:
    signed = signed_corim_of(reference_set, keys[0])
    assert refused(corim_of(reference_set), policy(keys)) == "signature.none"
    assert refused(signed, policy(keys[1:])) == "signature.foreign"
    assert refused(signed[:-1] + bytes([signed[-1] ^ 1]), policy(keys)) == "signature.foreign"
    assert refused(signed, policy(keys, 2)) == "signature.threshold"
    assert refused(signed, SignerPolicy(())) == "signature.product"
    assert refused(signed, policy(keys), datetime(2027, 3, 16, 12, tzinfo=UTC)) == "set.expired"
    assert refused(signed, policy(keys), datetime(2026, 3, 1, tzinfo=UTC)) == "set.future"
    foreign = (vectors / "corim" / "corim-signed-good-corim" / "corim.cbor").read_bytes()
    assert refused(foreign, policy(keys)) == "set.type"


def test_a_signature_may_end_before_the_set(keys: Keys, reference_set: ReferenceSet) -> None:
    def signed(begin: int, end: int) -> bytes:
        meta = write_cbor({0: {0: "acme"}, 1: {0: CBORTag(1, begin), 1: CBORTag(1, end)}})
        return sign1(corim_of(reference_set), keys[0], {CONTENT_TYPE: MEDIA_TYPE, META: meta})

    now = int(AT.timestamp())
    assert open_signed_set(signed(now, now + 1), policy(keys), AT).set == reference_set
    for begin, end in ((now + 1, now + 2), (now - 2, now)):
        assert refused(signed(begin, end), policy(keys)) == "signature.validity"


def test_cbor_is_told_from_json(keys: Keys, reference_set: ReferenceSet) -> None:
    assert is_corim(corim_of(reference_set))
    assert is_corim(signed_corim_of(reference_set, keys[0]))
    assert unwrap_corim(signed_corim_of(reference_set, keys[0]))[1] is not None
    assert not is_corim(b"")
    assert not is_corim(seal(reference_set.to_statement(), keys))
