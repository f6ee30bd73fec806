# SPDX-License-Identifier: Apache-2.0
"""The guest's client against a small broker over real HTTP: handshakes, releases, refusals, faults."""

from __future__ import annotations

import asyncio
import json
from base64 import urlsafe_b64decode
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID

from eaa.agent.client import KbsClient
from eaa.image import ImageError
from eaa.kbs import InitData, TeeKeyPair, encrypt
from eaa.rats import AccessDenied, ConfigurationError, NotFound, ProtocolError, UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from tests.agent.conftest import FakeAttester, FakeKbs

pytestmark = pytest.mark.anyio
HANDSHAKE = ["auth", "attest"]


async def test_a_resource_comes_after_a_handshake(client: KbsClient, kbs: FakeKbs) -> None:
    assert await client.get_resource("kbs:///default/key/1") == bytes(range(32))
    assert kbs.calls == [*HANDSHAKE, "resource"]


async def test_the_session_serves_further_resources(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.resources["a/b/c"] = b""
    assert await client.get_resource("default/key/1") == bytes(range(32))
    assert await client.get_resource("a/b/c") == b""
    assert kbs.calls == [*HANDSHAKE, "resource", "resource"]


async def test_a_forgotten_session_is_made_anew_with_another_key(client: KbsClient, kbs: FakeKbs) -> None:
    await client.get_resource("default/key/1")
    kbs.sessions.clear()
    assert await client.get_resource("default/key/1") == bytes(range(32))
    assert kbs.calls == [*HANDSHAKE, "resource", "resource", *HANDSHAKE, "resource"]
    assert len(set(kbs.keys_seen)) == 2


async def test_three_attempts_and_no_more(client: KbsClient, kbs: FakeKbs) -> None:
    for _ in range(5):
        kbs.refuse("resource", "session expired", variant="TokenVerifierError")
    with pytest.raises(AccessDenied, match="session expired"):
        await client.get_resource("default/key/1")
    assert kbs.calls == [*HANDSHAKE, "resource"] * 3


async def test_a_policy_denial_of_a_fresh_session_is_final(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("resource", "Access denied by policy")
    with pytest.raises(AccessDenied, match="Access denied by policy") as denied:
        await client.get_resource("default/key/1")
    assert denied.value.check == "kbs.denied"
    assert kbs.calls == [*HANDSHAKE, "resource"]


async def test_a_denial_of_an_old_session_is_asked_again(client: KbsClient, kbs: FakeKbs) -> None:
    await client.get_resource("default/key/1")
    kbs.refuse("resource", "Access denied by policy")
    assert await client.get_resource("default/key/1") == bytes(range(32))


@pytest.mark.parametrize(
    "detail",
    [
        "check tdx.td.debug failed: expected off, found on. Launch without debug.",
        "rejected by check `tdx.td.debug`",
        "Access denied by policy: check: tdx.td.debug",
    ],
)
@pytest.mark.parametrize("call", ["attest", "resource"])
async def test_the_check_that_refused_reaches_the_caller(
    client: KbsClient, kbs: FakeKbs, call: str, detail: str
) -> None:
    kbs.refuse(call, detail, variant="AttestationError")
    with pytest.raises(AccessDenied) as denied:
        await client.get_resource("default/key/1")
    assert denied.value.check == "tdx.td.debug"
    assert detail in str(denied.value)
    assert kbs.calls[-1] == call


async def test_refused_evidence_is_not_sent_again(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("attest", "Verifier evaluate failed", variant="AttestationError")
    with pytest.raises(AccessDenied):
        await client.get_resource("default/key/1")
    assert kbs.calls == HANDSHAKE


async def test_after_a_refused_handshake_the_next_call_tries_again(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("attest", "no")
    with pytest.raises(AccessDenied):
        await client.get_token()
    assert await client.get_resource("default/key/1") == bytes(range(32))


async def test_a_403_is_a_denial_too(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("resource", "check resource.policy: denied", status=403)
    with pytest.raises(AccessDenied) as denied:
        await client.get_resource("default/key/1")
    assert denied.value.check == "resource.policy"
    assert kbs.calls.count("resource") == 1


async def test_an_unknown_resource_is_not_found(client: KbsClient) -> None:
    with pytest.raises(NotFound, match="default/key/none"):
        await client.get_resource("default/key/none")


async def test_another_protocol_version_is_told(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("auth", "KBS Client Protocol Version Mismatch: expect =0.5.0", variant="AttestationError")
    with pytest.raises(AccessDenied, match="Version Mismatch"):
        await client.get_token()


@pytest.mark.parametrize(
    ("call", "status", "body", "error"),
    [
        ("auth", 500, b"oops", UnavailableError),
        ("auth", 503, b"", UnavailableError),
        ("auth", 429, b"", UnavailableError),
        ("auth", 302, b"", ProtocolError),
        ("auth", 400, b"{}", ProtocolError),
        ("auth", 200, b"", ProtocolError),
        ("auth", 200, b'{"nonce":"AAAA","extra-params":""}', ProtocolError),
        ("attest", 401, b"\xff", AccessDenied),
        ("attest", 200, b"{}", ProtocolError),
        ("attest", 200, b'{"token":5}', ProtocolError),
        ("resource", 200, b"[]", ProtocolError),
        ("resource", 200, b"[" * 100_000, ProtocolError),
        ("resource", 200, json.dumps(encrypt(b"x", TeeKeyPair.generate().public)), ProtocolError),
        ("resource", 200, b" " * (5 << 20), ProtocolError),
    ],
)
async def test_a_broker_that_breaks_the_protocol_is_an_error_of_ours(
    client: KbsClient, kbs: FakeKbs, call: str, status: int, body: bytes, error: type[Exception]
) -> None:
    kbs.answer(call, status, body)
    with pytest.raises(error):
        await client.get_resource("default/key/1")


async def test_nobody_listening_is_unavailable(attester: FakeAttester) -> None:
    async with KbsClient("http://127.0.0.1:1", attester) as client:
        with pytest.raises(UnavailableError, match="does not answer"):
            await client.get_resource("default/key/1")


async def test_a_malformed_name_is_refused_before_any_call(client: KbsClient, kbs: FakeKbs) -> None:
    with pytest.raises(ImageError):
        await client.get_resource("../auth")
    assert kbs.calls == []


async def test_concurrent_calls_share_one_handshake(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.delay = 0.02
    values = await asyncio.gather(*(client.get_resource("default/key/1") for _ in range(8)))
    assert set(values) == {bytes(range(32))}
    assert kbs.calls.count("attest") == 1


async def test_concurrent_calls_outlive_a_forgotten_session(client: KbsClient, kbs: FakeKbs) -> None:
    await client.get_token()
    kbs.delay = 0.02
    kbs.sessions.clear()
    values = await asyncio.gather(*(client.get_resource("default/key/1") for _ in range(8)))
    assert set(values) == {bytes(range(32))}
    assert kbs.calls.count("attest") == 2


@pytest.mark.parametrize("selected", ["sha256", "sha512"])
async def test_the_selected_hash_is_used(client: KbsClient, kbs: FakeKbs, selected: str) -> None:
    kbs.extra_params, kbs.hash_algorithm = {"selected-hash-algorithm": selected}, selected
    assert await client.get_resource("default/key/1") == bytes(range(32))


@pytest.mark.parametrize("selected", ["sm3", None, ["sha384"]])
async def test_another_hash_is_refused(client: KbsClient, kbs: FakeKbs, selected: Any) -> None:
    kbs.extra_params = {"selected-hash-algorithm": selected}
    with pytest.raises(ProtocolError, match="hash"):
        await client.get_token()


@pytest.mark.parametrize(("expires", "handshakes"), [(1000.0, 2), (1005.0, 2), (1100.0, 1), (None, 2)])
async def test_a_token_is_kept_until_shortly_before_its_end(
    kbs: FakeKbs, attester: FakeAttester, expires: float | None, handshakes: int
) -> None:
    kbs.token_expires = 5000.0
    async with KbsClient(kbs.url, attester, clock=lambda: 1000.0) as client:
        kbs.token_expires = expires
        await client._established()
        kbs.token_expires = 5000.0
        token = await client.get_token()
        assert await client.get_token() == token
    assert kbs.calls.count("attest") == handshakes


async def test_nothing_secret_shows(client: KbsClient, kbs: FakeKbs, quiet_logs: list[Any]) -> None:
    kbs.resources["default/key/1"] = b"very secret value of thirty-two!"
    await client.get_resource("default/key/1")
    passport = await client.get_passport()
    shown = repr(passport) + repr(client.__dict__) + repr(quiet_logs)
    for secret in ("very secret", passport.token, passport.cookie, "PRIVATE"):
        assert secret not in shown


async def test_control_characters_of_a_refusal_do_not_get_through(client: KbsClient, kbs: FakeKbs) -> None:
    kbs.refuse("resource", "denied\x1b[2J\r\nuser: root" + "x" * 10_000)
    with pytest.raises(AccessDenied) as denied:
        await client.get_resource("default/key/1")
    assert str(denied.value).isprintable()
    assert len(str(denied.value)) < 2200


@pytest.mark.parametrize(
    "url",
    [
        "http://kbs.example:8080",
        "ftp://127.0.0.1",
        "127.0.0.1:8080",
        "https://",
        "https://u:p@h",
        "http://10.0.0.1",
    ],
)
def test_only_https_or_loopback(url: str, attester: FakeAttester) -> None:
    with pytest.raises(ConfigurationError, match="kbs_url"):
        KbsClient(url, attester)


def test_a_ca_file_must_hold_certificates(tmp_path: Path, attester: FakeAttester) -> None:
    with pytest.raises(ConfigurationError, match="kbs_ca_file"):
        KbsClient("https://127.0.0.1", attester, ca_file=tmp_path / "none.pem")
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(ConfigurationError, match="kbs_ca_file"):
        KbsClient("https://127.0.0.1", attester, ca_file=tmp_path / "ca.pem")


def certificate(folder: Path) -> Path:
    """Write a self-signed certificate for localhost and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "localhost")])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, SHA256())
    )
    (folder / "cert.pem").write_bytes(made.public_bytes(Encoding.PEM))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return folder / "cert.pem"


async def test_tls_is_verified_against_the_given_ca(
    tmp_path: Path, attester: FakeAttester, kbs: FakeKbs, serve: Any
) -> None:
    ca_file = certificate(tmp_path)
    async with serve(kbs.app(), ssl_certfile=str(ca_file), ssl_keyfile=str(tmp_path / "key.pem")) as port:
        url = f"https://localhost:{port}"
        async with KbsClient(url, attester, ca_file=ca_file) as client:
            assert await client.get_resource("default/key/1") == bytes(range(32))
        async with KbsClient(url, attester) as stranger:
            with pytest.raises(UnavailableError, match="certificate verify failed"):
                await stranger.get_resource("default/key/1")


async def test_each_key_pair_is_bound_by_its_own_evidence(
    client: KbsClient, kbs: FakeKbs, attester: FakeAttester
) -> None:
    await client.get_token()
    kbs.sessions.clear()
    await client.get_resource("default/key/1")
    assert len({bytes(each) for each in attester.collected}) == 2
    assert all(len(each) == 64 and each.endswith(bytes(16)) for each in attester.collected)


async def test_a_token_is_the_broker_s_own(client: KbsClient) -> None:
    _, claims, _ = (await client.get_token()).split(".")
    assert json.loads(urlsafe_b64decode(claims + "==")) == {"exp": 2_000_000_000.0}


async def test_init_data_goes_with_the_evidence(kbs: FakeKbs, attester: FakeAttester) -> None:
    text = "version = '0.1.0'\nalgorithm = 'sha384'\n[data]\n"
    async with KbsClient(kbs.url, attester, init_data=text) as client:
        await client.get_token()
    async with KbsClient(kbs.url, attester) as without:
        await without.get_token()
    assert kbs.init_data_seen == [InitData(format="toml", body=text), None]
