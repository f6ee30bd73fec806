# SPDX-License-Identifier: Apache-2.0
"""Trustee's messages: three types, one version, and values that can match."""

from __future__ import annotations

import contextlib
import json
from base64 import b64encode
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import InputError
from eaa.rim.errors import ManifestError
from eaa.rim.rvps import MAX_PAYLOAD, Message, parse_message, values_of_message, write_message
from eaa.rim.values import checked_reference_values

if TYPE_CHECKING:
    from pathlib import Path


def message(kind: str, payload: bytes) -> dict[str, Any]:
    return {"version": "0.1.0", "type": kind, "payload": b64encode(payload).decode()}


@pytest.mark.parametrize("kind", ["sample", "corim", "swid"])
def test_a_message_reads_back(kind: str) -> None:
    assert parse_message(write_message(Message(kind, b"payload"))) == Message(kind, b"payload")
    without_version = {"type": kind, "payload": "AA=="}
    assert parse_message(json.dumps(without_version).encode()) == Message(kind, b"\0")


@pytest.mark.parametrize(
    "changes",
    [
        {"version": "0.2.0"},
        {"type": "in-toto"},
        {"type": None},
        {"payload": ""},
        {"payload": "*"},
        {"payload": 1},
    ],
)
def test_what_is_no_message_is_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(ManifestError):
        parse_message(json.dumps(message("sample", b"{}") | changes).encode())


def test_a_payload_has_its_limit() -> None:
    with pytest.raises(ManifestError):
        values_of_message(message("sample", b" " * (MAX_PAYLOAD + 1)))


def test_a_sample_is_names_and_values() -> None:
    assert values_of_message(message("sample", b'{"a": ["AB' + b"0" * 30 + b'", "Ab"], "b": 3}')) == {
        "a": ["ab" + "0" * 30, "Ab"],
        "b": 3,
    }
    for wrong in (b"[]", b"{}", b"{", b'{"a":1,"a":2}', b'{"":1}', b'{"a":null}', b'{"a":[]}'):
        with pytest.raises(InputError):
            values_of_message(message("sample", wrong))


def test_a_corim_gives_its_values(vectors: Path) -> None:
    data = (vectors / "corim" / "corim-trustee-unsigned" / "corim.cbor").read_bytes()
    (name,) = values_of_message(message("corim", data))
    assert name.endswith("/digests")
    without = (vectors / "corim" / "corim-unsigned" / "corim_roles.cbor").read_bytes()
    for wrong in (b"\xa0", without):
        with pytest.raises(InputError):
            values_of_message(message("corim", wrong))


def test_a_rim_is_not_taken_unverified() -> None:
    with pytest.raises(InputError, match="without verifying") as caught:
        values_of_message(message("swid", b"<a/>"))
    assert "eaa verdict import" in caught.value.hint


def test_short_texts_keep_their_case() -> None:
    assert checked_reference_values({"status": "UpToDate", "mr": "AB" * 16}) == {
        "status": "UpToDate",
        "mr": "ab" * 16,
    }


@given(data=st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_message(data)


@given(kind=st.sampled_from(["sample", "corim", "swid"]), payload=st.binary(max_size=100))
def test_any_payload_gives_values_or_is_refused(kind: str, payload: bytes) -> None:
    with contextlib.suppress(InputError):
        assert values_of_message(message(kind, payload))
