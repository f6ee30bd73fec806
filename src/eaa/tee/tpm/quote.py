# SPDX-License-Identifier: Apache-2.0
"""What a TPM signs and how: TPMS_ATTEST of a quote, TPMT_SIGNATURE, and the PCR values beside them. Read and written.

Layouts from the TPM 2.0 Library, Part 2: TPMS_ATTEST (10.12.8), TPMS_CLOCK_INFO (10.11.1), TPMS_QUOTE_INFO (10.12.1),
TPML_PCR_SELECTION (10.9.7), TPMT_SIGNATURE (11.3.4).
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.tee.tpm.wire import HASHERS, Algorithm, Reader, digest_size, sized

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = [
    "MAX_PCR",
    "TPM_GENERATED",
    "Attest",
    "Clock",
    "PcrBank",
    "PcrSelection",
    "Signature",
    "TpmQuote",
    "bank_name",
    "pack_attest",
    "pack_signature",
    "parse_attest",
    "parse_signature",
    "pcr_digest",
    "register_name",
]

TPM_GENERATED: Final = 0xFF544347
ST_ATTEST_QUOTE: Final = 0x8018
MAX_ATTEST: Final = 1024
"""Far more than any quote has: 34 bytes of name, 66 of nonce, 16 banks, 64 of digest."""
MAX_PCR: Final = 24
"""PCRs of a PC client's TPM and of every vTPM in use."""
MAX_BANKS: Final = 16
"""HASH_COUNT, the longest TPML_PCR_SELECTION that an implementation has."""
_MAX_SELECT: Final = 4
_MAX_NAME: Final = 2 + 64
_MAX_DATA: Final = 2 + 64
_MAX_DIGEST: Final = 64
_MAX_RSA: Final = 512
_MAX_COORDINATE: Final = 66

_PREFIX: Final = struct.Struct(">IH")
_CLOCK: Final = struct.Struct(">QIIBQI")
_SELECTION: Final = struct.Struct(">HB")
_SCHEME: Final = struct.Struct(">HH")


class Clock(NamedTuple):
    """TPMS_CLOCK_INFO: milliseconds of powered time, how often the TPM was reset and resumed, and whether the time is sure."""

    milliseconds: int
    reset_count: int
    restart_count: int
    safe: bool


class PcrSelection(NamedTuple):
    """Which PCRs of one bank; bit ``n`` of ``mask`` selects PCR ``n``."""

    bank: int
    mask: int

    @property
    def indices(self) -> tuple[int, ...]:
        """The selected PCRs, ascending, which is the order in which they are hashed."""
        return _indices(self.mask)


@lru_cache(1024)
def _indices(mask: int) -> tuple[int, ...]:
    return tuple(index for index in range(mask.bit_length()) if mask >> index & 1)


class Attest(NamedTuple):
    """TPMS_ATTEST of a quote. ``extra_data`` is the nonce that the verifier chose."""

    qualified_signer: bytes
    extra_data: bytes
    clock: Clock
    firmware_version: int
    selections: tuple[PcrSelection, ...]
    pcr_digest: bytes


class Signature(NamedTuple):
    """TPMT_SIGNATURE: ``value`` is the RSA signature, or ``r`` and ``s`` of ECDSA, big-endian, each half of it."""

    scheme: int
    hash: int
    value: bytes


@dataclass(frozen=True, slots=True, eq=False)
class PcrBank:
    """The values of one bank, index → value, as a sender states them. A bank is equal to itself only, so that it can be a key."""

    values: Mapping[int, bytes]


class TpmQuote(NamedTuple):
    """A quote with what goes with it.

    ``message`` is exactly what was signed; ``pcrs`` is what the sender says of the registers, of which the signature vouches for the
    selected ones only.
    """

    message: bytes
    attest: Attest
    signature: Signature
    pcrs: Mapping[int, PcrBank]

    @property
    def selected(self) -> bytes | None:
        """The values of the selected PCRs one after the other, as the TPM hashes them; None when one is missing."""
        return self._quoted[0]

    @property
    def measurements(self) -> Mapping[str, str]:
        """The selected PCRs under the names of :func:`register_name`; what was not quoted is not there (attack A13)."""
        return self._quoted[1]

    @property
    def _quoted(self) -> tuple[bytes | None, Mapping[str, str]]:
        return _quoted(self.attest.selections, tuple(self.pcrs.items()))


@lru_cache(1024)
def _quoted(
    selections: tuple[PcrSelection, ...], banks: tuple[tuple[int, PcrBank], ...]
) -> tuple[bytes | None, Mapping[str, str]]:
    stated = dict(banks)
    values: list[bytes] = []
    found: dict[str, str] = {}
    wanted = 0
    for selection in selections:
        bank = stated[selection.bank].values if selection.bank in stated else {}
        wanted += len(selection.indices)
        for index in selection.indices:
            if index in bank:
                values.append(bank[index])
                found[register_name(selection.bank, index)] = bank[index].hex()
    return b"".join(values) if len(values) == wanted else None, MappingProxyType(found)


def bank_name(algorithm: int) -> str:
    """Return the name of a hash as tpm2-tools writes it: ``sha256``."""
    return Algorithm(algorithm).name.lower()


def register_name(bank: int, index: int) -> str:
    """Return ``pcr04`` for the SHA-256 bank, as Trustee names it, and ``sha384_pcr04`` for another."""
    return f"pcr{index:02}" if bank == Algorithm.SHA256 else f"{bank_name(bank)}_pcr{index:02}"


def parse_attest(message: bytes) -> Attest:
    """Read the TPMS_ATTEST of a quote, all of it.

    :raises EvidenceError: when it is no quote, malformed, or selects a bank twice; ``check`` names the rule.
    """
    reader = Reader(message, "the quote's TPMS_ATTEST", "tpm.quote.format")
    if len(message) > MAX_ATTEST:
        raise reader.error(f"{len(message)} bytes, at most {MAX_ATTEST} are read")
    magic, kind = reader.unpack(_PREFIX)
    if magic != TPM_GENERATED or kind != ST_ATTEST_QUOTE:
        reader.check = "tpm.quote.magic"
        raise reader.error(
            f"magic {magic:08x}, type {kind:04x}; a quote that a TPM made has ff544347 and 8018"
        )
    signer = reader.sized(_MAX_NAME)
    extra_data = reader.sized(_MAX_DATA)
    clock, resets, restarts, safe, firmware, count = reader.unpack(_CLOCK)
    if safe > 1:
        raise reader.error(f"clock.safe is {safe}, neither YES nor NO")
    selections = _parse_selections(reader, count)
    digest = reader.sized(_MAX_DIGEST)
    reader.finish()
    return Attest(
        signer, extra_data, Clock(clock, resets, restarts, bool(safe)), firmware, selections, digest
    )


def _parse_selections(reader: Reader, count: int) -> tuple[PcrSelection, ...]:
    reader.check = "tpm.quote.pcr-selection"
    if count > MAX_BANKS:
        raise reader.error(f"{count} PCR banks are selected, at most {MAX_BANKS} exist")
    selections: dict[int, PcrSelection] = {}
    for _ in range(count):
        bank, size = reader.unpack(_SELECTION)
        digest_size(bank, reader.check)
        if size > _MAX_SELECT:
            raise reader.error(f"a PCR selection of {size} bytes, at most {_MAX_SELECT} are possible")
        if bank in selections:
            raise reader.error(f"the {bank_name(bank)} bank is selected twice")
        selections[bank] = PcrSelection(bank, int.from_bytes(reader.take(size), "little"))
    reader.check = "tpm.quote.format"
    return tuple(selections.values())


def parse_signature(data: bytes) -> Signature:
    """Read a TPMT_SIGNATURE of RSASSA, RSAPSS or ECDSA, all of it.

    :raises EvidenceError: when it is malformed or of another scheme.
    """
    reader = Reader(data, "the quote's TPMT_SIGNATURE", "tpm.quote.signature")
    scheme, hashing = reader.unpack(_SCHEME)
    digest_size(hashing, reader.check)
    if scheme in {Algorithm.RSASSA, Algorithm.RSAPSS}:
        value = reader.sized(_MAX_RSA)
    elif scheme == Algorithm.ECDSA:
        r, s = reader.sized(_MAX_COORDINATE), reader.sized(_MAX_COORDINATE)
        half = max(len(r), len(s))
        value = r.rjust(half, b"\0") + s.rjust(half, b"\0")
    else:
        raise reader.error(f"scheme {scheme:#06x}; known are RSASSA, RSAPSS and ECDSA")
    reader.finish()
    return Signature(scheme, hashing, value)


def pcr_digest(hashing: int, values: bytes) -> bytes | None:
    """Return the digest of joined PCR values as a key with this hash quotes them (Part 3, TPM2_Quote), None for an unknown hash."""
    hasher = HASHERS.get(hashing)
    if hasher is None:
        return None
    digest: bytes = hasher(values).digest()
    return digest


def pack_attest(attest: Attest) -> bytes:
    """Return the TPMS_ATTEST; the inverse of :func:`parse_attest` for selections of three bytes."""
    clock = attest.clock
    fixed = _CLOCK.pack(*clock, attest.firmware_version, len(attest.selections))
    selections = b"".join(
        _SELECTION.pack(each.bank, 3) + each.mask.to_bytes(3, "little") for each in attest.selections
    )
    signer = sized(attest.qualified_signer)
    return (
        _PREFIX.pack(TPM_GENERATED, ST_ATTEST_QUOTE)
        + signer
        + sized(attest.extra_data)
        + fixed
        + selections
        + sized(attest.pcr_digest)
    )


def pack_signature(signature: Signature) -> bytes:
    """Return the TPMT_SIGNATURE; the inverse of :func:`parse_signature`."""
    value = signature.value
    half = len(value) // 2
    body = sized(value[:half]) + sized(value[half:]) if signature.scheme == Algorithm.ECDSA else sized(value)
    return _SCHEME.pack(signature.scheme, signature.hash) + body
