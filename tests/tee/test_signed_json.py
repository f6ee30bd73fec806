# SPDX-License-Identifier: Apache-2.0
"""Signed JSON: the bytes that were signed are kept exactly, and anything odd is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import EndorsementError
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_enclave_identity,
    read_tcb_info,
)
from eaa.tee.dcap.signed_json import MAX_JSON, JsonObject, members_of, read_signed_object

SIGNATURE = "ab" * 64


@pytest.mark.parametrize(
    "text", ['{"a": 1}', '{ "a" :\t1 }', '{"a":"\\u00e9é"}', "{}", '{"n":{"signature":1}}']
)
def test_the_signed_text_is_kept_byte_for_byte(text: str) -> None:
    body = f' {{ "tcbInfo" :{text} , "signature":"{SIGNATURE}" }}\n'.encode()
    signed = read_signed_object(body, "tcbInfo")
    assert signed.text == text.encode()
    assert signed.value == json.loads(text)
    assert signed.signature == bytes.fromhex(SIGNATURE)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff{}",
        b'{"tcbInfo":{}}',
        b'{"tcbInfo":{},"signature":"ab"}',
        b'{"tcbInfo":[],"signature":"%s"}' % SIGNATURE.encode(),
        b'{"tcbInfo":{},"tcbInfo":{},"signature":"%s"}' % SIGNATURE.encode(),
        b'{"tcbInfo":{"a":1,"a":2},"signature":"%s"}' % SIGNATURE.encode(),
        b'{"tcbInfo":{"a":NaN},"signature":"%s"}' % SIGNATURE.encode(),
        b'{"tcbInfo":{},"signature":"%s"}x' % SIGNATURE.encode(),
        b'{"tcbInfo":{} "signature":"%s"}' % SIGNATURE.encode(),
        b'{"tcbInfo":' + b'{"a":' * 100_000,
        b"{" + b" " * MAX_JSON,
    ],
)
def test_anything_else_is_refused(body: bytes) -> None:
    with pytest.raises(EndorsementError):
        read_signed_object(body, "tcbInfo")


@given(data=st.binary(max_size=300) | st.text(max_size=300).map(str.encode))
def test_any_bytes_give_members_or_an_error(data: bytes) -> None:
    try:
        members = members_of(data)
    except EndorsementError:
        return
    assert json.loads(data) == {name: value for name, (value, _) in members.items()}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
FIELDS = st.sampled_from(
    ["id", "version", "issueDate", "nextUpdate", "fmspc", "pceId", "tcbType", "tcbEvaluationDataNumber", "tcbLevels",
     "tdxModule", "tdxModuleIdentities", "miscselect", "attributes", "mrsigner", "isvprodid"]
)  # fmt: skip


@given(value=st.dictionaries(FIELDS, JSON | st.sampled_from([2, 3, "TDX", "SGX", "2026-01-01T00:00:00Z"])))
def test_any_statement_is_interpreted_or_refused(value: dict[str, object]) -> None:
    for member, read, parse in (
        ("tcbInfo", read_tcb_info, parse_tcb_info),
        ("enclaveIdentity", read_enclave_identity, parse_enclave_identity),
    ):
        signed = read(json.dumps({member: value, "signature": SIGNATURE}).encode())
        with pytest.raises(EndorsementError):
            parse(signed)


def test_fields_are_read_with_their_types() -> None:
    value = JsonObject({"flag": True, "number": 7, "time": "2026-13-01T00:00:00Z", "short": "ab"}, "x")
    assert value.integer("number") == 7
    for call in (
        lambda: value.integer("flag"),
        lambda: value.integer("number", 6),
        lambda: value.time("time"),
        lambda: value.hex("short", 2),
        lambda: value.text("absent"),
        lambda: value.object("number"),
        lambda: value.objects("number"),
    ):
        with pytest.raises(EndorsementError, match=r"x\."):
            call()
