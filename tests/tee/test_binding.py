# SPDX-License-Identifier: Apache-2.0
"""The field that carries the digest of init-data, for every kind of TEE."""

from __future__ import annotations

from hashlib import sha256

import pytest

from eaa.rats import Result
from eaa.tee.binding import check_init_data
from eaa.tee.kind import TeeClaims


@pytest.mark.parametrize("size", [32, 48, 64])
@pytest.mark.parametrize("length", [32, 48, 64])
def test_a_digest_is_cut_to_the_field_or_followed_by_zeros(size: int, length: int) -> None:
    digest = bytes(range(1, length + 1))
    carried = TeeClaims({}, bytes(size)).init_data_of(digest)
    assert carried == (digest + bytes(64))[:size]


def test_a_register_holds_what_was_extended_into_it() -> None:
    """The example of Trustee's documentation for PCR 8."""
    from eaa.tee.tpm.kind import extended_init_data

    digest = bytes.fromhex("8505e4e25e50a27c5dc8147af88efbece627fbea55291911eff832d9ee127781")
    register = TeeClaims({}, bytes(32), extended_init_data).init_data_of(digest)
    assert register.hex() == "bddaccb9c52249e97a31baea61b7d91be8221a16e703d92148d04fb8e9c1dfdd"
    assert register == sha256(bytes(32) + digest).digest()


@pytest.mark.parametrize("found", [b"", bytes(48), b"\x01" * 48])
def test_required_init_data_have_to_be_sent(found: bytes) -> None:
    assert check_init_data(found, None, required=True).result is Result.NOT_MADE
    assert check_init_data(b"\x01" * 48, b"\x01" * 48, required=True).result is Result.PASS
    assert check_init_data(bytes(48), b"\x01" * 48, required=True).result is Result.FAIL


@pytest.mark.parametrize(
    ("found", "expected", "result"),
    [
        (b"\x01" * 48, b"\x01" * 48, Result.PASS),
        (b"\x01" * 48, b"\x01" * 47 + b"\x02", Result.FAIL),
        (bytes(48), b"\x01" * 48, Result.FAIL),
        (bytes(48), None, Result.NOT_APPLICABLE),
        (b"\x01" * 48, None, Result.NOT_APPLICABLE),
        (b"", b"", Result.NOT_MADE),
    ],
)
def test_only_the_very_digest_passes(found: bytes, expected: bytes | None, result: Result) -> None:
    """A TEE without such a field proves nothing about init-data: that is no pass."""
    check = check_init_data(found, expected)
    assert (check.id, check.result) == ("binding.init-data", result)
