# SPDX-License-Identifier: Apache-2.0
"""What shim brings along and measures: its vendor's key, its vendor's list of what is revoked, and a level of SBAT. Pure.

shim, ``cert.S``, ``sbat_var.S`` and ``mok.c``.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Final
from uuid import UUID

from cryptography.x509 import load_der_x509_certificate

from eaa.rats import InputError
from eaa.tee.pe import sections

__all__ = ["SHIM_LOCK", "Shim", "parse_shim"]

SHIM_LOCK: Final = UUID("605dab50-e046-4300-abb6-3dd810dd8b23")
_X509: Final = UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_TABLE: Final = struct.Struct("<IIII")
_LEVELS: Final = struct.Struct("<III")
_MAX_LEVEL: Final = 4096
_HINT: Final = "Give shim as a distribution signs it, shimx64.efi.signed."


@dataclass(frozen=True, slots=True)
class Shim:
    """What shim has of its vendor's; ``allowed`` and ``revoked`` are EFI_SIGNATURE_LISTs."""

    allowed: bytes
    revoked: bytes
    level: bytes
    """The level of SBAT that shim sets by itself."""


def parse_shim(image: bytes) -> Shim:
    """Return what shim brings along.

    :raises InputError: when the image is no shim, or one whose vendor's key is no single certificate.
    """
    parts = {part.name: part.content for part in sections(image)}
    table, levels = parts.get(".vendor_cert", b""), parts.get(".sbatlevel", b"")
    if len(table) < _TABLE.size or len(levels) < _LEVELS.size:
        raise InputError("this is no shim: it has no vendor's certificate, or no level of SBAT", hint=_HINT)
    size, revoked, at, revoked_at = _TABLE.unpack_from(table)
    if at + size > len(table) or revoked_at + revoked > len(table):
        raise InputError("the vendor's certificate in shim does not hold together", hint=_HINT)
    certificate = table[at : at + size]
    try:
        load_der_x509_certificate(certificate)
    except ValueError:
        raise InputError("the vendor's key in shim is no single certificate", hint=_HINT) from None
    entry = SHIM_LOCK.bytes_le + certificate
    allowed = _X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    return Shim(allowed, table[revoked_at : revoked_at + revoked], _level(levels))


def _level(levels: bytes) -> bytes:
    """Return the level of the automatic policy, which is the first of two; offsets count from behind the version."""
    version, automatic, _ = _LEVELS.unpack_from(levels)
    text, end, _ = levels[4 + automatic : 4 + automatic + _MAX_LEVEL].partition(b"\0")
    if version or not end or not text.startswith(b"sbat,"):
        raise InputError("the level of SBAT in shim does not hold together", hint=_HINT)
    return text
