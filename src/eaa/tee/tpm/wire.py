# SPDX-License-Identifier: Apache-2.0
"""The TPM's numbers, and a cursor over its big-endian structures (TPM 2.0 Library, Part 2: Structures)."""

from __future__ import annotations

import struct
from enum import IntEnum
from hashlib import sha1, sha256, sha384, sha512
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import EvidenceError

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["HASHERS", "Algorithm", "Curve", "Reader", "digest_size", "sized"]

_U16: Final = struct.Struct(">H")


class Algorithm(IntEnum):
    """TPM_ALG_ID, as far as quotes and keys use them (Part 2, table 9)."""

    RSA = 0x0001
    SHA1 = 0x0004
    AES = 0x0006
    SHA256 = 0x000B
    SHA384 = 0x000C
    SHA512 = 0x000D
    NULL = 0x0010
    SM3_256 = 0x0012
    SM4 = 0x0013
    RSASSA = 0x0014
    RSAES = 0x0015
    RSAPSS = 0x0016
    OAEP = 0x0017
    ECDSA = 0x0018
    ECDAA = 0x001A
    ECC = 0x0023
    CAMELLIA = 0x0026


class Curve(IntEnum):
    """TPM_ECC_CURVE (Part 2, table 10), those of NIST that a signing key may be on."""

    P256 = 0x0003
    P384 = 0x0004
    P521 = 0x0005


HASHERS: Final[dict[int, Callable[[bytes], Any]]] = {
    Algorithm.SHA1: sha1,
    Algorithm.SHA256: sha256,
    Algorithm.SHA384: sha384,
    Algorithm.SHA512: sha512,
}
"""The hashes that names and PCR digests are computed with here."""
_SIZES: Final[dict[int, int]] = {
    Algorithm.SHA1: 20,
    Algorithm.SHA256: 32,
    Algorithm.SHA384: 48,
    Algorithm.SHA512: 64,
    Algorithm.SM3_256: 32,
}


def digest_size(algorithm: int, check: str) -> int:
    """Return the size of a hash's digest in bytes.

    :raises EvidenceError: naming ``check``, when it is no hash that a TPM has banks of.
    """
    size = _SIZES.get(algorithm)
    if size is None:
        raise EvidenceError(f"{algorithm:#06x} is no hash that a TPM uses", check=check)
    return size


def sized(content: bytes) -> bytes:
    """Return ``content`` as a TPM2B: its size in 16 bits, then itself."""
    return _U16.pack(len(content)) + content


class Reader:
    """A cursor over the bytes of one structure that never reads past its end. ``check`` is the rule that it speaks for."""

    __slots__ = ("_what", "at", "check", "data")

    def __init__(self, data: bytes, what: str, check: str) -> None:
        self.data = data
        self.at = 0
        self.check = check
        self._what = what

    def unpack(self, layout: struct.Struct) -> tuple[Any, ...]:
        """Read fixed fields."""
        if self.at + layout.size > len(self.data):
            raise self._truncated()
        fields = layout.unpack_from(self.data, self.at)
        self.at += layout.size
        return fields

    def u16(self) -> int:
        """Read 16 bits."""
        return int.from_bytes(self.take(2), "big")

    def take(self, size: int) -> bytes:
        """Read ``size`` bytes."""
        start, self.at = self.at, self.at + size
        if self.at > len(self.data):
            raise self._truncated()
        return self.data[start : self.at]

    def sized(self, limit: int) -> bytes:
        """Read a TPM2B of at most ``limit`` bytes."""
        start = self.at + 2
        size = int.from_bytes(self.data[self.at : start], "big")
        self.at = start + size
        if self.at > len(self.data):
            raise self._truncated()
        if size > limit:
            raise self.error(f"a field of {size} bytes, at most {limit} are possible")
        return self.data[start : self.at]

    def finish(self) -> None:
        """Require that nothing is left."""
        if self.at != len(self.data):
            raise self.error(f"{len(self.data) - self.at} bytes follow it")

    def error(self, what: str) -> EvidenceError:
        """Return the error that says what is wrong with this structure."""
        return EvidenceError(f"{self._what}: {what}", check=self.check)

    def _truncated(self) -> EvidenceError:
        return self.error(f"it ends early, after {len(self.data)} bytes")
