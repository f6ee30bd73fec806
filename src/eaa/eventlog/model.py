# SPDX-License-Identifier: Apache-2.0
"""What an event log is, whatever it was written as: events in order, each extended into one register."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NamedTuple

from eaa.eventlog.algorithms import BY_NAME
from eaa.eventlog.authenticity import Authenticity, Finding, examine
from eaa.eventlog.types import EventType, type_name

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

__all__ = ["Event", "EventLog", "Registers", "register_index"]

_LOCALITY: Final = b"StartupLocality\0"
_RTMRS: Final = 4
_PCRS: Final = 24
_DYNAMIC_PCRS: Final = range(17, 23)


class Registers(StrEnum):
    """What the register numbers of a log mean."""

    TPM = "tpm"
    """The number of a PCR."""
    CC = "cc"
    """A confidential-computing measurement register (UEFI 2.10, 38.4.1): on TDX 0 is MRTD, 1 to 4 are RTMR 0 to 3."""

    def name_of(self, index: int) -> str:
        """Return the register's name: ``pcr07``, ``rtmr_0``, ``mr_td``; ``ccmr_9`` for one that no TEE has."""
        if self is Registers.TPM:
            return f"pcr{index:02d}"
        if index == 0:
            return "mr_td"
        return f"rtmr_{index - 1}" if index <= _RTMRS else f"ccmr_{index}"


_INDEXES: Final = {
    **{f"pcr{index:02d}": index for index in range(_PCRS)},
    **{f"rtmr_{index}": index + 1 for index in range(_RTMRS)},
}


def register_index(name: str) -> int:
    """Return the number under which a log speaks of the register ``name`` (``pcr00`` … ``pcr23``, ``rtmr_0`` … ``rtmr_3``).

    :raises ValueError: when there is no such register.
    """
    try:
        return _INDEXES[name]
    except KeyError:
        raise ValueError(f"no measurement register has the name {name!r}") from None


class Event(NamedTuple):
    """One entry of a log, none of it trusted.

    ``number`` counts from 1 in the order of the log. ``digests`` are what was extended, by algorithm name (``sha384``; ``0x1234`` for
    an algorithm that is not known here). ``data`` is what the log says was measured. ``label`` is a name that the log gives the
    event beside it, which no digest covers.
    """

    number: int
    register: int
    type: int
    digests: Mapping[str, bytes]
    data: bytes
    label: str = ""

    @property
    def type_name(self) -> str:
        """The type's name in the specification, such as ``EV_SEPARATOR``."""
        return type_name(self.type)

    @property
    def extends(self) -> bool:
        """Whether the event changed a register; EV_NO_ACTION informs only (PFP 1.06, 10.4.5)."""
        return self.type != EventType.EV_NO_ACTION

    @property
    def authenticity(self) -> Authenticity:
        """Whether the digests are those of the content that the log shows."""
        return self.finding.authenticity

    @property
    def finding(self) -> Finding:
        """As :attr:`authenticity`, with what the digest covers, in words. Computed at each call: it hashes."""
        return examine(self.type, self.data, self.digests)


@dataclass(frozen=True, slots=True)
class EventLog:
    """A parsed event log. Parsed says nothing about true: only registers that somebody signed, replayed, do.

    ``format`` is ``tcg2`` (crypto-agile), ``tcg12`` (SHA-1 only) or ``dstack``; ``algorithms`` are the banks by name.
    """

    format: str
    registers: Registers
    algorithms: tuple[str, ...]
    events: tuple[Event, ...]

    def replay(self, algorithm: str) -> dict[int, bytes]:
        """Return what the registers that the log extends end with, by their number in the log.

        :raises ValueError: when the log has no bank of that algorithm, or the algorithm is not known here.
        """
        if algorithm not in self.algorithms or algorithm not in BY_NAME:
            raise ValueError(f"the log has no bank {algorithm!r} that can be replayed")
        extend = BY_NAME[algorithm].extend
        values: dict[int, bytes] = {}
        for event in self.events:
            if event.type == EventType.EV_NO_ACTION:
                continue
            index = event.register
            value = values.get(index)
            if value is None:
                value = self.initial(index, algorithm)
            values[index] = extend(value, event.digests[algorithm])
        return values

    def initial(self, index: int, algorithm: str) -> bytes:
        """Return what a register holds before anything is extended.

        Zeros, but for PCR 0, which ends in the locality that started the TPM (PFP 1.06, 10.4.5.3; 4 with an H-CRTM), and PCRs 17
        to 22, which are all ones until a dynamic launch (TPM 2.0 PC Client Platform TPM Profile, 4.6.2).
        """
        size = BY_NAME[algorithm].size
        if self.registers is Registers.TPM:
            if index == 0:
                return self._locality().to_bytes(size, "big")
            if index in _DYNAMIC_PCRS and not any(event.register == index for event in self.extending()):
                return b"\xff" * size
        return bytes(size)

    def extending(self) -> Iterator[Event]:
        """Yield the events that changed a register."""
        return (event for event in self.events if event.type != EventType.EV_NO_ACTION)

    def name_of(self, event: Event) -> str:
        """Return the name of the register that the event speaks of."""
        return self.registers.name_of(event.register)

    def _locality(self) -> int:
        for event in self.events:
            if event.register != 0:
                continue
            if event.type == EventType.EV_EFI_HCRTM_EVENT:
                return 4
            if event.type != EventType.EV_NO_ACTION:
                return 0
            if event.data.startswith(_LOCALITY) and len(event.data) == len(_LOCALITY) + 1:
                return event.data[-1]
        return 0
