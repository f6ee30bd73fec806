# SPDX-License-Identifier: Apache-2.0
"""Sigstore bundles: a real one holds for who signed it, offline, and nothing else does."""

from __future__ import annotations

import json
import socket
from base64 import b64decode, b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eaa.rats import ConfigurationError
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.sigstore import Identity, open_bundle

if TYPE_CHECKING:
    from collections.abc import Callable

pytest.importorskip("sigstore", reason="sigstore is not installed")

BUNDLE = (Path(__file__).parent / "data" / "pypi-attestations-0.0.19.slsa.sigstore.json").read_bytes()
ISSUER = "https://token.actions.githubusercontent.com"
WORKFLOW = "https://github.com/trailofbits/pypi-attestations/.github/workflows/release.yml@refs/tags/v0.0.19"
SIGNER = Identity(WORKFLOW, ISSUER)


@pytest.fixture(autouse=True)
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """No socket gets anywhere."""

    def refuse(*_: object) -> None:
        pytest.fail("a network was asked")

    monkeypatch.setattr(socket.socket, "connect", refuse)


def changed(change: Callable[[dict[str, Any]], None]) -> bytes:
    value = json.loads(BUNDLE)
    change(value)
    return json.dumps(value).encode()


def test_a_real_bundle_holds_for_who_signed_it() -> None:
    statement, identity = open_bundle(BUNDLE, [Identity("someone@example.com", ISSUER), SIGNER])
    assert identity == SIGNER
    assert statement.predicate_type == "https://slsa.dev/provenance/v1"
    assert statement.subject[0].sha256 == "9bb1add04b1b4e182be6b0b80931593f7a291eb49d69b4fd728a5d4cbcdc4bd3"
    assert statement.predicate["runDetails"]["builder"]["id"] == WORKFLOW


@pytest.mark.parametrize(
    "identity",
    [
        Identity(WORKFLOW.replace("v0.0.19", "v0.0.18"), ISSUER),
        Identity(WORKFLOW, "https://accounts.google.com"),
        Identity(WORKFLOW.removesuffix("@refs/tags/v0.0.19"), ISSUER),
    ],
)
def test_another_identity_is_refused(identity: Identity) -> None:
    for identities in ([identity], []):
        with pytest.raises(SignatureRefused) as caught:
            open_bundle(BUNDLE, identities)
        assert caught.value.check == "sigstore.identity"
        assert caught.value.hint


def test_an_identity_is_nobody_without_its_issuer() -> None:
    for identity, issuer in (("", ISSUER), (WORKFLOW, "")):
        with pytest.raises(ConfigurationError):
            Identity(identity, issuer)


def _payload(value: dict[str, Any]) -> None:
    envelope = value["dsseEnvelope"]
    envelope["payload"] = b64encode(b64decode(envelope["payload"]).replace(b"9bb1", b"9bb2")).decode()


def _signature(value: dict[str, Any]) -> None:
    signature = value["dsseEnvelope"]["signatures"][0]
    signature["sig"] = b64encode(b64decode(signature["sig"])[:-1] + b"\0").decode()


def _log_time(value: dict[str, Any]) -> None:
    entry = value["verificationMaterial"]["tlogEntries"][0]
    entry["integratedTime"] = str(int(entry["integratedTime"]) + 86400)


def _log_root(value: dict[str, Any]) -> None:
    proof = value["verificationMaterial"]["tlogEntries"][0]["inclusionProof"]
    proof["rootHash"] = b64encode(bytes(32)).decode()


@pytest.mark.parametrize("change", [_payload, _signature, _log_time, _log_root])
def test_nothing_that_proves_it_can_be_changed(change: Callable[[dict[str, Any]], None]) -> None:
    with pytest.raises((SignatureRefused, StatementError)) as caught:
        open_bundle(changed(change), [SIGNER])
    assert getattr(caught.value, "check", "sigstore.proof") == "sigstore.proof"


def test_roots_are_the_ones_that_are_given(tmp_path: Path) -> None:
    path = tmp_path / "trusted_root.json"
    for content in (b"", b"{}", b"[]"):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError):
            open_bundle(BUNDLE, [SIGNER], path)
    with pytest.raises(ConfigurationError):
        open_bundle(BUNDLE, [SIGNER], tmp_path / "none")


@given(data=st.binary(max_size=100))
def test_any_bytes_are_no_bundle(data: bytes) -> None:
    with pytest.raises(StatementError):
        open_bundle(data, [SIGNER])


@settings(max_examples=40)
@given(position=st.integers(0, len(BUNDLE) - 1), byte=st.integers(32, 126))
@example(position=133, byte=97)  # a certificate of a version that there is not
def test_a_bundle_with_a_changed_byte_says_the_same_or_is_refused(position: int, byte: int) -> None:
    data = bytearray(BUNDLE)
    data[position] = byte
    try:
        statement, _ = open_bundle(bytes(data), [SIGNER])
    except (StatementError, SignatureRefused):
        return
    assert statement == open_bundle(BUNDLE, [SIGNER])[0]
