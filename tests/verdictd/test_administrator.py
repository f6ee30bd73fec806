# SPDX-License-Identifier: Apache-2.0
"""Who may administer."""

from __future__ import annotations

import json
import stat
from base64 import urlsafe_b64encode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from joserfc import jws
from joserfc.jwk import ECKey, OctKey, OKPKey

from eaa.rats import AccessDenied, ConfigurationError
from eaa.verdictd.administrator import Administrators, Credential, ensure_administrator

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
KEY = OKPKey.generate_key("Ed25519")
CREDENTIAL = Credential("owner", dict(KEY.as_dict(private=True)))
ADMINISTRATORS = Administrators("owner", dict(KEY.as_dict(private=False)))


def _token(key: Any = KEY, *, alg: str = "Ed25519", **changes: Any) -> str:
    claims = {"iss": "owner", "aud": ["kbs"], "role": "admin", "exp": NOW.timestamp() + 60} | changes
    claims = {name: value for name, value in claims.items() if value is not None}
    return jws.serialize_compact({"alg": alg}, json.dumps(claims).encode(), key, algorithms=[alg])


def test_minted_token_is_accepted() -> None:
    """What the credential mints, the server accepts."""
    assert ADMINISTRATORS.authorize(f"Bearer {CREDENTIAL.mint(at=NOW)}", at=NOW) == "owner/admin"


def test_audience_may_be_text() -> None:
    """RFC 7519 allows a single audience as a string."""
    assert ADMINISTRATORS.authorize(f"bearer {_token(aud='kbs')}", at=NOW)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "stranger"},
        {"iss": None},
        {"aud": ["other"]},
        {"aud": None},
        {"aud": {"kbs": 1}},
        {"role": "reader"},
        {"role": None},
        {"exp": None},
        {"exp": True},
        {"exp": "2026"},
        {"exp": float("inf")},
        {"exp": NOW.timestamp() - 31},
        {"exp": NOW.timestamp() + 331},
        {"nbf": NOW.timestamp() + 31},
        {"nbf": []},
    ],
    ids=str,
)
def test_wrong_claims_are_refused(changes: dict[str, Any]) -> None:
    """Every claim is compared, and its absence is a refusal."""
    with pytest.raises(AccessDenied) as caught:
        ADMINISTRATORS.authorize(f"Bearer {_token(**changes)}", at=NOW)
    assert caught.value.check == "admin.token"


def _unsigned() -> str:
    def part(value: object) -> str:
        return urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()

    claims = {"iss": "owner", "aud": "kbs", "role": "admin", "exp": NOW.timestamp() + 60}
    return f"{part({'alg': 'none'})}.{part(claims)}."


@pytest.mark.parametrize(
    "header",
    [
        None,
        "",
        "Bearer",
        "Bearer ",
        "Basic b3duZXI6eA==",
        f"Bearer {_unsigned()}",
        f"Bearer {_token(OKPKey.generate_key('Ed25519'))}",
        f"Bearer {_token(ECKey.generate_key('P-256'), alg='ES256')}",
        f"Bearer {_token(OctKey.import_key(str(KEY.as_dict(private=False)['x'])), alg='HS256')}",
        f"Bearer {'x' * 5000}",
    ],
    ids=["none", "empty", "bare", "blank", "basic", "alg-none", "other-key", "es256", "hs256", "long"],
)
def test_wrong_credentials_are_refused(header: str | None) -> None:
    """Nothing but a token signed by the administrator's key opens the door."""
    with pytest.raises(AccessDenied):
        ADMINISTRATORS.authorize(header, at=NOW)


@given(st.text(max_size=200))
def test_any_header_is_refused_and_nothing_else_happens(text: str) -> None:
    """Whatever stands in the header, the answer is a refusal."""
    for header in (text, f"Bearer {text}"):
        with pytest.raises(AccessDenied):
            ADMINISTRATORS.authorize(header, at=NOW)


def test_credential_is_made_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    """The first start makes a credential of mode 0600; the second start keeps it."""
    credential, public = tmp_path / "admin.json", tmp_path / "admin.pub.json"
    ensure_administrator(credential, public)
    before = credential.read_bytes()
    administrators = ensure_administrator(credential, public)
    assert credential.read_bytes() == before
    assert stat.S_IMODE(credential.stat().st_mode) == 0o600
    assert "d" not in json.loads(public.read_text())["key"]
    assert administrators.authorize(f"Bearer {Credential.load(credential).mint(at=NOW)}", at=NOW)


def test_credential_may_leave_the_machine(tmp_path: Path) -> None:
    """Without the credential file the server runs on, and makes no second credential."""
    credential, public = tmp_path / "admin.json", tmp_path / "admin.pub.json"
    ensure_administrator(credential, public)
    token = Credential.load(credential).mint(at=NOW)
    credential.unlink()
    assert ensure_administrator(credential, public).authorize(f"Bearer {token}", at=NOW)
    assert not credential.exists()


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"issuer": "x", "key": {"kty": "OKP"}}', "[" * 100_000])
def test_damaged_files_are_configuration_errors(tmp_path: Path, text: str) -> None:
    """A damaged credential or public key is named, and neither is replaced."""
    credential, public = tmp_path / "admin.json", tmp_path / "admin.pub.json"
    credential.write_text(text)
    credential.chmod(0o600)
    with pytest.raises(ConfigurationError):
        ensure_administrator(credential, public)
    public.write_text(text)
    with pytest.raises(ConfigurationError):
        ensure_administrator(tmp_path / "other.json", public)


def test_readable_by_others_is_refused(tmp_path: Path) -> None:
    """A credential that others can read is not used."""
    path = tmp_path / "admin.json"
    ensure_administrator(path, tmp_path / "admin.pub.json")
    path.chmod(0o640)
    with pytest.raises(ConfigurationError, match="others may read"):
        Credential.load(path)


def test_key_is_not_in_the_repr() -> None:
    """The private key does not show in logs."""
    assert str(CREDENTIAL.key["d"]) not in repr(CREDENTIAL)


def test_token_is_short_lived() -> None:
    """A minted token is worthless a few minutes later."""
    token = CREDENTIAL.mint(at=NOW)
    with pytest.raises(AccessDenied):
        ADMINISTRATORS.authorize(f"Bearer {token}", at=NOW + timedelta(minutes=3))
