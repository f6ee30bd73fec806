# SPDX-License-Identifier: Apache-2.0
"""The hash algorithms of measurement registers, by TPM algorithm id (TCG Algorithm Registry, table 3)."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from cryptography.hazmat.primitives.hashes import SM3, Hash

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["ALGORITHMS", "BY_NAME", "Algorithm"]


def _of(constructor: Callable[[bytes], Any]) -> Callable[[bytes], bytes]:
    def digest(data: bytes) -> bytes:
        result: bytes = constructor(data).digest()
        return result

    return digest


def _sha1(data: bytes) -> Any:
    return hashlib.sha1(data, usedforsecurity=False)  # what firmware used; nothing here rests on it alone


def _sm3(data: bytes) -> bytes:
    state = Hash(SM3())
    state.update(data)
    return state.finalize()


class Algorithm(NamedTuple):
    """One hash algorithm: its id on the wire, our name, Trustee's name, its size in bytes, and how to compute it."""

    id: int
    name: str
    title: str
    size: int
    digest: Callable[[bytes], bytes]

    def extend(self, register: bytes, digest: bytes) -> bytes:
        """Return the register's value after ``digest`` was extended into it (TPM 2.0 Library, part 1, 17.4)."""
        return self.digest(register + digest)


ALGORITHMS: Final = {
    each.id: each
    for each in (
        Algorithm(0x0004, "sha1", "SHA-1", 20, _of(_sha1)),
        Algorithm(0x000B, "sha256", "SHA-256", 32, _of(hashlib.sha256)),
        Algorithm(0x000C, "sha384", "SHA-384", 48, _of(hashlib.sha384)),
        Algorithm(0x000D, "sha512", "SHA-512", 64, _of(hashlib.sha512)),
        Algorithm(0x0012, "sm3", "SM3", 32, _sm3),
        Algorithm(0x0027, "sha3_256", "SHA3-256", 32, _of(hashlib.sha3_256)),
        Algorithm(0x0028, "sha3_384", "SHA3-384", 48, _of(hashlib.sha3_384)),
        Algorithm(0x0029, "sha3_512", "SHA3-512", 64, _of(hashlib.sha3_512)),
    )
}
BY_NAME: Final = {each.name: each for each in ALGORITHMS.values()}
