# SPDX-License-Identifier: Apache-2.0
"""The sealed session cookie."""

from __future__ import annotations

from base64 import b64decode
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.rats import AccessDenied
from eaa.verdictd._challenge import ChallengeSealer

NOW = datetime(2026, 11, 23, 12, 0, 0, 500, tzinfo=UTC)
SEALER = ChallengeSealer(bytes(range(32)))


def test_cookie_carries_the_challenge_to_any_replica() -> None:
    """Another sealer with the same secret opens the cookie and finds the same challenge."""
    challenge = SEALER.issue("tdx", at=NOW)
    assert ChallengeSealer(bytes(range(32))).open(SEALER.seal(challenge)) == challenge
    assert len(challenge.nonce) == 44
    assert len(b64decode(challenge.nonce)) == 32
    assert challenge.expires - NOW <= timedelta(minutes=5)


def test_challenges_never_repeat() -> None:
    """Nonces, sessions and cookies are fresh each time."""
    first, second = SEALER.issue("tdx", at=NOW), SEALER.issue("tdx", at=NOW)
    assert first.nonce != second.nonce
    assert first.session != second.session
    assert SEALER.seal(first) != SEALER.seal(first)


def test_cookie_is_a_cookie_value_and_hides_its_content() -> None:
    """The value needs no quoting and shows neither nonce nor kind of TEE."""
    challenge = SEALER.issue("tdx", at=NOW)
    cookie = SEALER.seal(challenge)
    assert set(cookie) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")
    raw = b64decode(cookie + "=" * (-len(cookie) % 4), altchars=b"-_")
    assert b64decode(challenge.nonce) not in raw
    assert b"tdx" not in raw


def test_another_secret_does_not_open_it() -> None:
    """A server with another secret refuses the cookie."""
    with pytest.raises(AccessDenied) as caught:
        ChallengeSealer(bytes(32)).open(SEALER.seal(SEALER.issue("tdx", at=NOW)))
    assert caught.value.check == "session.cookie"


def test_every_altered_byte_is_noticed() -> None:
    """No byte of the cookie can be changed or cut off."""
    cookie = SEALER.seal(SEALER.issue("tdx", at=NOW))
    for position in range(0, len(cookie) - 1, 3):
        altered = cookie[:position] + ("A" if cookie[position] != "A" else "B") + cookie[position + 1 :]
        with pytest.raises(AccessDenied):
            SEALER.open(altered)
    with pytest.raises(AccessDenied):
        SEALER.open(cookie[:-4])


@given(st.text(max_size=600))
def test_any_text_is_refused_and_nothing_else_happens(text: str) -> None:
    """Whatever a client sends as cookie, the answer is a refusal."""
    with pytest.raises(AccessDenied):
        SEALER.open(text)


def test_a_short_secret_is_a_programming_error() -> None:
    """A secret below 32 bytes is not accepted."""
    with pytest.raises(ValueError, match="32 bytes"):
        ChallengeSealer(bytes(31))


def test_session_is_not_in_the_repr() -> None:
    """The session's name does not show in logs."""
    challenge = SEALER.issue("tdx", at=NOW)
    assert "session" not in repr(challenge)
