# SPDX-License-Identifier: Apache-2.0
"""The TEE's key as a JWK: what is kept, what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from eaa.kbs import TeeKeyPair, TeePubKey
from eaa.kbs._encoding import b64url, from_b64url
from eaa.rats import ProtocolError

EC = TeeKeyPair.generate()
RSA = TeeKeyPair.generate("RSA-OAEP-256")
MODULUS = int.from_bytes(from_b64url(RSA.public.jwk["n"], "n"), "big")


@pytest.mark.parametrize(
    ("kind", "members"),
    [
        ("P-256", ["kty", "crv", "alg", "x", "y"]),
        ("P-521", ["kty", "crv", "alg", "x", "y"]),
        ("RSA-OAEP-256", ["kty", "alg", "n", "e"]),
    ],
)
def test_a_pair_of_each_kind_travels_as_a_jwk(kind: str, members: list[str]) -> None:
    pair = TeeKeyPair.generate(kind)
    assert list(pair.public.jwk) == members
    assert TeePubKey.from_jwk(pair.public.jwk) == pair.public
    assert pair.private.public_key() == pair.public.key


def test_untyped_members_are_dropped() -> None:
    assert TeePubKey.from_jwk(EC.public.jwk | {"kid": "x", "d": "private"}).jwk == EC.public.jwk


def test_the_private_half_shows_nowhere_but_in_its_own_pem() -> None:
    numbers = EC.private.private_numbers() if isinstance(EC.private, ec.EllipticCurvePrivateKey) else None
    assert numbers is not None
    assert str(numbers.private_value) not in repr(EC)
    assert "PRIVATE" not in repr(EC)
    again = load_pem_private_key(EC.private_pem().encode(), None)
    assert isinstance(again, ec.EllipticCurvePrivateKey)
    assert again.public_key() == EC.public.key


def test_pem_layouts_are_those_that_guests_read() -> None:
    assert EC.private_pem().startswith("-----BEGIN PRIVATE KEY-----")
    assert RSA.private_pem().startswith("-----BEGIN RSA PRIVATE KEY-----")


def test_no_two_pairs_are_alike() -> None:
    assert TeeKeyPair.generate().public != TeeKeyPair.generate().public


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ProtocolError, match="X25519"):
        TeeKeyPair.generate("X25519")


def test_rsa_pkcs1_v15_is_refused_with_its_reason() -> None:
    with pytest.raises(ProtocolError, match="RSA1_5") as refused:
        TeePubKey.from_jwk(RSA.public.jwk | {"alg": "RSA1_5"})
    assert "RSA-OAEP-256" in refused.value.hint


def test_another_curve_is_refused_when_given_as_a_key() -> None:
    with pytest.raises(ProtocolError, match="curve"):
        TeePubKey.from_public_key(ec.generate_private_key(ec.SECP384R1()).public_key())


@pytest.mark.parametrize(
    "change",
    [
        {"kty": "OKP"},
        {"kty": None},
        {"crv": "P-384"},
        {"crv": "P-521"},
        {"crv": ["P-256"]},
        {"alg": "ECDH-ES"},
        {"x": b64url(bytes(32))},
        {"x": b64url(b"\xff" * 32)},
        {"x": EC.public.jwk["x"] + "="},
        {"x": b64url(bytes(1) + from_b64url(EC.public.jwk["x"], "x"))},
        {"x": 5},
        {"x": "\u00e9"},
        {"y": EC.public.jwk["x"]},
    ],
)
def test_other_ec_keys_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        TeePubKey.from_jwk(EC.public.jwk | change)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "RSA-OAEP"},
        {"n": b64url((MODULUS >> 2048).to_bytes(128, "big"))},
        {"n": b64url(b"\xff" * 2048)},
        {"n": b64url((MODULUS + 1).to_bytes(384, "big"))},
        {"e": b64url(b"\x01")},
        {"e": b64url(b"\x02")},
        {"e": b64url(b"\x01" + bytes(8) + b"\x01")},
        {"e": ""},
    ],
)
def test_other_rsa_keys_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        TeePubKey.from_jwk(RSA.public.jwk | change)


def test_an_rsa_key_reads_back() -> None:
    assert isinstance(RSA.public.key, rsa.RSAPublicKey)
    assert RSA.public.key.public_numbers().n == MODULUS


values = (
    st.none()
    | st.integers()
    | st.text(max_size=50)
    | st.binary(max_size=70).map(b64url)
    | st.lists(st.text())
)


@given(
    values
    | st.dictionaries(st.sampled_from(["kty", "crv", "alg", "x", "y", "n", "e"]), values).flatmap(
        lambda change: st.sampled_from([EC.public.jwk | change, RSA.public.jwk | change])
    )
)
def test_any_jwk_is_a_key_or_refused(jwk: Any) -> None:
    try:
        key = TeePubKey.from_jwk(jwk)
    except ProtocolError:
        return
    assert key.jwk.items() <= jwk.items()
