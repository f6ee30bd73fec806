# SPDX-License-Identifier: Apache-2.0
"""The key provider's messages, as skopeo, containerd and ocicrypt's Rust port send them."""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.image import (
    AnnotationPacket,
    ImageError,
    ResourceUri,
    parse_unwrap,
    parse_wrap,
    unwrap_result,
    wrap,
    wrap_result,
)

OPTIONS = b'{"symkey":"c2VjcmV0","digest":"sha256:00"}'
KID = ResourceUri("default", "key", "1")


def b64(data: str | bytes) -> str:
    return b64encode(data.encode() if isinstance(data, str) else data).decode()


def wrap_message(parameters: Any) -> bytes:
    """What skopeo sends, null by null."""
    return json.dumps(
        {
            "op": "keywrap",
            "keywrapparams": {
                "ec": {"Parameters": parameters, "DecryptConfig": {"Parameters": {}}},
                "optsdata": b64(OPTIONS),
            },
            "keyunwrapparams": {"dc": None, "annotation": None},
        }
    ).encode()


def unwrap_message(dc: Any, annotation: Any) -> bytes:
    return json.dumps(
        {
            "op": "keyunwrap",
            "keywrapparams": {"ec": None, "optsdata": None},
            "keyunwrapparams": {"dc": dc, "annotation": annotation},
        }
    ).encode()


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("kbs:///default/key/1", "default/key/1"),
        ("keyid=kbs:///default/key/1::algorithm=A256GCM", "default/key/1"),
        ("algorithm=A256GCM::keyid=kbs://host:8080/a/b/c", "a/b/c"),
        ("keyid=/a/b/c", "a/b/c"),
        ("attestation-agent", "default/key/attestation-agent"),
        ("84688df7-2c0c-40fa-956b-29d8e74d16c0", "default/key/84688df7-2c0c-40fa-956b-29d8e74d16c0"),
    ],
)
def test_the_key_is_named_in_any_form(text: str, path: str) -> None:
    request = parse_wrap(wrap_message({"attestation-agent": [b64(text)]}))
    assert request.kid is not None
    assert (request.kid.path, request.optsdata) == (path, OPTIONS)


@pytest.mark.parametrize("parameters", [{}, None, {"attestation-agent": []}, {"attestation-agent": [""]}])
def test_no_key_may_be_named(parameters: Any) -> None:
    assert parse_wrap(wrap_message(parameters)).kid is None


def test_only_an_algorithm_may_be_named() -> None:
    assert parse_wrap(wrap_message({"attestation-agent": [b64("algorithm=A256GCM")]})).kid is None


def test_a_provider_configured_under_another_name_is_served() -> None:
    request = parse_wrap(wrap_message({"verdictd": [b64("kbs:///a/b/c")]}))
    assert request.kid == ResourceUri("a", "b", "c")


@pytest.mark.parametrize(
    "text",
    [
        "keyid=kbs:///a/b/c::algorithm=A256CTR",
        "keyid=kbs:///a/b/c::keypath=/etc/shadow",
        "sample=true",
        "keyid=kbs:///a/b/c::keyid=kbs:///d/e/f",
        "keyid=::algorithm=A256GCM",
        "keyid=kbs:///a/b/c::",
        "../..",
        "\x00",
    ],
)
def test_other_parameters_are_refused(text: str) -> None:
    with pytest.raises(ImageError):
        parse_wrap(wrap_message({"attestation-agent": [b64(text)]}))


@pytest.mark.parametrize(
    "dc",
    [
        None,
        {},
        {"Parameters": {"attestation-agent": ["RW5hYmxlZA=="]}},
        {"Parameters": {"attestation-agent": [b64("eaa_kbc::10.0.0.1:20002")]}},
        {"Parameters": {"gpg-privatekeys": [""]}},
    ],
    ids=["null", "empty", "skopeo", "original agent", "containerd"],
)
def test_the_decryption_parameters_need_not_name_this_provider(dc: Any) -> None:
    assert parse_unwrap(unwrap_message(dc, b64(b"packet"))).annotation == b"packet"


def test_an_array_of_bytes_is_read_like_base64() -> None:
    assert parse_unwrap(unwrap_message(None, list(b"packet"))).annotation == b"packet"


def test_results_are_base64_strings_as_go_reads_them() -> None:
    packet = wrap(bytes(32), OPTIONS, kid=KID)
    wrapped = json.loads(wrap_result(packet))
    assert AnnotationPacket.from_json(b64decode(wrapped["keywrapresults"]["annotation"])) == packet
    assert json.loads(unwrap_result(OPTIONS)) == {"keyunwrapresults": {"optsdata": b64(OPTIONS)}}


def test_the_layer_key_does_not_show() -> None:
    assert "c2VjcmV0" not in repr(parse_wrap(wrap_message({})))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"{}",
        b'{"op":"keyunwrap"}',
        b'{"op":"keyunwrap","keyunwrapparams":null}',
        unwrap_message(None, None),
        unwrap_message(None, "%"),
        wrap_message({}),
        b'{"op":"keywrap","op":"keyunwrap","keyunwrapparams":{"annotation":"AA=="}}',
        b" " * (1 << 20) + b"{}",
    ],
)
def test_malformed_unwrap_messages_are_refused(data: bytes) -> None:
    with pytest.raises(ImageError):
        parse_unwrap(data)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=10) | st.just(b64("keyid=kbs:///a/b/c")),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    st.binary(max_size=100)
    | st.fixed_dictionaries(
        {
            "op": st.sampled_from(["keywrap", "keyunwrap"]),
            "keywrapparams": json_values
            | st.fixed_dictionaries(
                {
                    "optsdata": json_values,
                    "ec": json_values | st.fixed_dictionaries({"Parameters": json_values}),
                }
            ),
            "keyunwrapparams": json_values | st.fixed_dictionaries({"annotation": json_values}),
        }
    ).map(lambda message: json.dumps(message).encode())
)
def test_any_bytes_are_a_message_or_refused(data: bytes) -> None:
    for parse in (parse_wrap, parse_unwrap):
        try:
            parse(data)
        except ImageError:
            continue
