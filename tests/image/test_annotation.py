# SPDX-License-Identifier: Apache-2.0
"""Annotation packets: three forms read, one written, and what must not open."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from dataclasses import replace
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from eaa.image import AnnotationPacket, ImageError, ResourceUri, unwrap, wrap

KEK = bytes(range(32))
IV = bytes(12)
KID = ResourceUri("default", "key", "1")
OPTIONS = b'{"symkey":"AAAA","digest":"sha256:00","cipheroptions":{"nonce":"AAAA"}}'
WRAPPED = AESGCM(KEK).encrypt(IV, OPTIONS, None)
ORIGINAL = {
    "kid": "84688df7-2c0c-40fa-956b-29d8e74d16c0",
    "wrapped_data": list(WRAPPED),
    "iv": list(IV),
    "algorithm": "AES",
    "key_length": 256,
}
FIRST = {
    "kid": "kbs:///default/key/1",
    "wrapped_data": b64encode(WRAPPED).decode(),
    "iv": b64encode(IV).decode(),
    "wrap_type": "A256GCM",
}
SECOND = FIRST | {"version": "0.1.0", "provider": "kbs", "provider_settings": {}, "annotations": {}}
PUBLISHED = (
    "eyJraWQiOiJrYnM6Ly8vZGVmYXVsdC9rZXkva2V5X2lkMSIsIndyYXBwZWRfZGF0YSI6IjNFZ1FidzZDUlY0YmlrMnNLM3RrTUpweWNWV0RVZXVIY1lu"
    "Z1drZFd1K0swQXpDUGY3dFlCQ1oxSGxXaWFsZmdFdEQxdDBuc3N2YS81aElFbUxPbXZjYXJ2SGlNdERyRElhY1JIdElOTHFyUUpCZUY1M2Q4MTN1L0dD"
    "K3prL3RHeEF3ZVd6ZTR1S0VROG1qc2hyMytiYll3RUhKdVFyM3VncWlXRTlnNUhndU1HVmVFZ2ZReWR2dS9TZmVYMmZSeTRQWmtGcjhWbkQ3WjRrNUhX"
    "VkhaTWY0U21oSUhhUnlVa1NoT3B4dVdQcG54OW9IaGJSMEdKd2Zwb3l4TzRydEpYaTI4ODVxZ1Uya0dVaFo2RTJTbmgrQT0iLCJpdiI6IjRlekxiZU1R"
    "ZEVrWS9pdUYiLCJ3cmFwX3R5cGUiOiJBMjU2R0NNIn0="
)
"""An annotation that the Confidential Containers' key provider publishes as its example."""


def packet(members: Any) -> AnnotationPacket:
    return AnnotationPacket.from_json(json.dumps(members).encode())


@pytest.mark.parametrize("members", [ORIGINAL, FIRST, SECOND], ids=["original", "first", "second"])
def test_each_form_opens(members: dict[str, Any]) -> None:
    assert unwrap(KEK, packet(members)) == OPTIONS


def test_the_original_form_names_a_key_of_the_default_repository() -> None:
    assert packet(ORIGINAL).kid.path == "default/key/84688df7-2c0c-40fa-956b-29d8e74d16c0"


def test_a_published_annotation_reads() -> None:
    published = AnnotationPacket.from_json(b64decode(PUBLISHED))
    assert str(published.kid) == "kbs:///default/key/key_id1"
    assert b64encode(published.iv) == b"4ezLbeMQdEkY/iuF"


def test_the_second_form_is_written() -> None:
    written = json.loads(AnnotationPacket(KID, WRAPPED, IV).to_json())
    assert written == SECOND


def test_what_is_wrapped_unwraps() -> None:
    made = wrap(KEK, OPTIONS, kid=KID)
    assert unwrap(KEK, AnnotationPacket.from_json(made.to_json())) == OPTIONS


def test_no_two_packets_share_an_iv() -> None:
    assert len({wrap(KEK, OPTIONS, kid=KID).iv for _ in range(50)}) == 50


def test_another_kek_does_not_open_it_and_the_error_names_the_key() -> None:
    with pytest.raises(ImageError, match="does not open with kbs:///default/key/1"):
        unwrap(bytes(32), wrap(KEK, OPTIONS, kid=KID))


def test_an_altered_packet_does_not_open() -> None:
    made = wrap(KEK, OPTIONS, kid=KID)
    with pytest.raises(ImageError):
        unwrap(KEK, replace(made, wrapped_data=bytes([made.wrapped_data[0] ^ 1]) + made.wrapped_data[1:]))


@pytest.mark.parametrize("size", [0, 16, 31, 33])
def test_a_kek_has_32_bytes(size: int) -> None:
    with pytest.raises(ImageError, match=f"has {size} bytes"):
        wrap(bytes(size), OPTIONS, kid=KID)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"wrap_type": "A256CTR"}, "integrity"),
        ({"wrap_type": "aes_256_ctr"}, "integrity"),
        ({"wrap_type": "none"}, "unknown way"),
        ({"wrap_type": None}, "wrap_type"),
        ({"version": "0.2.0"}, "version"),
        ({"provider": "aliyun"}, "provider"),
        ({"kid": "kbs:///../x"}, "resource URI"),
        ({"kid": 7}, "kid"),
        ({"iv": b64encode(bytes(11)).decode()}, "too short"),
        ({"iv": b64encode(bytes(13)).decode()}, "at most 12"),
        ({"wrapped_data": [0]}, "too short"),
        ({"wrapped_data": [256] * 20}, "neither"),
        ({"wrapped_data": [True] * 20}, "neither"),
        ({"wrapped_data": "!"}, "neither"),
        ({"wrapped_data": b64encode(bytes(100_000)).decode()}, "at most"),
    ],
)
def test_other_packets_are_refused(change: dict[str, Any], why: str) -> None:
    with pytest.raises(ImageError, match=why):
        packet(SECOND | change)


@pytest.mark.parametrize("change", [{"algorithm": "SM4"}, {"key_length": 128}])
def test_other_ciphers_of_the_original_form_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ImageError, match="AES-256"):
        packet(ORIGINAL | change)


values: st.SearchStrategy[object] = st.one_of(
    st.none(), st.integers(), st.text(max_size=30), st.lists(st.integers(-1, 256), max_size=40)
)


@given(
    st.binary(max_size=200)
    | st.dictionaries(st.sampled_from(sorted(SECOND)), values).map(
        lambda change: json.dumps(SECOND | change).encode()
    )
    | st.dictionaries(st.sampled_from(sorted(ORIGINAL)), values).map(
        lambda change: json.dumps(ORIGINAL | change).encode()
    )
)
def test_any_bytes_are_a_packet_or_refused(data: bytes) -> None:
    try:
        read = AnnotationPacket.from_json(data)
    except ImageError:
        return
    assert AnnotationPacket.from_json(read.to_json()) == read
