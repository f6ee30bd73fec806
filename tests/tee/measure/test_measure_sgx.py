# SPDX-License-Identifier: Apache-2.0
"""MRENCLAVE and MRSIGNER: records written out by hand, a value of Enarx, a SIGSTRUCT signed here, and no input that breaks them."""

from __future__ import annotations

import contextlib
import hashlib
import struct

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from hypothesis import given, settings
from hypothesis import strategies as st

from eaa.rats import InputError
from eaa.tee.sgx.measure import (
    PAGE_EXECUTABLE,
    PAGE_READABLE,
    PAGE_REGULAR,
    PAGE_TCS,
    PAGE_WRITABLE,
    EnclaveHash,
    measure_sgxs,
)
from eaa.tee.sgx.sigstruct import parse_sigstruct

READ = PAGE_REGULAR | PAGE_READABLE
WRITE = READ | PAGE_WRITABLE


def create(size: int = 0x4000, frames: int = 1) -> bytes:
    return struct.pack("<8sIQ44s", b"ECREATE", frames, size, b"")


def add(offset: int, flags: int = READ) -> bytes:
    return struct.pack("<8sQQ40s", b"EADD", offset, flags, b"")


def extend(offset: int, chunk: bytes, tag: bytes = b"EEXTEND") -> bytes:
    return struct.pack("<8sQ48s", tag, offset, b"") + chunk


def test_an_enclave_of_three_pages_measures_as_enarx_says() -> None:
    """The value is the one of Enarx's test "long"; its code reproduces the SIGSTRUCT of Linux' SGX self-test."""
    enclave = EnclaveHash(0x4000, 1)
    page = bytes([123]) * 4096
    enclave.add_page(0, PAGE_TCS, page)
    enclave.add_page(0x1000, READ, page)
    enclave.add_page(0x2000, READ, page)
    assert enclave.mr_enclave().hex() == "e90b112375a3c46a8e89a9826c6c33051df198be09f51b1055ad115a2b7c2e54"


def test_mr_enclave_is_the_hash_of_the_records() -> None:
    first, last = bytes(range(256)), bytes([7]) * 256
    stream = create() + add(0, PAGE_TCS) + extend(0, first) + add(0x3000, WRITE | PAGE_EXECUTABLE)
    stream += extend(0x3F00, last)
    enclave = EnclaveHash(0x4000, 1)
    enclave.add(0, PAGE_TCS)
    enclave.extend(0, first)
    enclave.add(0x3000, WRITE | PAGE_EXECUTABLE)
    enclave.extend(0x3F00, last)
    assert enclave.mr_enclave() == hashlib.sha256(stream).digest() == measure_sgxs(stream)


def test_unmeasured_content_does_not_count_and_its_page_does() -> None:
    unmeasured = extend(0, bytes(256), b"UNMEASRD")
    assert measure_sgxs(create() + add(0) + unmeasured) == measure_sgxs(create() + add(0))
    assert measure_sgxs(create() + add(0)) != measure_sgxs(create())


@pytest.mark.parametrize(
    ("stream", "reason"),
    [
        (b"", "cut off"),
        (create()[:-1], "cut off"),
        (create() + add(0)[:-1], "cut off"),
        (create() + add(0) + extend(0, bytes(255)), "cut off"),
        (add(0), "ECREATE"),
        (create()[:-1] + b"\1", "ECREATE"),
        (create(0x1000), "power of two"),
        (create(0x5000), "power of two"),
        (create(frames=0), "SSA frames"),
        (create() + create(), "unknown record"),
        (create() + add(0x800), "no page"),
        (create() + add(0x4000), "no page"),
        (create() + add(0, PAGE_TCS | PAGE_READABLE), "cannot be added"),
        (create() + add(0, PAGE_REGULAR | PAGE_WRITABLE), "cannot be added"),
        (create() + add(0, READ | 1 << 5), "cannot be added"),
        (create() + add(0)[:-1] + b"\1", "reserved"),
        (create() + extend(0, bytes(256)), "no chunk"),
        (create() + add(0) + extend(0x1000, bytes(256)), "no chunk"),
        (create() + add(0) + extend(0x80, bytes(256)), "no chunk"),
    ],
)
def test_streams_that_cannot_be_are_refused(stream: bytes, reason: str) -> None:
    with pytest.raises(InputError, match=reason) as refused:
        measure_sgxs(stream)
    assert refused.value.hint


def test_a_page_has_4096_bytes() -> None:
    with pytest.raises(InputError, match="4096"):
        EnclaveHash(0x4000, 1).add_page(0, READ, bytes(4095))


@given(
    st.lists(st.sampled_from([create(), add(0), add(0x1000), extend(0, bytes(256))]) | st.binary(max_size=80))
)
def test_any_stream_gives_a_value_or_is_refused(parts: list[bytes]) -> None:
    with contextlib.suppress(InputError):
        assert len(measure_sgxs(create() + b"".join(parts))) == 32


@pytest.fixture(scope="module")
def key() -> rsa.RSAPrivateKey:
    return rsa.generate_private_key(3, 3072)


def sign(key: rsa.RSAPrivateKey, **changed: bytes) -> bytes:
    """A SIGSTRUCT; ``changed`` replaces fields before it is signed."""
    author = struct.pack(
        "<16sII16sI84s",
        changed.get("header", bytes.fromhex("06000000e10000000000010000000000")),
        int.from_bytes(changed.get("vendor", bytes(4)), "little"),
        0x20260316,
        bytes.fromhex("01010000600000006000000001000000"),
        0,
        changed.get("reserved", b""),
    )
    body = struct.pack(
        "<IIBB2s16s16s16s32s16s16sHH",
        1, 0xFFFFFFFF, 0, 0, b"", b"family", b"\4", b"\xfd", bytes([0x69]) * 32, b"", b"extended", 7, 9,
    )  # fmt: skip
    modulus = key.public_key().public_numbers().n
    signature = int.from_bytes(key.sign(author + body, padding.PKCS1v15(), hashes.SHA256()), "big")
    q1 = signature * signature // modulus
    q2 = (signature * signature - q1 * modulus) * signature // modulus
    numbers = [each.to_bytes(384, "little") for each in (modulus, signature, q1, q2)]
    return (
        author + numbers[0] + struct.pack("<I", 3) + numbers[1] + body + bytes(12) + numbers[2] + numbers[3]
    )


def test_a_sigstruct_tells_enclave_and_signer(key: rsa.RSAPrivateKey) -> None:
    signed = parse_sigstruct(sign(key))
    modulus = key.public_key().public_numbers().n.to_bytes(384, "little")
    assert signed.mr_enclave == bytes([0x69]) * 32
    assert signed.mr_signer == hashlib.sha256(modulus).digest()
    assert (signed.date, signed.isv_prod_id, signed.isv_svn) == ("20260316", 7, 9)
    assert (signed.isv_family_id[:6], signed.isv_ext_prod_id[:8]) == (b"family", b"extended")
    assert parse_sigstruct(sign(key, vendor=b"\x86\x80\0\0")).vendor == 0x8086


def test_no_byte_of_a_sigstruct_can_be_changed(key: rsa.RSAPrivateKey) -> None:
    data = sign(key)
    for at in range(0, len(data), 7):
        changed = bytearray(data)
        changed[at] ^= 0x10
        with pytest.raises(InputError):
            parse_sigstruct(bytes(changed))


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"header": bytes(16)}, "headers"),
        ({"vendor": b"\1\0\0\0"}, "vendor"),
        ({"reserved": b"\1"}, "reserved"),
    ],
)
def test_well_signed_nonsense_is_refused(
    key: rsa.RSAPrivateKey, changed: dict[str, bytes], reason: str
) -> None:
    with pytest.raises(InputError, match=reason):
        parse_sigstruct(sign(key, **changed))


def test_other_keys_are_refused(key: rsa.RSAPrivateKey) -> None:
    data = bytearray(sign(key))
    for change in (slice(128, 512), slice(512, 516)):
        with pytest.raises(InputError, match="exponent 3"):
            parse_sigstruct(
                bytes(data[: change.start] + bytes(change.stop - change.start) + data[change.stop :])
            )


@settings(max_examples=50)
@given(st.binary(min_size=1790, max_size=1820) | st.binary(max_size=20))
def test_any_bytes_are_refused_and_nothing_worse(data: bytes) -> None:
    with pytest.raises(InputError):
        parse_sigstruct(data)
