# SPDX-License-Identifier: Apache-2.0
"""Signed JSON: the bytes that were signed are kept exactly, and anything odd is refused."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from eaa.rats import EndorsementError
from eaa.tee.dcap.collateral import (
    parse_enclave_identity,
    parse_tcb_info,
    read_enclave_identity,
    read_tcb_info,
)
from eaa.tee.dcap.signed_json import (
    MAX_JSON,
    Number,
    SignedObject,
    Time,
    interpret,
    members_of,
    read_signed_object,
    read_time,
)

SIGNATURE = "ab" * 64


class Anything(Struct):
    """A shape that any object has."""


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
        interpret(read_signed_object(body, "tcbInfo"), Anything)


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


class Shape(Struct):
    flag: bool
    number: Number
    time: Time


@pytest.mark.parametrize(
    ("member", "text"),
    [
        ("flag", "1"),
        ("number", "true"),
        ("number", "7.0"),
        ("number", "-1"),
        ("number", "2147483648"),
        ("number", "9" * 40),
        ("time", '"2026-01-01T00:00:00+00:00"'),
        ("time", '"2026-01-01T00:00:00Z\\n"'),
        ("number", ""),
    ],
)
def test_fields_are_read_with_their_types(member: str, text: str) -> None:
    """What does not fit is refused under its name, whichever way the document was read."""
    fields = {"flag": "true", "number": "7", "time": '"2026-01-01T00:00:00Z"'}
    for blank in ("", " "):

        def statement(fields: dict[str, str], blank: str = blank) -> SignedObject:
            inner = ",".join(f'"{name}":{blank}{value}' for name, value in fields.items())
            return read_signed_object(f'{{"x":{{{inner}}},"signature":"{SIGNATURE}"}}'.encode(), "x")

        assert interpret(statement(fields), Shape).number == 7
        broken = (
            fields | {member: text} if text else {name: fields[name] for name in fields if name != member}
        )
        with pytest.raises(EndorsementError, match=rf"`(\$\.)?{member}"):
            interpret(statement(broken), Shape)


def test_a_day_that_no_calendar_has_is_refused() -> None:
    with pytest.raises(EndorsementError, match="calendar"):
        read_time("2026-13-01T00:00:00Z")


@given(value=st.dictionaries(st.text(max_size=8), JSON, max_size=4))
def test_a_document_reads_the_same_with_and_without_blanks(value: dict[str, object]) -> None:
    plain = json.dumps(value, separators=(",", ":"), ensure_ascii=False)
    try:
        content = plain.encode()
    except UnicodeEncodeError:
        return
    read = members_of(content)
    assert {name: member for name, (member, _) in read.items()} == value
    assert {name: json.loads(text) for name, (_, text) in read.items()} == value
    assert all(text in content for _, text in read.values())
    spaced = members_of(json.dumps(value, indent=1).encode())
    assert {name: member for name, (member, _) in spaced.items()} == value


def test_a_name_that_is_there_twice_is_found_however_the_text_is_written() -> None:
    for text in (
        '{"a":{"b":1,"b":1}}',
        '{"a": {"b": 1, "b": 1}}',
        '{"a":1,"a":1}',
        '{"a":[{"b":1,"\\u0062":1}]}',
    ):
        with pytest.raises(EndorsementError, match="twice"):
            members_of(text.encode())
