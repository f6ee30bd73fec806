# SPDX-License-Identifier: Apache-2.0
"""Attacks on tokens: attestation results, and the administrator's authority."""

from __future__ import annotations

import hmac
import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from joserfc import jws
from joserfc.jwk import ECKey, OKPKey

from eaa.verdictd import administrator
from eaa.verifier.ear import TokenIssuer

if TYPE_CHECKING:
    from tests.attacks.conftest import Attack, Dcap

pytestmark = pytest.mark.anyio


def b64url(data: bytes) -> str:
    return urlsafe_b64encode(data).rstrip(b"=").decode()


def opened(part: str) -> dict[str, Any]:
    return dict(json.loads(urlsafe_b64decode(part + "=" * (-len(part) % 4))))


def forged(header: dict[str, Any] | bytes, payload: bytes, signature: bytes = b"") -> str:
    """A JWS put together by hand."""
    head = header if isinstance(header, bytes) else json.dumps(header).encode()
    return ".".join(b64url(part) for part in (head, payload, signature))


def hs256(header: dict[str, Any], payload: bytes, key: bytes) -> str:
    """A token signed with a public key taken for a shared secret."""
    signed = forged(header, payload).rpartition(".")[0]
    return f"{signed}.{b64url(hmac.digest(key, signed.encode(), 'sha256'))}"


@pytest.mark.attack(
    "B8",
    title="A token says itself how it is to be verified: by no algorithm, by a key in its own header, by an address, by another algorithm",
    instance="Trustee's option insecure_header_jwk; tokens of Microsoft Azure Attestation carry jku",
    checks=(
        "token.algorithm",
        "token.header",
        "token.key",
        "token.signature",
        "token.format",
        "token.issuer",
        "token.expired",
        "token.not-yet-valid",
        "admin.token",
    ),
)
async def test_b08_tokens_choose_neither_key_nor_algorithm(attack: Attack, dcap: Dcap) -> None:
    """Keys come from the issuer's own set and the algorithm is fixed, for attestation tokens and the administrator's."""
    desk = attack.desk
    response, _, key = await desk.attested(dcap.case("tdx"))
    token = response.json()["token"]
    await _attestation_tokens(attack, token)
    await _administrator_tokens(attack)
    attack.released(await desk.fetch(token=token), key)


async def _attestation_tokens(attack: Attack, token: str) -> None:
    desk = attack.desk
    tokens = desk.services.tokens
    head, body, _ = token.split(".")
    header, payload = opened(head), urlsafe_b64decode(body + "=" * (-len(body) % 4))
    own = ECKey.generate_key("P-256")
    public = tokens.jwks()["keys"][0]
    pem = ECKey.import_key(public).as_pem(private=False)

    def by_thief(**members: Any) -> str:
        return jws.serialize_compact(header | members, payload, own, algorithms=["ES256"])

    def by_issuer(content: bytes, head: dict[str, Any] = header) -> str:
        return jws.serialize_compact(head, content, tokens._key.jwk, algorithms=["ES256"])

    def claims(**changes: Any) -> bytes:
        return json.dumps(json.loads(payload) | changes).encode()

    now = int(desk.now.timestamp())
    twice = payload[:-1] + b',"iss":"verdictd"}'
    other = TokenIssuer(ec.generate_private_key(ec.SECP256R1()))
    for attempt, check in (
        (forged(header | {"alg": "none"}, payload), "token.algorithm"),
        (forged({"alg": "none"}, payload), "token.algorithm"),
        (hs256(header | {"alg": "HS256"}, payload, pem), "token.algorithm"),
        (hs256(header | {"alg": "HS256"}, payload, json.dumps(public).encode()), "token.algorithm"),
        (by_thief(jwk=own.as_dict(private=False)), "token.header"),
        (by_thief(jku="https://thief.invalid/jwks.json"), "token.header"),
        (by_thief(x5c=["AAAA"]), "token.header"),
        (forged(header | {"crit": ["exp"]}, payload), "token.header"),
        (by_thief(kid=own.thumbprint()), "token.key"),
        (forged(header | {"kid": other.kid}, payload, bytes(64)), "token.key"),
        (by_thief(), "token.signature"),
        (forged(header, payload, bytes(64)), "token.signature"),
        (
            forged(header, claims(exp=now + 10**6), urlsafe_b64decode(token.split(".")[2] + "==")),
            "token.signature",
        ),
        (forged(b'{"alg":"none",' + json.dumps(header).encode()[1:], payload), "token.format"),
        (by_issuer(twice), "token.format"),
        (by_issuer(claims(iss="somebody")), "token.issuer"),
        (by_issuer(claims(exp=now)), "token.expired"),
        (by_issuer(claims(nbf=now + 60)), "token.not-yet-valid"),
        (by_issuer(claims(exp="never")), "token.format"),
        (f"{token}.{token}", "token.format"),
    ):
        attack.denied(await desk.fetch(token=attempt), check)


async def _administrator_tokens(attack: Attack) -> None:
    desk, now = attack.desk, attack.desk.now
    minted = desk.credential.mint(at=now)
    _, body, _ = minted.split(".")
    payload = urlsafe_b64decode(body + "=" * (-len(body) % 4))
    header = {"alg": "EdDSA", "typ": "JWT"}
    own = OKPKey.generate_key("Ed25519")
    public = json.loads((desk.folder / "admin.pub.json").read_bytes())["key"]

    def signed(content: bytes, key: OKPKey, **members: Any) -> str:
        return jws.serialize_compact(header | members, content, key, registry=administrator._REGISTRY)

    def claims(**changes: Any) -> str:
        return signed(json.dumps(json.loads(payload) | changes).encode(), owner)

    owner = OKPKey.import_key(desk.credential.key)
    seconds = int(now.timestamp())
    for attempt in (
        forged({"alg": "none"}, payload),
        hs256({"alg": "HS256"}, payload, OKPKey.import_key(public).as_pem(private=False)),
        hs256({"alg": "HS256"}, payload, urlsafe_b64decode(public["x"] + "=")),
        signed(payload, own),
        signed(payload, own, jwk=own.as_dict(private=False)),
        signed(payload, own, jku="https://thief.invalid/jwks.json"),
        signed(payload[:-1] + b',"role":"admin"}', owner),
        claims(iss="somebody"),
        claims(aud=["another"]),
        claims(role="guest"),
        claims(exp=seconds - 60),
        claims(exp=seconds + 10 * 365 * 86400),
        claims(exp=None),
        claims(nbf=seconds + 600),
    ):
        headers = {"authorization": f"Bearer {attempt}"}
        attack.denied(await desk.client.get("/eaa/v0/keys", headers=headers), "admin.token")
    assert (await desk.client.get("/eaa/v0/keys", headers=desk.admin)).status_code == 200
