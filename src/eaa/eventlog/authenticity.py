# SPDX-License-Identifier: Apache-2.0
"""Is the text of an event what was measured? Recompute the digest where it is one of the content, and say so where it is not.

A log whose digests replay can still lie in every word beside them (attack A26). For the types whose digest is defined over the event's
own content, the digest is computed again: it matches, or the event was changed. For all others the digest is of something that
the log does not hold (a PE image, an ACPI table, a file), and what the log says about it is nobody's word but the sender's.

Each rule cites the TCG PC Client Platform Firmware Profile 1.06 (PFP) or the program that measures. ``strict`` rules are those that real
firmware keeps, so that another digest means another content; with the others a match proves the content, and its absence nothing.
"""

from __future__ import annotations

import struct
from enum import StrEnum
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.types import EventType
from eaa.eventlog.uefi import parse_variable

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.eventlog.algorithms import Algorithm

__all__ = ["AAEL_TAG", "GRUB_PREFIXES", "Authenticity", "Finding", "examine"]

AAEL_TAG: Final = 0x4141454C
"""Tag of an event of the CoCo Attestation Agent's event log, "AAEL" read as a big-endian number."""
GRUB_PREFIXES: Final = (
    b"grub_cmd: ", b"kernel_cmdline: ", b"module_cmdline: ",
    b"grub_cmd ", b"grub_kernel_cmdline ",
)  # fmt: skip
"""What GRUB (upstream, then Red Hat's) writes before a text whose digest it extends."""
_TD_SHIM_NAMES: Final = (b"td_hob\0", b"td_payload_info\0", b"td_payload_svn\0")
_TD_SHIM_HEADER: Final = struct.Struct("<16sI")
_TAG_HEADER: Final = struct.Struct("<II")


class Authenticity(StrEnum):
    """How far the content that a log shows can be believed, given that its digests replay."""

    CONTENT = "content"
    """The digests are those of this content."""
    UNAUTHENTICATED = "unauthenticated"
    """The digests are of something that is not in the log."""
    MISMATCH = "mismatch"
    """The digests should be those of this content, and are not."""


class Finding(NamedTuple):
    """Whether an event's content is what was measured, and what of it the digest covers, in words."""

    authenticity: Authenticity
    covers: str


class _Candidate(NamedTuple):
    """Bytes whose digest may have been extended, and what they are in words."""

    content: bytes
    words: str


class _Rule(NamedTuple):
    """What may have been hashed for an event, and whether nothing else can have been."""

    candidates: tuple[_Candidate, ...]
    strict: bool


_WHOLE: Final = "the whole content"
_NOT_HERE: Final = Finding(Authenticity.UNAUTHENTICATED, "the digest is of something that is not in this log")
_NO_CONTENT: Final = Finding(Authenticity.UNAUTHENTICATED, "the log shows no content")
_NOT_EXTENDED: Final = Finding(Authenticity.UNAUTHENTICATED, "not extended into any register")


def examine(number: int, data: bytes, digests: Mapping[str, bytes]) -> Finding:
    """Recompute the digests of one event of type ``number`` from its content.

    Every bank must be the digest of the same content; one bank that matches beside one that does not is a mismatch.
    """
    if number == EventType.EV_NO_ACTION:
        return _NOT_EXTENDED
    banks = _strongest_first(tuple(digests))
    rule = _RULES.get(number, _other)(data)
    if not banks or not rule.candidates:
        return _NOT_HERE
    first = banks[0]
    digest = digests[first.name]
    for candidate in rule.candidates:
        if first.digest(candidate.content) == digest:
            for bank in banks:
                if bank is not first and bank.digest(candidate.content) != digests[bank.name]:
                    return Finding(Authenticity.MISMATCH, "the banks disagree about the content")
            return Finding(Authenticity.CONTENT, candidate.words)
    if rule.strict and data:
        return Finding(Authenticity.MISMATCH, "the digest is not that of the content")
    return _NOT_HERE if data else _NO_CONTENT


@lru_cache(maxsize=64)
def _strongest_first(names: tuple[str, ...]) -> tuple[Algorithm, ...]:
    known = (BY_NAME[name] for name in names if name in BY_NAME)
    return tuple(sorted(known, key=lambda algorithm: -algorithm.size))


def _exact(data: bytes) -> _Rule:
    """PFP 10.4.1: the digest is of the event's data."""
    return _Rule((_Candidate(data, _WHOLE),), strict=True)


def _other(data: bytes) -> _Rule:
    """Types whose digest is the platform maker's choice: many hash the data."""
    return _Rule((_Candidate(data, _WHOLE),), strict=False)


def _never(data: bytes) -> _Rule:
    """Types whose digest is of a blob in memory or of a PE image (its Authenticode digest)."""
    del data
    return _Rule((), strict=False)


def _separator(data: bytes) -> _Rule:
    """PFP 10.4.1: the data; after an error the digest is that of 00000001h, whatever text explains the error."""
    error = b"\x01\0\0\0"
    if data in {bytes(4), b"\xff" * 4}:
        return _exact(data)
    return _Rule(
        (_Candidate(data, _WHOLE), _Candidate(error, "that an error occurred, not its text")), strict=True
    )


def _variable_boot(data: bytes) -> _Rule:
    """PFP 10.4.1: EV_EFI_VARIABLE_BOOT hashes the variable's data, its successor BOOT2 the whole; firmware mixes them."""
    variable = parse_variable(data)
    whole = _Candidate(data, _WHOLE)
    if variable is None:
        return _Rule((whole,), strict=True)
    return _Rule((_Candidate(variable.data, "the variable's data, not its name"), whole), strict=True)


def _variable_authority(data: bytes) -> _Rule:
    """PFP 3.3.4.8: the whole. Shim before 15.3 logs bytes beyond the variable, and hashes all of them but the last."""
    variable = parse_variable(data)
    candidates = [_Candidate(data, _WHOLE)]
    if variable is not None and variable.end < len(data):
        candidates.append(_Candidate(data[:-1], _WHOLE))
    return _Rule(tuple(candidates), strict=True)


def _ipl(data: bytes) -> _Rule:
    """GRUB hashes the text behind its prefix (Red Hat's with the final NUL); systemd's stub names of sections in ASCII."""
    for prefix in GRUB_PREFIXES:
        if data.startswith(prefix):
            text, _, _ = data[len(prefix) :].partition(b"\0")
            words = "the text behind its prefix"
            return _Rule((_Candidate(text, words), _Candidate(text + b"\0", words)), strict=True)
    candidates = [_Candidate(data, _WHOLE), _Candidate(data + b"\0", _WHOLE)]
    if data[:2] == b".\0" and len(data) % 2 == 0 and not any(data[1::2]):
        candidates.append(_Candidate(data[::2], "the section's name, not its content"))
    return _Rule(tuple(candidates), strict=False)


def _tag(data: bytes) -> _Rule:
    """PFP 10.4.2.1: a tag, a size, and text; the Attestation Agent hashes all of it, Linux and systemd what it speaks of."""
    if len(data) < _TAG_HEADER.size:
        return _other(data)
    tag, size = _TAG_HEADER.unpack_from(data)
    if tag == AAEL_TAG:
        return _exact(data)
    text = data[_TAG_HEADER.size :]
    candidates = [_Candidate(data, _WHOLE)]
    if size == len(text):
        candidates.append(_Candidate(text, "the text behind the tag"))
    return _Rule(tuple(candidates), strict=False)


def _config_flags(data: bytes) -> _Rule:
    """td-shim logs a name, a size and the measured bytes (TD Shim specification, 5.2); others what they like."""
    if data.startswith(_TD_SHIM_NAMES) and len(data) >= _TD_SHIM_HEADER.size:
        _, size = _TD_SHIM_HEADER.unpack_from(data)
        if size == len(data) - _TD_SHIM_HEADER.size:
            return _Rule(
                (_Candidate(data[_TD_SHIM_HEADER.size :], "the content behind its name"),), strict=True
            )
    return _other(data)


_RULES: Final[Mapping[int, Callable[[bytes], _Rule]]] = {
    EventType.EV_SEPARATOR: _separator,
    EventType.EV_ACTION: _exact,
    EventType.EV_EFI_ACTION: _exact,
    EventType.EV_OMIT_BOOT_DEVICE_EVENTS: _exact,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: _exact,
    EventType.EV_EFI_VARIABLE_BOOT: _variable_boot,
    EventType.EV_EFI_VARIABLE_BOOT2: _variable_boot,
    EventType.EV_EFI_VARIABLE_AUTHORITY: _variable_authority,
    EventType.EV_EFI_GPT_EVENT: _exact,
    EventType.EV_IPL: _ipl,
    EventType.EV_EVENT_TAG: _tag,
    EventType.EV_PLATFORM_CONFIG_FLAGS: _config_flags,
    EventType.DSTACK_RUNTIME_EVENT: _exact,
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: _never,
    EventType.EV_EFI_BOOT_SERVICES_DRIVER: _never,
    EventType.EV_EFI_RUNTIME_SERVICES_DRIVER: _never,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: _never,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: _never,
    EventType.EV_EFI_HANDOFF_TABLES: _never,
    EventType.EV_EFI_HANDOFF_TABLES2: _never,
    EventType.EV_EFI_HCRTM_EVENT: _never,
    EventType.EV_CPU_MICROCODE: _never,
}
"""The rule of each type; a type that is not listed is like :func:`_other`."""
