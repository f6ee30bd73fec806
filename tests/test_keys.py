# SPDX-License-Identifier: Apache-2.0
"""Keys in PEM: two kinds are read, each with one id; anything else is refused without being repeated."""

from __future__ import annotations

from hashlib import sha256

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from hypothesis import given
from hypothesis import strategies as st

from eaa._keys import MAX_PEM, key_id, new_key, public_pem, read_private_key, read_public_key
from eaa.rats import ConfigurationError


def test_both_kinds_are_read_back() -> None:
    for kind in ("ed25519", "p256"):
        private, public = new_key("p256" if kind == "p256" else "ed25519")
        key = read_public_key(public)
        assert read_private_key(private).public_key() == key
        assert public_pem(key) == public
        der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        assert key_id(key) == sha256(der).hexdigest()


def test_other_keys_are_refused_and_not_repeated() -> None:
    own, public = new_key()
    plain = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    other = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)
    locked = read_private_key(own).private_bytes(
        Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret")
    )
    for wrong in (*(each.private_bytes(*plain) for each in other), locked, public, b"", own + b" " * MAX_PEM):
        with pytest.raises(ConfigurationError) as caught:
            read_private_key(wrong)
        assert caught.value.hint
        assert "PRIVATE" not in f"{caught.value}{caught.value.hint}"
    publics = (
        each.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo) for each in other
    )
    for wrong in (*publics, own, b"", public + b" " * MAX_PEM):
        with pytest.raises(ConfigurationError):
            read_public_key(wrong)


@given(data=st.binary(max_size=100))
def test_any_bytes_are_refused(data: bytes) -> None:
    for read in (read_private_key, read_public_key):
        with pytest.raises(ConfigurationError):
            read(data)
