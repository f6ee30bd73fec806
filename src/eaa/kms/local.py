# SPDX-License-Identifier: Apache-2.0
"""The key manager for one machine: a root key in a file or the environment, and envelope encryption under it.

Sealed bytes, version 1: version (1) | key id (8) | wrapped data key (40) | nonce (12) | ciphertext and tag (16 more than
the plaintext). The data key is fresh for each object and wrapped with AES-256-KWP (RFC 5649), so that the root key has no
nonces to run out of; the object is AES-256-GCM with the first two fields and the context as additional data.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from cryptography.hazmat.primitives.keywrap import (
    InvalidUnwrap,
    aes_key_unwrap_with_padding,
    aes_key_wrap_with_padding,
)

from eaa.kms.manager import UnsealError
from eaa.kms.rootkey import ROOT_KEY_BYTES, load_or_create_key_file, read_key_file, root_key_from_text
from eaa.rats import ConfigurationError, InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["LocalKeyManager"]

ENVIRONMENT_KEY: Final = "EAA_KMS_ROOT_KEY"
ENVIRONMENT_FILE: Final = "EAA_KMS_ROOT_KEY_FILE"

FORMAT_VERSION: Final = b"\x01"
KEY_ID_BYTES: Final = 8
HEADER_BYTES: Final = 1 + KEY_ID_BYTES
WRAPPED_KEY_BYTES: Final = 40  # RFC 5649: 32 bytes of key and one block of 8
NONCE_BYTES: Final = 12
TAG_BYTES: Final = 16
OVERHEAD: Final = HEADER_BYTES + WRAPPED_KEY_BYTES + NONCE_BYTES + TAG_BYTES
GENERATE_LIMIT: Final = 65536


class LocalKeyManager:
    """Seals under a root key of 32 bytes that this process holds in memory.

    ``key_id`` names the root key without telling anything about it (16 hex digits); it stands in everything sealed.
    """

    name: ClassVar[str] = "local"
    __slots__ = ("_kek", "key_id")

    def __init__(self, root_key: bytes) -> None:
        """Take a root key.

        :raises ConfigurationError: when it is not 32 bytes.
        """
        if len(root_key) != ROOT_KEY_BYTES:
            raise ConfigurationError(
                f"a root key has {ROOT_KEY_BYTES} bytes, not {len(root_key)}",
                hint="Make one with `openssl rand -base64 32`.",
            )
        self._kek = _derived(root_key, b"eaa.kms.local v1 key encryption", 32)
        self.key_id: Final = _derived(root_key, b"eaa.kms.local v1 key id", KEY_ID_BYTES).hex()

    @classmethod
    def open(
        cls, settings: Mapping[str, str], *, environ: Mapping[str, str] | None = None
    ) -> LocalKeyManager:
        """Find the root key, or make it in ``key_file``; opening again gives the same key.

        The root key is, as base64 of 32 bytes, in the environment variable ``EAA_KMS_ROOT_KEY``, or in the file that
        ``EAA_KMS_ROOT_KEY_FILE`` names, or in the file ``key_file`` of the settings, the only one that is made if it is not
        there. A file that others than its owner may read is refused.

        :param environ: the environment to look in; by default the process's own.
        :raises ConfigurationError: when there is no usable root key, or it is not clear which one is meant.
        """
        environ = os.environ if environ is None else environ
        unknown = sorted(set(settings) - {"key_file"})
        if unknown:
            raise ConfigurationError(
                f"the local key manager has no setting {', '.join(unknown)}",
                hint="Its only setting is key_file.",
            )
        if ENVIRONMENT_KEY in environ and ENVIRONMENT_FILE in environ:
            raise ConfigurationError(
                f"both {ENVIRONMENT_KEY} and {ENVIRONMENT_FILE} are set", hint="Unset one of them."
            )
        if ENVIRONMENT_KEY in environ:
            return cls(root_key_from_text(environ[ENVIRONMENT_KEY], ENVIRONMENT_KEY))
        if ENVIRONMENT_FILE in environ:
            return cls(read_key_file(Path(environ[ENVIRONMENT_FILE])))
        if not settings.get("key_file"):
            raise ConfigurationError(
                "the local key manager has no root key",
                hint=f"Set key_file to a path, or {ENVIRONMENT_KEY} to base64 of 32 random bytes.",
            )
        return cls(load_or_create_key_file(Path(settings["key_file"])))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(key_id={self.key_id!r})"

    async def wrap(self, plaintext: bytes, *, context: bytes) -> bytes:
        """Return ``plaintext`` sealed under a fresh data key, for ``context`` only."""
        header = FORMAT_VERSION + bytes.fromhex(self.key_id)
        data_key = AESGCM.generate_key(256)
        nonce = secrets.token_bytes(NONCE_BYTES)
        ciphertext = AESGCM(data_key).encrypt(nonce, plaintext, header + context)
        return header + aes_key_wrap_with_padding(self._kek, data_key) + nonce + ciphertext

    async def unwrap(self, wrapped: bytes, *, context: bytes) -> bytes:
        """Return what :meth:`wrap` sealed.

        :raises UnsealError: when it was altered or cut, or sealed under another root key or context.
        """
        header, rest = wrapped[:HEADER_BYTES], wrapped[HEADER_BYTES:]
        if len(wrapped) < OVERHEAD or not header.startswith(FORMAT_VERSION):
            raise UnsealError(
                f"these {len(wrapped)} bytes were not sealed by the local key manager, format 1",
                hint="Open them with the key manager and the version of EAA that sealed them.",
            )
        if header[1:].hex() != self.key_id:
            raise UnsealError(
                f"sealed under the root key {header[1:].hex()}, not under {self.key_id}",
                hint="Give the root key that was in use when this was sealed; without it the content cannot be recovered.",
            )
        nonce = rest[WRAPPED_KEY_BYTES : WRAPPED_KEY_BYTES + NONCE_BYTES]
        try:
            data_key = aes_key_unwrap_with_padding(self._kek, rest[:WRAPPED_KEY_BYTES])
            return AESGCM(data_key).decrypt(nonce, rest[WRAPPED_KEY_BYTES + NONCE_BYTES :], header + context)
        except (InvalidUnwrap, InvalidTag):
            raise UnsealError(
                "sealed bytes were altered, or belong elsewhere",
                hint="Restore this object from a backup; it was changed, or moved to another place, after it was sealed.",
            ) from None

    async def generate(self, size: int) -> bytes:
        """Return ``size`` bytes from the operating system's generator.

        :raises InputError: when the size is not 1 to 65536.
        """
        if not 1 <= size <= GENERATE_LIMIT:
            raise InputError(
                f"cannot generate a key of {size} bytes", hint=f"Ask for 1 to {GENERATE_LIMIT} bytes."
            )
        return secrets.token_bytes(size)


def _derived(root_key: bytes, label: bytes, size: int) -> bytes:
    return HKDF(algorithm=hashes.SHA256(), length=size, salt=None, info=label).derive(root_key)
