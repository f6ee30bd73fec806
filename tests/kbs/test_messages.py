# SPDX-License-Identifier: Apache-2.0
"""The messages' exact shapes, and the strict JSON below them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.kbs import (
    MAX_ATTESTATION,
    Attestation,
    Challenge,
    ErrorInformation,
    JweResponse,
    Request,
    RuntimeData,
    TeeEvidence,
    TeeKeyPair,
    TokenResponse,
    parse_json,
)
from eaa.rats import ProtocolError

KEY = TeeKeyPair.generate().public
ATTESTATION: dict[str, Any] = {
    "init-data": None,
    "runtime-data": {"nonce": "AAAA", "tee-pubkey": KEY.jwk},
    "tee-evidence": {"primary_evidence": {"quote": "AA=="}, "additional_evidence": ""},
}


def test_a_request_as_the_guest_components_send_it() -> None:
    data = b'{"version":"0.4.0","tee":"snp","extra-params":{"supported-hash-algorithms":["sha256","sha384"]}}'
    request = Request.from_json(data)
    request.require_version()
    assert (request.tee, request.extra_params["supported-hash-algorithms"][1]) == ("snp", "sha384")
    assert request.to_json() == data


def test_extra_params_may_be_an_empty_string_and_unknown_members_are_ignored() -> None:
    assert Request.from_json(b'{"version":"0.4.0","tee":"tdx","extra-params":"","more":1}').extra_params == ""


def test_another_version_is_refused_in_the_words_guests_look_for() -> None:
    with pytest.raises(
        ProtocolError, match=r"KBS Client Protocol Version Mismatch: expect =0\.4\.0 .* 0\.2\.0"
    ):
        Request(version="0.2.0", tee="tdx").require_version()


def test_a_challenge_is_written_with_its_extra_params() -> None:
    assert Challenge(nonce="AAAA").to_json() == b'{"nonce":"AAAA","extra-params":""}'


def test_an_attestation_reads_and_writes_the_same_text() -> None:
    data = json.dumps(ATTESTATION, separators=(",", ":")).encode()
    message = Attestation.from_json(data, limit=MAX_ATTESTATION)
    assert message.runtime_data.tee_pubkey == KEY
    assert message.to_json() == data


def test_an_attestation_is_built_by_python_names() -> None:
    built = Attestation(
        runtime_data=RuntimeData(nonce="AAAA", tee_pubkey=KEY),
        tee_evidence=TeeEvidence(primary_evidence={"quote": "AA=="}),
    )
    assert json.loads(built.to_json()) == ATTESTATION


def test_init_data_is_read() -> None:
    members = ATTESTATION | {"init-data": {"format": "toml", "body": "a = 1"}}
    init_data = Attestation.from_json(json.dumps(members).encode()).init_data
    assert init_data is not None
    assert init_data.body == "a = 1"


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ({"runtime-data": None}, "runtime-data"),
        ({"runtime-data": {"nonce": 7, "tee-pubkey": KEY.jwk}}, "nonce"),
        ({"runtime-data": {"nonce": "A", "tee-pubkey": {"kty": "oct"}}}, "tee-pubkey"),
        ({"runtime-data": {"nonce": "A" * 5000, "tee-pubkey": KEY.jwk}}, "nonce"),
        ({"tee-evidence": {}}, "primary_evidence"),
        ({"tee-evidence": {"primary_evidence": 1, "additional_evidence": {}}}, "additional_evidence"),
        ({"init-data": "x"}, "init-data"),
    ],
)
def test_a_malformed_attestation_names_the_member_and_not_its_value(
    change: dict[str, Any], where: str
) -> None:
    with pytest.raises(ProtocolError, match=where) as refused:
        Attestation.from_json(json.dumps(ATTESTATION | change).encode())
    assert "AAAAA" not in str(refused.value)


def test_an_error_names_its_variant() -> None:
    error = ErrorInformation.of("PolicyDeny", "Access denied by policy")
    assert json.loads(error.to_json()) == {
        "type": "https://github.com/confidential-containers/kbs/errors/PolicyDeny",
        "detail": "Access denied by policy",
    }
    assert error.variant == "PolicyDeny"


def test_a_token_does_not_show() -> None:
    assert "eyJ" not in repr(TokenResponse(token="eyJhbGciOi"))


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "UTF-8"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b'{"a":1,"a":2}', "twice"),
        (b'{"a":{"b":1,"b":1}}', "twice"),
        (b"NaN", "NaN"),
        (b"-Infinity", "NaN"),
        (b"1e999", "out of range"),
        (b'"\\ud800"', "UTF-8"),
        (b"9" * 5000, "too long"),
        (b"[" * 65 + b"]" * 65, "nested"),
        (b"[" * 100_000, "nested"),
        (b'{"a":' * 50_000, "nested"),
        (b" " * 200_001, "at most"),
    ],
)
def test_json_that_two_readers_could_read_differently_is_refused(data: bytes, why: str) -> None:
    with pytest.raises(ProtocolError, match=why):
        parse_json(data, 300_000 if why != "at most" else 200_000)


def test_json_nested_to_the_limit_is_read() -> None:
    value = parse_json(b"[" * 64 + b"]" * 64, 1000)
    for _ in range(63):
        (value,) = value
    assert value == []


@given(st.binary(max_size=200) | st.text(max_size=100).map(str.encode))
def test_any_bytes_are_json_or_refused(data: bytes) -> None:
    try:
        value = parse_json(data, 1000)
    except ProtocolError:
        return
    assert json.loads(json.dumps(value)) == value


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)


@given(
    json_values
    | st.fixed_dictionaries(
        {"runtime-data": st.fixed_dictionaries({"nonce": st.just("A"), "tee-pubkey": json_values})},
        optional={"tee-evidence": json_values, "init-data": json_values},
    )
    | st.dictionaries(
        st.sampled_from(["nonce", "extra-params", "version", "tee", "type", "token", "tag"]), json_values
    )
)
def test_any_json_is_a_message_or_refused(value: Any) -> None:
    data = json.dumps(value).encode()
    for kind in (Request, Challenge, Attestation, ErrorInformation, TokenResponse, JweResponse):
        try:
            kind.from_json(data)
        except ProtocolError:
            continue
