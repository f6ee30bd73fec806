# SPDX-License-Identifier: Apache-2.0
"""The owner sees who may fetch, and ends it."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode
from hashlib import sha256
from typing import Any

import pytest

pytestmark = pytest.mark.anyio

REVOKE = "/eaa/v0/sessions/revoke"


def verdict_of(token: str) -> str:
    part = token.split(".")[1]
    claims = json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    return str(claims["submods"]["cpu0"]["ear.eaa.verdict"]["id"])


async def listed(kit: Any) -> list[dict[str, Any]]:
    response = await kit.client.get("/eaa/v0/sessions", headers=kit.admin)
    assert response.status_code == 200
    return list(response.json()["sessions"])


async def test_open_sessions_are_listed(kit: Any) -> None:
    """By a name that is not the credential, with their verdict, until they end."""
    response, cookie, _ = await kit.handshake()
    (session,) = await listed(kit)
    assert (session["tee"], session["verdict"]) == ("tdx", verdict_of(response.json()["token"]))
    credential = kit.services.challenges.open(cookie).session
    assert session["id"] == sha256(credential).hexdigest()
    assert session["opened_at"] < session["expires_at"]
    kit.clock.forward(seconds=kit.services.tokens.lifetime.total_seconds())
    assert await listed(kit) == []


@pytest.mark.parametrize("by", ["session", "verdict", "all"])
async def test_an_ended_session_fetches_nothing(kit: Any, by: str) -> None:
    """Its guest is told to attest again, and may."""
    await kit.expect_software()
    response, cookie, key = await kit.handshake()
    (session,) = await listed(kit)
    chosen = {"session": session["id"], "verdict": session["verdict"], "all": True}
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET
    ended = await kit.client.post(REVOKE, headers=kit.admin, json={by: chosen[by]})
    assert ended.json() == {"revoked": 1}
    assert await listed(kit) == []
    for fetched in (
        await kit.fetch(cookie=cookie),
        await kit.fetch(token=response.json()["token"]),
        await kit.fetch(cookie=cookie, token=response.json()["token"]),
    ):
        assert fetched.status_code == 401
    again = await kit.client.post(REVOKE, headers=kit.admin, json={by: chosen[by]})
    assert again.status_code == (200 if by == "all" else 404)
    _, cookie, key = await kit.handshake()
    assert kit.opened(await kit.fetch(cookie=cookie), key) == kit.SECRET


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"all": False},
        {"all": True, "verdict": "x"},
        {"session": "ab", "verdict": None},
        {"session": "AB" * 32},
        {"session": "ab" * 32, "all": True},
        {"everything": True},
        [],
    ],
)
async def test_what_names_no_session_ends_none(kit: Any, body: Any) -> None:
    """Nothing is ended by a request that is not clear about which."""
    await kit.handshake()
    response = await kit.client.post(REVOKE, headers=kit.admin, json=body)
    assert 400 <= response.status_code < 500
    assert len(await listed(kit)) == 1
