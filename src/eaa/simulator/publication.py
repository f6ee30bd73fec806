# SPDX-License-Identifier: Apache-2.0
"""What the chip maker has published at a time: a pure function of the chip maker, the timeline and that time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final, Literal

from eaa.simulator import collateral
from eaa.simulator.machine import qe_signer
from eaa.simulator.releases import releases

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from eaa.simulator.collateral import TcbLevel
    from eaa.simulator.machine import Machine
    from eaa.simulator.releases import Release
    from eaa.simulator.timeline import Revocation, Timeline
    from eaa.simulator.vendor import ChipMaker

__all__ = ["PckCertificate", "Publication", "Signed", "issued_at"]

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_PCE_ID: Final = bytes(2)


@dataclass(frozen=True, slots=True)
class Signed:
    """Something published: the body as PCS sends it, or a CRL's DER, and the issuer chain in PEM if there is one."""

    body: bytes
    issuer_chain: bytes = b""


@dataclass(frozen=True, slots=True)
class PckCertificate:
    """A PCK certificate of ``machine`` for one TCB level; ``chain`` is PEM: the certificate, its CA, the root."""

    machine: Machine
    level: TcbLevel

    @property
    def certificate(self) -> bytes:
        """The certificate alone, in PEM."""
        return self._split[0]

    @property
    def issuer_chain(self) -> bytes:
        """The CA and the root, in PEM."""
        return self._split[1]

    @property
    def tcbm(self) -> str:
        """The SVNs that the certificate is for: CPUSVN (16 bytes), then PCESVN (2 bytes, little-endian), in hex."""
        return (self.level.sgx_svns + self.level.pce_svn.to_bytes(2, "little")).hex()

    @property
    def _split(self) -> tuple[bytes, bytes]:
        end = b"-----END CERTIFICATE-----\n"
        certificate, _, rest = self.machine.pck_chain.partition(end)
        return certificate + end, rest


class Publication:
    """What ``maker`` publishes as ``timeline`` goes on. Safe to share between threads, as its chip maker is."""

    def __init__(self, maker: ChipMaker, timeline: Timeline, *, known_to: ChipMaker | None = None) -> None:
        """Publish for ``maker``; its platforms are looked up as those of ``known_to``, by default its own."""
        self._maker = maker
        self._known_to = known_to or maker
        self._timeline = timeline
        self._releases = releases(timeline)

    @cached_property
    def impostor(self) -> Publication:
        """The same, of somebody who uses the same names but has other keys."""
        return Publication(self._maker.impostor, self._timeline, known_to=self._maker)

    @property
    def fmspcs(self) -> dict[str, bytes]:
        """The families of platforms by the CA that certifies them."""
        return self._maker.fmspcs

    @property
    def other_fmspc(self) -> bytes:
        """A family that no machine is of."""
        return self._maker.other_fmspc

    def release(self, at: datetime, wanted: Literal["early", "standard"] | int) -> Release | None:
        """Return the release of that channel or evaluation number, if it is public at the time ``at``."""
        if isinstance(wanted, int):
            return next((each for each in self._public(at) if each.number == wanted), None)
        if wanted == "early":
            return next(self._public(at))
        return next(each for each in self._public(at) if each.standard <= at or each is self._releases[0])

    def is_gone(self, number: int) -> bool:
        """Tell whether an evaluation number is from before all that is kept."""
        return number < self._releases[0].number

    def tcb_info(self, tee: str, fmspc: bytes, release: Release, at: datetime, *, version: int = 3) -> Signed:
        """Return the TCB info for ``sgx`` or ``tdx``, in its version 3 or (``sgx`` only) 2."""
        common: dict[str, Any] = {
            **self._window(at, release.event, release.standard),
            "fmspc": fmspc,
            "pce_id": _PCE_ID,
            "evaluation": release.number,
            "levels": release.levels,
        }
        if version == 2:
            return Signed(*self._maker.sign("tcbInfo", collateral.tcb_info_v2(**common)))
        return Signed(
            *self._maker.sign("tcbInfo", collateral.tcb_info(tee, **common, modules=release.modules))
        )

    def identity(self, enclave: str, release: Release, at: datetime) -> Signed:
        """Return the identity of the quoting enclave of ``sgx`` or ``tdx``, or of ``qve``."""
        tee = "sgx" if enclave == "qve" else enclave
        text = collateral.qe_identity(
            tee,
            signer=qe_signer(tee),
            model=release.enclaves[enclave],
            evaluation=release.number,
            **self._window(at, release.event, release.standard),
        )
        return Signed(*self._maker.sign("enclaveIdentity", text))

    def evaluation_numbers(self, tee: str, at: datetime) -> Signed:
        """Return the list of evaluation numbers that are public, newest first."""
        public = list(self._public(at))
        numbers = [(each.number, each.event, each.levels[0].date) for each in public]
        text = collateral.evaluation_numbers(tee, **self._window(at, public[0].event), numbers=numbers)
        return Signed(*self._maker.sign("tcbEvaluationDataNumbers", text))

    def pck_crl(self, ca: str, at: datetime) -> Signed:
        """Return the CRL of a PCK CA."""
        happened = [each for each in self._timeline.revocations if each.ca == ca and each.at <= at]
        begin, end = self._window(at, *(each.at for each in happened)).values()
        serials = [serial for each in happened for serial in self._serials[each]]
        return Signed(*self._maker.pck_crl(ca, begin, end, number=_number(begin), revoked=serials))

    def root_crl(self, at: datetime) -> Signed:
        """Return the root's CRL."""
        begin = self._issued(at)
        end = begin + timedelta(days=self._timeline.publishing.root_crl_days)
        return Signed(self._maker.root_crl(begin, end, number=_number(begin)))

    def pck_certificates(
        self, at: datetime, known_by: Literal["encrypted_ppid", "platform_manifest", "qe_id"], value: bytes
    ) -> tuple[PckCertificate, ...]:
        """Return all PCK certificates of the platform that has ``value`` there, highest level first; none if unknown."""
        for platform in self._timeline.machines:
            machine = self._known_to.machine(platform.name, ca=platform.ca)
            if getattr(machine, known_by) == value:
                return tuple(
                    PckCertificate(self._certified(platform.name, platform.ca, level), level)
                    for level in _distinct(self._public(at))
                )
        return ()

    def _certified(self, name: str, ca: str, level: TcbLevel) -> Machine:
        return self._maker.machine(name, ca=ca, sgx_svns=level.sgx_svns, pce_svn=level.pce_svn)

    @cached_property
    def _serials(self) -> dict[Revocation, tuple[int, ...]]:
        levels = tuple(_distinct(self._releases))
        return {
            each: tuple(self._certified(each.machine, each.ca, level).pck_serial for level in levels)
            for each in self._timeline.revocations
        }

    def _public(self, at: datetime) -> Iterator[Release]:
        """Yield the releases that are public, newest first; the first one always was."""
        return (each for each in reversed(self._releases) if each.event <= at or each is self._releases[0])

    def _window(self, at: datetime, *events: datetime) -> dict[str, datetime]:
        issued = self._issued(at, *events)
        return {
            "issued": issued,
            "until": issued + timedelta(days=self._timeline.publishing.validity_days),
        }

    def _issued(self, at: datetime, *events: datetime) -> datetime:
        """Return when what is valid at ``at`` was issued: by the clock, or since by one of ``events``."""
        regular = issued_at(at, self._timeline.publishing.reissue_hours)
        return max((regular, *(each.astimezone(UTC) for each in events if each <= at)))


def issued_at(at: datetime, every_hours: int) -> datetime:
    """Return the last time, not after ``at``, at which what is issued every so many hours was issued."""
    period = timedelta(hours=every_hours)
    return _EPOCH + (at - _EPOCH) // period * period


def _distinct(known: Iterable[Release]) -> Iterator[TcbLevel]:
    """Yield the SVNs that any of the releases lists, without repetition."""
    seen = set()
    for release in known:
        for level in release.levels:
            if (svns := (level.sgx_svns, level.pce_svn)) not in seen:
                seen.add(svns)
                yield level


def _number(issued: datetime) -> int:
    """Return the number of a CRL: later ones have higher ones."""
    return int(issued.timestamp())
