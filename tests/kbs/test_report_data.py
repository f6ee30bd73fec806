# SPDX-License-Identifier: Apache-2.0
"""Report data: the reference's golden vectors, and that each input counts."""

from __future__ import annotations

import hashlib

import pytest
import rfc8785

from eaa.kbs import TeePubKey, report_data, runtime_data_digest
from eaa.rats import ProtocolError

NONCE = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
JWK = {
    "kty": "EC",
    "crv": "P-256",
    "alg": "ECDH-ES+A256KW",
    "x": "QT3_slJmispaOwnAo6hxebXGLRuiveFuRCLpS4j4S4k",
    "y": "jcDn4N4nRBQ-a7_D3qjqtb6hwOAXh_ve1wvibPSi1G0",
}
KEY = TeePubKey.from_jwk(JWK)
PRIMARY = "6112f156bc93d0fbf01c8fb01ada38c9bd100ace0510c182e22afe240eff5d24ac5381e9a1120937c9ed868b9e19d733"


def test_primary_evidence_without_devices() -> None:
    assert runtime_data_digest(NONCE, KEY, "").hex() == PRIMARY


def test_the_canonicalisation_agrees_with_the_upstream_vector() -> None:
    canonical = rfc8785.dumps({"b": 1, "c": {"d": "e"}, "a": "test"})
    assert hashlib.sha384(canonical).hexdigest() == (
        "e71ce8e70d814ba6639c3612ebee0ff1f76f650f8dbb5e47157e0f3f525cd22c4597480a186427c813ca941da78870c3"
    )


def test_report_data_is_the_digest_and_zeros() -> None:
    assert report_data(NONCE, KEY).hex() == PRIMARY + "00" * 16


def test_untyped_members_of_the_key_do_not_count() -> None:
    extended = TeePubKey.from_jwk(JWK | {"kid": "1", "use": "enc"})
    assert runtime_data_digest(NONCE, extended).hex() == PRIMARY


def test_every_input_counts() -> None:
    digests = {
        runtime_data_digest(NONCE, KEY),
        runtime_data_digest(NONCE, KEY, "{}"),
        runtime_data_digest(NONCE + " ", KEY),
        runtime_data_digest(NONCE, KEY, algorithm="sha256"),
        runtime_data_digest(NONCE, KEY, algorithm="sha512"),
    }
    assert len(digests) == 5


def test_an_unknown_hash_is_refused() -> None:
    with pytest.raises(ProtocolError, match="md5"):
        runtime_data_digest(NONCE, KEY, algorithm="md5")


def test_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ProtocolError, match="Unicode"):
        runtime_data_digest("\ud800", KEY)
