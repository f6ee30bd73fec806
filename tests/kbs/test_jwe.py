# SPDX-License-Identifier: Apache-2.0
"""JWE: a golden vector, joserfc as the independent reader and writer, and everything that must not open."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jwe as joserfc_jwe
from joserfc.jwk import ECKey, RSAKey

from eaa.kbs import TeeKeyPair, TeePubKey, decrypt, encrypt
from eaa.kbs._encoding import b64url, from_b64url
from eaa.kbs.jwe import _encrypt
from eaa.rats import ProtocolError

ALGORITHMS = ["ECDH-ES+A256KW", "RSA-OAEP-256", "A256GCM"]
KINDS = ["P-256", "P-521", "RSA-OAEP-256"]
PAIRS = {kind: TeeKeyPair.generate(kind) for kind in KINDS}

# Key pairs published as test data of the Confidential Containers' guest components.
RECIPIENT_D = "7baJLiTk68NcLgYPv05jJvElqoAhbzi1ZWx4OyILUtA"
EPHEMERAL_D = "Mj3WjKn-BI3cvwmy-iI2PFcwdCIil6JQ2qDdFxwWqFI"
HEADER = (
    '{"alg":"ECDH-ES+A256KW","enc":"A256GCM","epk":{"crv":"P-256","kty":"EC",'
    '"x":"ba6dhVZMQpM00nfC05nss0_5OQofKMQ8QgiXx3qU_1U","y":"4cLtTuwNiGopbVTbE1oaUyNXPWmRpweTs7DTUdxS6yE"}}'
)
GOLDEN = {
    "protected": b64url(HEADER.encode()),
    "encrypted_key": "SwX3cRFxVCF-y4pQNClFFtLMrwIS3sM0PGH_4RXch_Blxfpo923PBw",
    "iv": "AAECAwQFBgcICQoL",
    "ciphertext": "L2e6d6rFh1rM",
    "tag": "EDC30Kc3b6VeGOcJbXdeUg",
}


def private_key(d: str) -> ec.EllipticCurvePrivateKey:
    return ec.derive_private_key(int.from_bytes(from_b64url(d, "d"), "big"), ec.SECP256R1())


def joserfc_key(pair: TeeKeyPair) -> ECKey | RSAKey:
    if isinstance(pair.private, rsa.RSAPrivateKey):
        return RSAKey.import_key(pair.private_pem())
    return ECKey.import_key(pair.private_pem())


def test_the_golden_vector_is_reproduced_byte_for_byte() -> None:
    recipient = TeePubKey.from_public_key(private_key(RECIPIENT_D).public_key())
    made = _encrypt(
        b"hello EAA", recipient, cek=bytes(range(32)), iv=bytes(range(12)), ephemeral=private_key(EPHEMERAL_D)
    )
    assert made == GOLDEN


def test_the_golden_vector_opens() -> None:
    assert decrypt(GOLDEN, private_key(RECIPIENT_D)) == b"hello EAA"


@pytest.mark.parametrize("kind", KINDS)
def test_joserfc_opens_what_we_wrap(kind: str) -> None:
    made = encrypt(b"a secret", PAIRS[kind].public)
    compact = ".".join(made[part] for part in ("protected", "encrypted_key", "iv", "ciphertext", "tag"))
    opened = joserfc_jwe.decrypt_compact(compact, joserfc_key(PAIRS[kind]), algorithms=ALGORITHMS)
    assert opened.plaintext == b"a secret"


@pytest.mark.parametrize("kind", KINDS)
def test_we_open_what_joserfc_wraps(kind: str) -> None:
    pair = PAIRS[kind]
    header = {"alg": pair.public.algorithm, "enc": "A256GCM"}
    compact = joserfc_jwe.encrypt_compact(header, b"a secret", joserfc_key(pair), algorithms=ALGORITHMS)
    names = ("protected", "encrypted_key", "iv", "ciphertext", "tag")
    assert decrypt(dict(zip(names, compact.split("."), strict=True)), pair.private) == b"a secret"


@pytest.mark.parametrize("kind", KINDS)
def test_the_header_is_what_a_rust_client_writes_again(kind: str) -> None:
    """``alg``, ``enc``, then the rest sorted at every level, compact."""
    made = encrypt(b"x", PAIRS[kind].public.jwk)
    text = urlsafe_b64decode(made["protected"] + "==").decode()
    header = json.loads(text)
    rest = {name: header[name] for name in sorted(header) if name not in {"alg", "enc"}}
    again = {"alg": header["alg"], "enc": header["enc"]} | {
        name: dict(sorted(value.items())) for name, value in rest.items()
    }
    assert text == json.dumps(again, separators=(",", ":"))


@pytest.mark.parametrize("kind", KINDS)
def test_another_key_does_not_open_it(kind: str) -> None:
    with pytest.raises(ProtocolError, match="does not open"):
        decrypt(encrypt(b"x", PAIRS[kind].public), TeeKeyPair.generate(kind).private)


@pytest.mark.parametrize("part", ["encrypted_key", "iv", "ciphertext", "tag"])
@pytest.mark.parametrize("kind", KINDS)
def test_any_altered_part_is_refused(kind: str, part: str) -> None:
    made = encrypt(b"some text", PAIRS[kind].public)
    altered = bytearray(from_b64url(made[part], part))
    altered[0] ^= 1
    with pytest.raises(ProtocolError, match="does not open"):
        decrypt(made | {part: b64url(bytes(altered))}, PAIRS[kind].private)


def test_an_altered_header_is_refused_even_when_it_means_the_same() -> None:
    made = encrypt(b"x", PAIRS["P-256"].public)
    header = from_b64url(made["protected"], "protected").replace(b'","enc"', b'", "enc"')
    with pytest.raises(ProtocolError, match="does not open"):
        decrypt(made | {"protected": b64url(header)}, PAIRS["P-256"].private)


@pytest.mark.parametrize(
    "change",
    [
        {"alg": "RSA1_5"},
        {"alg": "dir"},
        {"alg": "ECDH-ES"},
        {"enc": "A128GCM"},
        {"epk": None},
        {"epk": {"kty": "EC", "crv": "P-521", "x": "AA", "y": "AA"}},
        {"epk": {"kty": "EC", "crv": "P-256", "x": b64url(bytes(32)), "y": b64url(bytes(32))}},
        {"zip": "DEF"},
        {"crit": ["exp"]},
        {"apu": "AA"},
    ],
)
def test_other_headers_are_refused(change: dict[str, Any]) -> None:
    made = encrypt(b"x", PAIRS["P-256"].public)
    header = json.loads(from_b64url(made["protected"], "protected")) | change
    with pytest.raises(ProtocolError):
        decrypt(made | {"protected": b64url(json.dumps(header).encode())}, PAIRS["P-256"].private)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)
headers = st.dictionaries(st.sampled_from(["alg", "enc", "epk", "zip"]), json_values) | st.just(
    {"alg": "ECDH-ES+A256KW", "enc": "A256GCM"}
)


@given(
    header=headers.map(lambda value: b64url(json.dumps(value).encode())) | st.text(max_size=40) | json_values,
    rest=st.fixed_dictionaries(
        {},
        optional={
            name: st.text(max_size=30) | json_values for name in ("encrypted_key", "iv", "ciphertext", "tag")
        },
    ),
)
def test_anything_opens_or_is_refused(header: Any, rest: dict[str, Any]) -> None:
    with pytest.raises(ProtocolError):
        decrypt({"protected": header} | rest, PAIRS["P-256"].private)
