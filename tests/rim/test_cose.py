# SPDX-License-Identifier: Apache-2.0
"""COSE_Sign1: only the named key's signature over just these bytes holds; CBOR is read in one way or not at all."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

import cbor2
import pytest
from cbor2 import CBORTag
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256
from hypothesis import given
from hypothesis import strategies as st

from eaa._cbor import MAX_DEPTH, parse_cbor, write_cbor
from eaa._keys import new_key, read_private_key
from eaa.rats import InputError
from eaa.rim.cose import ALG, CONTENT_TYPE, CRIT, KID, parse_sign1, sign1
from eaa.rim.errors import ManifestError

if TYPE_CHECKING:
    from eaa._keys import PrivateKey

ED25519, P256, OTHER = (read_private_key(new_key(kind)[0]) for kind in ("ed25519", "p256", "ed25519"))


@pytest.mark.parametrize("key", [ED25519, P256])
def test_what_a_key_signs_holds_for_it_alone(key: PrivateKey) -> None:
    found = parse_sign1(sign1(b"payload", key, {CONTENT_TYPE: "text/plain"}))
    assert found.payload == b"payload"
    assert found.headers[CONTENT_TYPE] == "text/plain"
    assert len(found.headers[KID]) == 32
    assert [each for each in (ED25519, P256, OTHER) if found.signed_by(each.public_key())] == [key]


@pytest.mark.parametrize("key", [ED25519, P256])
@pytest.mark.parametrize("part", [0, 2, 3])
def test_no_signed_part_can_be_changed(key: PrivateKey, part: int) -> None:
    parts = list(cbor2.loads(sign1(b"payload", key, {})).value)
    for change in (parts[part][:-1] + bytes([parts[part][-1] ^ 1]), parts[part][:-1] + b"\0\0"):
        altered = [*parts[:part], change, *parts[part + 1 :]]
        try:
            found = parse_sign1(write_cbor(altered))
        except ManifestError:
            continue  # headers that are no map any more
        assert not found.signed_by(key.public_key())


def test_the_algorithm_must_be_the_keys_own() -> None:
    """Also when the signature over just that header holds."""
    for key, algorithm, holds in (
        (ED25519, -8, True),
        (ED25519, -7, False),
        (ED25519, None, False),
        (P256, -7, True),
        (P256, -8, False),
        (P256, -35, False),
    ):
        protected = write_cbor({} if algorithm is None else {ALG: algorithm})
        signed = write_cbor(["Signature1", protected, b"", b"payload"])
        if isinstance(key, EllipticCurvePrivateKey):
            r, s = decode_dss_signature(key.sign(signed, ECDSA(SHA256())))
            signature = r.to_bytes(32) + s.to_bytes(32)
        else:
            signature = key.sign(signed)
        found = parse_sign1(write_cbor([protected, {}, b"payload", signature]))
        assert found.signed_by(key.public_key()) is holds


@pytest.mark.parametrize(
    "value",
    [
        None,
        [],
        [b"", {}, b""],
        [b"", {}, None, b""],
        [b"", [], b"", b""],
        [write_cbor([]), {}, b"", b""],
        [write_cbor({CRIT: [1]}), {}, b"", b""],
        [b"\xff", {}, b"", b""],
        CBORTag(98, [b"", {}, b"", b""]),
    ],
)
def test_what_is_no_sign1_is_refused(value: object) -> None:
    with pytest.raises(ManifestError):
        parse_sign1(write_cbor(value))


@given(data=st.binary(max_size=100))
def test_any_bytes_are_a_sign1_or_refused(data: bytes) -> None:
    with pytest.raises(ManifestError):
        parse_sign1(data)


def refused(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        parse_cbor(data, 1 << 20, error=InputError)
    return str(caught.value)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x01\x02",
        b"\x81",
        b"\x41",
        b"\x5f\x41\x00\xff",
        b"\x9f\xff",
        b"\xa2\x01\x01\x01\x02",
        b"\xa2\x01\x01\x18\x01\x02",
        b"\xa1\x81\x01\x02",
        b"\xa1\xf5\x02",
        b"\x61\xff",
        b"\x9b\xff\xff\xff\xff\xff\xff\xff\xff",
        b"\xbb\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x5b\x7f\xff\xff\xff\xff\xff\xff\xff",
        b"\x1c",
        b"\xf8\x14",
        b"\xe0",
        b"\xc2\x41\x01",
        b"\xd8\x1c\x81\xd8\x1d\x00",
        b"\x81" * (MAX_DEPTH + 2) + b"\x01",
        b"\xc0" * 100_000,
    ],
)
def test_cbor_with_two_readings_or_none_is_refused(data: bytes) -> None:
    refused(data)


def test_too_long_is_refused_before_it_is_read() -> None:
    with pytest.raises(InputError, match="at most 3"):
        parse_cbor(b"\x44aaaa", 3, error=InputError)


def test_no_tag_becomes_a_reference_a_pattern_or_a_number() -> None:
    """Each tag stays a tag, or is a time, a UUID or an address; or it is refused."""
    allowed = {1, 37, 52, 54}
    for number in [*range(1300), 43000, 55799]:
        for item in (b"\x01", b"\x41\x00", b"\x80", b"\x61a"):
            data = (b"\xd9" + number.to_bytes(2) if number > 23 else bytes([0xC0 | number])) + item
            try:
                found = parse_cbor(data, 100, error=InputError)
            except InputError:
                continue
            assert isinstance(found, CBORTag) or number in allowed, number


def test_keys_that_hash_alike_cost_nothing() -> None:
    """Arrays of -1 and -2 all have one hash in Python; they never get as far as a hash table."""
    keys = [bytes(0x20 | (number >> bit & 1) for bit in range(16)) for number in range(4096)]
    data = b"\xb9" + len(keys).to_bytes(2) + b"".join(b"\x90" + key + b"\x00" for key in keys)
    assert "a key" in refused(data)


def values() -> st.SearchStrategy[object]:
    plain = (
        st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.text(max_size=5) | st.binary(max_size=5)
    )
    keys = st.integers(-(2**63), 2**63) | st.text(max_size=5)
    return st.recursive(
        plain,
        lambda each: st.lists(each, max_size=3) | st.dictionaries(keys, each, max_size=3),
        max_leaves=10,
    )


@given(value=values())
def test_what_is_written_is_read_back(value: object) -> None:
    assert parse_cbor(write_cbor(value), 1 << 20, error=InputError) == value


@given(data=st.binary(max_size=100))
def test_any_bytes_are_cbor_or_refused(data: bytes) -> None:
    with contextlib.suppress(InputError):
        parse_cbor(data, 100, error=InputError)
