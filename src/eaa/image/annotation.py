# SPDX-License-Identifier: Apache-2.0
"""The annotation packet: a layer's key options, wrapped under a key-encryption key (KEK).

It is what ocicrypt stores in the manifest under ``org.opencontainers.image.enc.keys.provider.attestation-agent``. Three
forms are read: EAA's first (byte arrays, ``"algorithm": "AES"``), the Confidential Containers' first (base64,
``wrap_type``), and its second (with ``version`` and ``provider``), which is the one that is written.
"""

from __future__ import annotations

import json
import os
from base64 import b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from eaa._json import parse_json
from eaa.image._fields import bytes_of, object_of, text_of
from eaa.image.errors import ImageError
from eaa.image.uri import ResourceUri

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "KEK_SIZE",
    "MAX_ANNOTATION",
    "MAX_OPTSDATA",
    "AnnotationPacket",
    "require_wrap_type",
    "unwrap",
    "wrap",
]

KEK_SIZE: Final = 32
MAX_ANNOTATION: Final = 256 << 10
"""Bytes of a packet's JSON."""
MAX_OPTSDATA: Final = 32 << 10
"""Bytes of a layer's key options; ocicrypt's are about 200."""

WRAP_TYPE: Final = "A256GCM"
_VERSION: Final = "0.1.0"
_PROVIDER: Final = "kbs"
_IV_SIZE: Final = 12
_TAG_SIZE: Final = 16
_MAX_NAME: Final = 1024
_CTR: Final = frozenset({"A256CTR", "aes_256_ctr"})


@dataclass(frozen=True, slots=True)
class AnnotationPacket:
    """Key options wrapped with AES-256-GCM; ``wrapped_data`` is the ciphertext and its 16-byte tag, ``iv`` 12 bytes."""

    kid: ResourceUri
    """Where the KEK is."""
    wrapped_data: bytes
    iv: bytes

    @classmethod
    def from_json(cls, data: bytes) -> AnnotationPacket:
        """Read a packet in any of its three forms.

        :raises ImageError: on malformed JSON, a missing member, or a way of wrapping that protects no integrity.
        """
        members = object_of(parse_json(data, MAX_ANNOTATION, error=ImageError), "the annotation packet")
        _require_way(members)
        wrapped = bytes_of(members, "wrapped_data", MAX_OPTSDATA + _TAG_SIZE)
        iv = bytes_of(members, "iv", _IV_SIZE)
        if len(wrapped) <= _TAG_SIZE or len(iv) != _IV_SIZE:
            raise ImageError(
                "the annotation packet's wrapped_data or iv is too short for A256GCM",
                hint="The image was encrypted by a key provider that failed silently: encrypt it again.",
            )
        return cls(ResourceUri.parse_key_id(text_of(members, "kid", _MAX_NAME)), wrapped, iv)

    def to_json(self) -> bytes:
        """Return the packet in its second form, compact."""
        packet = {
            "version": _VERSION,
            "provider": _PROVIDER,
            "kid": str(self.kid),
            "wrapped_data": b64encode(self.wrapped_data).decode(),
            "iv": b64encode(self.iv).decode(),
            "wrap_type": WRAP_TYPE,
            "provider_settings": {},
            "annotations": {},
        }
        return json.dumps(packet, separators=(",", ":")).encode()


def wrap(kek: bytes, optsdata: bytes, *, kid: ResourceUri) -> AnnotationPacket:
    """Wrap a layer's key options under the 32-byte ``kek`` that is (or will be) the resource ``kid``.

    The format has no room for associated data, so nothing but the KEK ties a packet to its image; ocicrypt's options carry
    the layer's digest.

    :raises ImageError: on a KEK of another size, or options that are empty or too long.
    """
    if not 0 < len(optsdata) <= MAX_OPTSDATA:
        raise ImageError(f"{len(optsdata)} bytes of key options, 1 to {MAX_OPTSDATA} are wrapped")
    iv = os.urandom(_IV_SIZE)
    return AnnotationPacket(kid, _cipher(kek, kid).encrypt(iv, optsdata, None), iv)


def unwrap(kek: bytes, packet: AnnotationPacket) -> bytes:
    """Return the key options that ``packet`` holds.

    :raises ImageError: when the KEK has another size, is not the one that wrapped the packet, or the packet was altered.
    """
    try:
        return _cipher(kek, packet.kid).decrypt(packet.iv, packet.wrapped_data, None)
    except InvalidTag:
        raise ImageError(
            f"the wrapped layer key does not open with {packet.kid}",
            hint="The annotation was altered, or the key was replaced after the image was encrypted.",
        ) from None


def require_wrap_type(name: str) -> None:
    """Refuse every way of wrapping but A256GCM.

    :raises ImageError: saying why.
    """
    if name in _CTR:
        raise ImageError(
            "A256CTR does not protect the wrapped key's integrity: whoever holds the image could change it unseen",
            hint="Encrypt the image with algorithm=A256GCM.",
        )
    if name != WRAP_TYPE:
        raise ImageError("unknown way of wrapping a key", hint=f"Known is {WRAP_TYPE}.")


def _require_way(members: Mapping[str, Any]) -> None:
    """Refuse a packet that is not AES-256-GCM under a key of this broker."""
    if "wrap_type" not in members and "algorithm" in members:
        if members["algorithm"] != "AES" or members.get("key_length") != KEK_SIZE * 8:
            raise ImageError(
                "the annotation packet is not wrapped with AES-256", hint=f"Known is {WRAP_TYPE}."
            )
    else:
        require_wrap_type(text_of(members, "wrap_type", _MAX_NAME))
    if members.get("version", _VERSION) != _VERSION:
        raise ImageError("the annotation packet has another version", hint=f"Known is {_VERSION}.")
    if members.get("provider", _PROVIDER) != _PROVIDER:
        raise ImageError(
            "the annotation packet's key is held by another provider than kbs", hint="Encrypt with a kbs key."
        )


def _cipher(kek: bytes, kid: ResourceUri) -> AESGCM:
    if len(kek) != KEK_SIZE:
        raise ImageError(f"{kid} has {len(kek)} bytes, a key-encryption key has {KEK_SIZE}")
    return AESGCM(kek)
