# SPDX-License-Identifier: Apache-2.0
"""Tokens: what they say, and that only ours are taken."""

from __future__ import annotations

import base64
import json
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from joserfc import jws, jwt
from joserfc.jwk import ECKey, KeySet, OctKey

from eaa.rats import AccessDenied, ConfigurationError
from eaa.verifier.appraise import Verdict
from eaa.verifier.ear import EAT_PROFILE, TokenIssuer
from eaa.verifier.trust import CLAIM_NAMES, Tier

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from .conftest import Attest


@pytest.fixture(scope="module")
def issuer() -> TokenIssuer:
    return TokenIssuer(ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture(scope="module")
def verdict(attest: Attest) -> Verdict:
    return Verdict(
        id="4ee1b9c2",
        appraisal=attest("tdx"),
        trust_vector={**dict.fromkeys(CLAIM_NAMES, 0), "hardware": 2},
        status=Tier.AFFIRMING,
        policy_id="default",
        policy_digest="ab" * 48,
        extensions={"ear.trustee.identifiers": {"validated": {}}},
        annotated_evidence={"tdx": {}, "runtime_data_claims": {"tee-pubkey": {"kty": "EC"}}},
    )


def _segment(value: Any) -> str:
    data = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _signed(issuer: TokenIssuer, payload: bytes, **header: Any) -> str:
    """Sign anything with the issuer's own key; members that joserfc refuses are put in by hand."""
    full = {"typ": "JWT", "alg": "ES256", "kid": issuer.kid, **header}
    signing_input = f"{_segment(full)}.{_segment(payload)}"
    signature = jws.JWSRegistry.algorithms["ES256"].sign(signing_input.encode(), issuer._key.jwk)
    return f"{signing_input}.{_segment(signature)}"


def test_a_token_states_the_verdict_in_the_profile(
    issuer: TokenIssuer, verdict: Verdict, at: datetime
) -> None:
    token = issuer.issue(verdict, at=at)
    header = json.loads(base64.urlsafe_b64decode(token.split(".")[0] + "=="))
    assert header == {"typ": "JWT", "alg": "ES256", "kid": issuer.kid}
    claims = issuer.verify(token, at=at)
    now = int(at.timestamp())
    assert claims["eat_profile"] == EAT_PROFILE
    assert (claims["iat"], claims["nbf"], claims["exp"], claims["iss"]) == (now, now, now + 300, "verdictd")
    assert set(claims["ear.verifier-id"]) == {"developer", "build"}
    assert claims["jti"] != issuer.verify(issuer.issue(verdict, at=at), at=at)["jti"]
    submod = claims["submods"]["cpu0"]
    assert submod["ear.status"] == "affirming"
    assert list(submod["ear.trustworthiness-vector"]) == list(CLAIM_NAMES)
    assert submod["ear.appraisal-policy-id"] == "default"
    assert submod["ear.veraison.annotated-evidence"]["runtime_data_claims"]["tee-pubkey"] == {"kty": "EC"}
    assert submod["ear.trustee.identifiers"] == {"validated": {}}
    assert submod["ear.eaa.verdict"] == {
        "id": "4ee1b9c2",
        "checks": verdict.checks_digest,
        "policy": "ab" * 48,
        "simulated": True,
    }


def test_another_library_verifies_it_from_the_published_keys(
    issuer: TokenIssuer, verdict: Verdict, at: datetime
) -> None:
    document = json.loads(json.dumps(issuer.jwks()))
    assert [set(key) for key in document["keys"]] == [{"kty", "crv", "x", "y", "alg", "use", "kid"}]
    assert document["keys"][0]["kid"] == issuer.kid == ECKey.import_key(document["keys"][0]).thumbprint()
    token = jwt.decode(issuer.issue(verdict, at=at), KeySet.import_key_set(document), algorithms=["ES256"])
    assert token.claims["iss"] == "verdictd"


def test_a_token_is_valid_for_its_time_only(issuer: TokenIssuer, verdict: Verdict, at: datetime) -> None:
    token = issuer.issue(verdict, at=at)
    issuer.verify(token, at=at + timedelta(seconds=299))
    issuer.verify(token, at=at - timedelta(seconds=30))
    for moment, check in (
        (timedelta(seconds=300), "token.expired"),
        (timedelta(seconds=-31), "token.not-yet-valid"),
    ):
        with pytest.raises(AccessDenied) as caught:
            issuer.verify(token, at=at + moment)
        assert caught.value.check == check


def test_an_earlier_key_still_verifies_and_no_longer_signs(verdict: Verdict, at: datetime) -> None:
    old, new = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    before, after = TokenIssuer(old), TokenIssuer(new, earlier=[old])
    after.verify(before.issue(verdict, at=at), at=at)
    assert [key["kid"] for key in after.jwks()["keys"]] == [after.kid, before.kid]
    with pytest.raises(AccessDenied) as caught:
        before.verify(after.issue(verdict, at=at), at=at)
    assert caught.value.check == "token.key"


def test_a_token_of_another_issuer_with_the_same_key_is_refused(verdict: Verdict, at: datetime) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    with pytest.raises(AccessDenied) as caught:
        TokenIssuer(key, issuer="a").verify(TokenIssuer(key, issuer="b").issue(verdict, at=at), at=at)
    assert caught.value.check == "token.issuer"


class TestAttackB8:
    """Keys and algorithms come from this issuer's own set, whatever a token's header says."""

    @pytest.fixture
    def payload(self, issuer: TokenIssuer, verdict: Verdict, at: datetime) -> bytes:
        return json.dumps(issuer.verify(issuer.issue(verdict, at=at), at=at)).encode()

    def _refused(self, issuer: TokenIssuer, token: str, at: datetime) -> str:
        with pytest.raises(AccessDenied) as caught:
            issuer.verify(token, at=at)
        assert not token[:20] or token[:20] not in str(caught.value)
        return caught.value.check

    def test_the_control_is_accepted(self, issuer: TokenIssuer, payload: bytes, at: datetime) -> None:
        issuer.verify(_signed(issuer, payload), at=at)

    @pytest.mark.parametrize("alg", ["none", "HS256", "ES384", "RS256", "es256", "", None, ["ES256"], 1])
    def test_another_algorithm(self, issuer: TokenIssuer, payload: bytes, at: datetime, alg: Any) -> None:
        assert self._refused(issuer, _signed(issuer, payload, alg=alg), at) == "token.algorithm"

    def test_no_signature(self, issuer: TokenIssuer, payload: bytes, at: datetime) -> None:
        for alg, check in (("none", "token.algorithm"), ("ES256", "token.signature")):
            token = f"{_segment({'typ': 'JWT', 'alg': alg, 'kid': issuer.kid})}.{_segment(payload)}."
            assert self._refused(issuer, token, at) == check

    def test_a_public_key_used_as_a_shared_secret(
        self, issuer: TokenIssuer, payload: bytes, at: datetime
    ) -> None:
        secret = OctKey.import_key(json.dumps(issuer.jwks()["keys"][0]).encode())
        header = {"typ": "JWT", "alg": "HS256", "kid": issuer.kid}
        token = jws.serialize_compact(header, payload, secret, algorithms=["HS256"])
        assert self._refused(issuer, token, at) == "token.algorithm"

    @pytest.mark.parametrize("member", ["jwk", "jku", "x5c", "x5u", "x5t", "crit", "b64", "zip"])
    def test_a_header_that_brings_its_own_key(
        self, issuer: TokenIssuer, payload: bytes, at: datetime, member: str
    ) -> None:
        mine = TokenIssuer(ec.generate_private_key(ec.SECP256R1()))
        for signer in (mine, issuer):
            token = _signed(signer, payload, **{member: mine.jwks()["keys"][0]})
            assert self._refused(issuer, token, at) == "token.header"

    @pytest.mark.parametrize("kid", ["", "unknown", None, 1, ["x"]])
    def test_an_unknown_or_malformed_kid(
        self, issuer: TokenIssuer, payload: bytes, at: datetime, kid: Any
    ) -> None:
        assert self._refused(issuer, _signed(issuer, payload, kid=kid), at) in {"token.key", "token.header"}

    def test_another_key_under_our_kid(self, issuer: TokenIssuer, payload: bytes, at: datetime) -> None:
        other = TokenIssuer(ec.generate_private_key(ec.SECP256R1()))
        assert self._refused(issuer, _signed(other, payload, kid=issuer.kid), at) == "token.signature"

    def test_a_name_twice(self, issuer: TokenIssuer, payload: bytes, at: datetime) -> None:
        twice = payload[:-1] + b', "iss": "verdictd"}'
        assert self._refused(issuer, _signed(issuer, twice), at) == "token.format"
        header = b'{"typ":"JWT","alg":"none","alg":"ES256","kid":"%s"}' % issuer.kid.encode()
        assert self._refused(issuer, f"{_segment(header)}.{_segment(payload)}.AA", at) == "token.format"

    @pytest.mark.parametrize("member", ["iss", "exp", "nbf", "iat"])
    @pytest.mark.parametrize("value", [None, "1", 1.5, True, [], "missing"])
    def test_missing_or_malformed_claims(
        self, issuer: TokenIssuer, payload: bytes, at: datetime, member: str, value: Any
    ) -> None:
        claims = json.loads(payload)
        claims[member] = value
        if value == "missing":
            del claims[member]
        check = self._refused(issuer, _signed(issuer, json.dumps(claims).encode()), at)
        assert check == ("token.issuer" if member == "iss" else "token.format")

    def test_every_changed_byte_is_noticed(self, issuer: TokenIssuer, payload: bytes, at: datetime) -> None:
        token = _signed(issuer, payload)
        for place in range(0, len(token) - 2, 37):
            changed = token[:place] + ("A" if token[place] != "A" else "B") + token[place + 1 :]
            self._refused(issuer, changed, at)

    def test_too_large_a_token_is_not_read(self, issuer: TokenIssuer, at: datetime) -> None:
        assert self._refused(issuer, "a." * 2 + "a" * (256 * 1024), at) == "token.format"


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.text(max_size=60)
    | st.tuples(st.binary(max_size=40), st.binary(max_size=40), st.binary(max_size=70)).map(
        lambda parts: ".".join(_segment(part) for part in parts)
    )
)
def test_anything_else_is_denied_and_nothing_else_raised(
    issuer: TokenIssuer, at: datetime, token: str
) -> None:
    with pytest.raises(AccessDenied) as caught:
        issuer.verify(token, at=at)
    assert caught.value.check.startswith("token.")


class TestKeyFile:
    def test_it_is_created_once_for_its_owner_only(
        self, tmp_path: Path, verdict: Verdict, at: datetime
    ) -> None:
        path = tmp_path / "token" / "signing.key"
        first = TokenIssuer.load_or_create(path)
        assert path.stat().st_mode & 0o777 == 0o600
        assert path.parent.stat().st_mode & 0o777 == 0o700
        assert [each.name for each in path.parent.iterdir()] == ["signing.key"]
        second = TokenIssuer.load_or_create(path)
        assert first.kid == second.kid
        second.verify(first.issue(verdict, at=at), at=at)

    def test_two_that_start_at_once_share_one_key(self, tmp_path: Path) -> None:
        path = tmp_path / "signing.key"
        with ThreadPoolExecutor(4) as pool:
            kids = set(pool.map(lambda _: TokenIssuer.load_or_create(path).kid, range(8)))
        assert len(kids) == 1

    def test_earlier_keys_are_read(self, tmp_path: Path) -> None:
        old = TokenIssuer.load_or_create(tmp_path / "old.key")
        new = TokenIssuer.load_or_create(tmp_path / "new.key", earlier=[tmp_path / "old.key"])
        assert [key["kid"] for key in new.jwks()["keys"]] == [new.kid, old.kid]

    def test_what_others_may_read_is_refused(self, tmp_path: Path) -> None:
        path = tmp_path / "signing.key"
        TokenIssuer.load_or_create(path)
        path.chmod(0o640)
        with pytest.raises(ConfigurationError, match="others may read") as caught:
            TokenIssuer.load_or_create(path)
        assert "chmod 600" in caught.value.hint

    @pytest.mark.parametrize("kind", ["garbage", "rsa", "p384", "folder", "empty"])
    def test_what_is_no_p256_key_is_refused(self, tmp_path: Path, kind: str) -> None:
        path = tmp_path / "signing.key"
        if kind == "folder":
            path.mkdir(mode=0o700)
        else:
            pem = b"garbage" if kind == "garbage" else b""
            if kind in {"rsa", "p384"}:
                key = (
                    rsa.generate_private_key(65537, 2048)
                    if kind == "rsa"
                    else ec.generate_private_key(ec.SECP384R1())
                )
                pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
            path.write_bytes(pem)
            path.chmod(0o600)
        with pytest.raises(ConfigurationError) as caught:
            TokenIssuer.load_or_create(path)
        assert caught.value.hint

    def test_a_folder_that_cannot_be_made_is_told(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("x")
        with pytest.raises(ConfigurationError, match="cannot create"):
            TokenIssuer.load_or_create(tmp_path / "file" / "signing.key")

    def test_the_key_is_in_no_repr(self, issuer: TokenIssuer) -> None:
        private = issuer._key.jwk.as_dict(private=True)["d"]
        assert str(private) not in repr(vars(issuer))
