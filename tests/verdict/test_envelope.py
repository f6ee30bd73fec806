# SPDX-License-Identifier: Apache-2.0
"""Envelopes: signed by whom they say, whole, by enough."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from securesystemslib.dsse import Envelope
from securesystemslib.signer import Key, SSlibKey

from eaa._keys import key_id, new_key, read_private_key
from eaa.verdict.envelope import (
    MAX_SIGNATURES,
    PAYLOAD_TYPE,
    countersign,
    open_envelope,
    parse_envelope,
    seal,
)
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from eaa._keys import PrivateKey

STATEMENT = Statement((Artifact.of("kernel", b"a kernel"),), "urn:example", {"a": 1})
KEY = read_private_key(new_key()[0])
Keys = tuple["PrivateKey", ...]


def changed(data: bytes, **changes: Any) -> bytes:
    return json.dumps(json.loads(data) | changes).encode()


def test_an_envelope_opens_for_the_keys_that_signed_it(keys: Keys) -> None:
    data = seal(STATEMENT, keys)
    opened = open_envelope(data, [key.public_key() for key in keys], threshold=3)
    assert opened.statement == STATEMENT
    assert opened.signed_by == {key_id(key.public_key()) for key in keys}
    assert open_envelope(data, [keys[2].public_key()]).signed_by == {key_id(keys[2].public_key())}


def test_the_library_verifies_what_we_seal(keys: Keys) -> None:
    public: list[Key] = [
        SSlibKey.from_crypto(key.public_key(), keyid=key_id(key.public_key())) for key in keys
    ]
    assert len(Envelope.from_dict(json.loads(seal(STATEMENT, keys))).verify(public, 3)) == 3


def test_sealing_twice_with_ed25519_gives_the_same_bytes() -> None:
    assert seal(STATEMENT, [KEY]) == seal(STATEMENT, [KEY, KEY])


def test_countersigning_adds_a_key_once(keys: Keys) -> None:
    first, second, third = keys
    data = seal(STATEMENT, [first])
    both = countersign(data, second)
    assert open_envelope(both, [first.public_key(), second.public_key()], 2).statement == STATEMENT
    assert countersign(both, first) == both
    with_p256 = countersign(both, third)
    assert countersign(with_p256, third) == with_p256
    assert countersign(seal(STATEMENT, []), first) == data


def test_a_spoiled_signature_is_replaced_by_a_good_one() -> None:
    data = seal(STATEMENT, [KEY])
    signature = json.loads(data)["signatures"][0]
    spoiled = changed(data, signatures=[signature | {"sig": b64encode(bytes(64)).decode()}])
    assert countersign(spoiled, KEY) == data


def test_an_unsigned_envelope_is_refused() -> None:
    with pytest.raises(SignatureRefused, match="nobody") as caught:
        open_envelope(seal(STATEMENT, []), [KEY.public_key()])
    assert caught.value.check == "signature.none"
    assert caught.value.hint


def test_one_key_counts_once_however_often_it_signed(keys: Keys) -> None:
    data = seal(STATEMENT, [keys[2]])
    again = seal(STATEMENT, [keys[2]])  # ECDSA: another signature
    listed = json.loads(data)["signatures"] + json.loads(again)["signatures"]
    listed.append(listed[0] | {"keyid": ""})
    with pytest.raises(SignatureRefused, match="1 of the trusted keys signed it, 2 must") as caught:
        open_envelope(changed(data, signatures=listed), [key.public_key() for key in keys], 2)
    assert caught.value.check == "signature.threshold"


def test_the_key_id_is_only_a_hint() -> None:
    data = seal(STATEMENT, [KEY])
    signature = json.loads(data)["signatures"][0]
    for name in ("", "theirs", None):
        opened = open_envelope(changed(data, signatures=[signature | {"keyid": name}]), [KEY.public_key()])
        assert opened.signed_by == {key_id(KEY.public_key())}
    other = read_private_key(new_key()[0])
    claimed = seal(STATEMENT, [other]).replace(
        key_id(other.public_key()).encode(), key_id(KEY.public_key()).encode()
    )
    with pytest.raises(SignatureRefused):
        open_envelope(claimed, [KEY.public_key()])


def test_a_changed_payload_or_type_is_refused() -> None:
    data = seal(STATEMENT, [KEY])
    payload = b64decode(json.loads(data)["payload"]).replace(b'"a":1', b'"a":2')
    with pytest.raises(SignatureRefused):
        open_envelope(changed(data, payload=b64encode(payload).decode()), [KEY.public_key()])
    with pytest.raises(StatementError, match="in-toto"):
        open_envelope(changed(data, payloadType="application/json"), [KEY.public_key()])


@pytest.mark.parametrize(
    "changes",
    [
        {"payload": 1},
        {"payload": "*"},
        {"payload": "ä"},
        {"payload": b64encode(b"[]").decode()},
        {"payloadType": PAYLOAD_TYPE.upper()},
        {"signatures": None},
        {"signatures": ["a"]},
        {"signatures": [{"keyid": 1, "sig": "AA=="}]},
        {"signatures": [{"keyid": "a" * 1000, "sig": "AA=="}]},
        {"signatures": [{"keyid": "a", "sig": "A" * 4096}]},
        {"signatures": [{"keyid": "a"}]},
        {"signatures": [{"keyid": "a", "sig": "AA=="}] * (MAX_SIGNATURES + 1)},
    ],
)
def test_what_is_no_envelope_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(StatementError):
        open_envelope(changed(seal(STATEMENT, [KEY]), **changes), [KEY.public_key()])


def test_an_envelope_has_room_for_so_many_signatures_and_no_more() -> None:
    data = seal(STATEMENT, [])
    full = changed(data, signatures=[{"keyid": str(n), "sig": "AAAA"} for n in range(MAX_SIGNATURES)])
    with pytest.raises(StatementError, match="the most"):
        countersign(full, KEY)


@given(data=st.binary(max_size=200))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(StatementError):
        parse_envelope(data)


@given(
    value=st.fixed_dictionaries(
        {"payloadType": st.just(PAYLOAD_TYPE)},
        optional={
            "payload": st.text(max_size=8) | st.just(b64encode(STATEMENT.to_bytes()).decode()),
            "signatures": st.lists(
                st.fixed_dictionaries(
                    {}, optional={"keyid": st.text(max_size=4) | st.none(), "sig": st.text(max_size=8)}
                ),
                max_size=3,
            ),
        },
    )
)
def test_any_envelope_is_read_or_refused(value: Any) -> None:
    try:
        open_envelope(json.dumps(value).encode(), [KEY.public_key()])
    except (StatementError, SignatureRefused):
        return
    pytest.fail("nobody signed it")
