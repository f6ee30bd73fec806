# SPDX-License-Identifier: Apache-2.0
"""The local key manager seals, opens what it sealed, and nothing else."""

from __future__ import annotations

import asyncio
import base64
import traceback
from typing import TYPE_CHECKING

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import given
from hypothesis import strategies as st

from eaa.kms import KeyManager, LocalKeyManager, UnsealError
from eaa.kms.local import OVERHEAD
from eaa.rats import ConfigurationError, InputError

if TYPE_CHECKING:
    from pathlib import Path

ROOT_KEY = bytes(range(32))
MANAGER = LocalKeyManager(ROOT_KEY)
SECRET = b"a secret of the owner"
FROZEN = (
    "01bd8eafd4e6d333191307934e6ef9c5ae1a573710ef6493c1f2fda2fd96f4e31ec4ba774c956ce56801bf0fcf"
    "e1de667f1bdf3e0bee7fecace98f94dfa820628016c4a909c8b8cd7cfee8be409ccda581fea54e74af7a82a05230"
)
SEALED = asyncio.run(MANAGER.wrap(SECRET, context=b"here"))


@given(st.binary(max_size=300), st.binary(max_size=100))
def test_what_was_sealed_opens_under_its_context(plaintext: bytes, context: bytes) -> None:
    """Unwrap inverts wrap, and the sealed bytes are longer by the documented overhead."""
    sealed = asyncio.run(MANAGER.wrap(plaintext, context=context))
    assert len(sealed) == OVERHEAD + len(plaintext)
    assert asyncio.run(MANAGER.unwrap(sealed, context=context)) == plaintext


@pytest.mark.anyio
async def test_equal_secrets_are_sealed_differently() -> None:
    """Neither data keys nor nonces repeat."""
    sealed = {await MANAGER.wrap(SECRET, context=b"") for _ in range(50)}
    assert len({each[9:49] for each in sealed}) == 50
    assert len({each[49:61] for each in sealed}) == 50


@pytest.mark.anyio
async def test_another_context_does_not_open() -> None:
    """The context is authenticated, and cannot be shifted into the header."""
    for context in (b"", b"her", b"here ", b"there"):
        with pytest.raises(UnsealError, match="altered, or belong elsewhere"):
            await MANAGER.unwrap(SEALED, context=context)


@pytest.mark.anyio
async def test_another_root_key_is_named() -> None:
    """The error tells which root key is needed and which one is at hand."""
    other = LocalKeyManager(bytes(32))
    with pytest.raises(UnsealError) as caught:
        await other.unwrap(SEALED, context=b"here")
    assert MANAGER.key_id in str(caught.value)
    assert other.key_id in str(caught.value)
    assert "root key" in caught.value.hint


@given(st.integers(0, len(SEALED) * 8 - 1))
def test_no_bit_can_be_changed(bit: int) -> None:
    """Every bit of the sealed form is authenticated."""
    changed = bytearray(SEALED)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(UnsealError):
        asyncio.run(MANAGER.unwrap(bytes(changed), context=b"here"))


@given(
    st.binary(max_size=150).flatmap(
        lambda tail: st.sampled_from([tail, SEALED[:9] + tail, SEALED[:49] + tail])
    )
)
def test_any_bytes_give_an_unseal_error(data: bytes) -> None:
    """Fuzz: arbitrary bytes, also behind a true header or a true wrapped key, are refused and never crash."""
    with pytest.raises(UnsealError):
        asyncio.run(MANAGER.unwrap(data, context=b"here"))


@pytest.mark.parametrize("size", range(len(SEALED)))
def test_no_prefix_opens(size: int) -> None:
    """Cut sealed bytes are refused at every length."""
    with pytest.raises(UnsealError):
        asyncio.run(MANAGER.unwrap(SEALED[:size], context=b"here"))


def test_the_format_has_not_changed() -> None:
    """Bytes that version 1 sealed in the past still open; a change of derivation or layout would lose every database."""
    sealed = bytes.fromhex(FROZEN)
    assert asyncio.run(MANAGER.unwrap(sealed, context=b"frozen context")) == b"frozen content"


@pytest.mark.anyio
async def test_generate_gives_fresh_bytes_within_bounds() -> None:
    """Sizes of 1 to 65536 are served; others are refused."""
    assert len(await MANAGER.generate(1)) == 1
    assert len(await MANAGER.generate(65536)) == 65536
    assert await MANAGER.generate(32) != await MANAGER.generate(32)
    for size in (0, -1, 65537):
        with pytest.raises(InputError):
            await MANAGER.generate(size)


def test_it_is_a_key_manager() -> None:
    """The driver has the interface's shape."""
    assert isinstance(MANAGER, KeyManager)
    assert MANAGER.name == "local"


@pytest.mark.anyio
async def test_nothing_shows_the_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither repr nor an error with its traceback holds the root key, the data key or the plaintext."""
    data_keys: list[bytes] = []
    generate = AESGCM.generate_key

    def watched(bits: int) -> bytes:
        data_keys.append(generate(bits))
        return data_keys[-1]

    monkeypatch.setattr(AESGCM, "generate_key", watched)
    sealed = await MANAGER.wrap(SECRET, context=b"here")
    with pytest.raises(UnsealError) as caught:
        await MANAGER.unwrap(sealed, context=b"there")
    shown = repr(MANAGER) + str(MANAGER) + "".join(traceback.format_exception(caught.value))
    assert data_keys
    for secret in (ROOT_KEY, data_keys[0], SECRET):
        for form in (secret.hex(), repr(secret)[2:-1], base64.b64encode(secret).decode()):
            assert form not in shown


def test_the_environment_gives_the_root_key() -> None:
    """EAA_KMS_ROOT_KEY holds it as base64, white space around it aside."""
    text = base64.b64encode(ROOT_KEY).decode()
    assert LocalKeyManager.open({}, environ={"EAA_KMS_ROOT_KEY": f" {text}\n"}).key_id == MANAGER.key_id


def test_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    """A root key in the environment keeps the file from being made."""
    settings = {"key_file": str(tmp_path / "root.key")}
    opened = LocalKeyManager.open(settings, environ={"EAA_KMS_ROOT_KEY": base64.b64encode(ROOT_KEY).decode()})
    assert opened.key_id == MANAGER.key_id
    assert not (tmp_path / "root.key").exists()


def test_the_environment_can_name_a_file(tmp_path: Path) -> None:
    """EAA_KMS_ROOT_KEY_FILE names a file that must be there: it is never made."""
    path = tmp_path / "mounted"
    with pytest.raises(ConfigurationError, match="No such file"):
        LocalKeyManager.open({}, environ={"EAA_KMS_ROOT_KEY_FILE": str(path)})
    assert not path.exists()
    path.write_bytes(base64.b64encode(ROOT_KEY))
    path.chmod(0o400)
    assert LocalKeyManager.open({}, environ={"EAA_KMS_ROOT_KEY_FILE": str(path)}).key_id == MANAGER.key_id


@pytest.mark.parametrize(
    "text", ["", "not base64!", "c2hvcnQ=", base64.b64encode(bytes(33)).decode(), "é" * 44, ROOT_KEY.hex()]
)
def test_a_bad_root_key_in_the_environment_is_refused(text: str) -> None:
    """The error names the variable and says what to do, without the text."""
    with pytest.raises(ConfigurationError, match="EAA_KMS_ROOT_KEY") as caught:
        LocalKeyManager.open({"key_file": "/unused"}, environ={"EAA_KMS_ROOT_KEY": text})
    assert "openssl rand" in caught.value.hint
    assert not text or text not in str(caught.value) + caught.value.hint


@pytest.mark.parametrize(
    ("settings", "environ", "match"),
    [
        ({}, {}, "no root key"),
        ({"key_file": ""}, {}, "no root key"),
        ({"key_flie": "/x"}, {}, "no setting key_flie"),
        ({}, {"EAA_KMS_ROOT_KEY": "x", "EAA_KMS_ROOT_KEY_FILE": "y"}, "both"),
    ],
)
def test_unclear_settings_are_refused(settings: dict[str, str], environ: dict[str, str], match: str) -> None:
    """No default key, no guessing."""
    with pytest.raises(ConfigurationError, match=match):
        LocalKeyManager.open(settings, environ=environ)


@pytest.mark.parametrize("size", [0, 16, 31, 33, 64])
def test_a_root_key_of_another_length_is_refused(size: int) -> None:
    """Only 32 bytes are a root key."""
    with pytest.raises(ConfigurationError, match="32 bytes"):
        LocalKeyManager(bytes(size))
