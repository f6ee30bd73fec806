# SPDX-License-Identifier: Apache-2.0
"""The Attestation Agent's driver for machines of the simulated chip maker (entry point ``eaa.attesters``, ``simulator``)."""

from __future__ import annotations

from base64 import b64encode
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.simulator.amd import AmdChipMaker
from eaa.simulator.booted import BOOT_SETTINGS, boot_guest
from eaa.simulator.faults import combine
from eaa.simulator.measure import DEFAULT_IMAGE, init_data_digest
from eaa.simulator.mint import DEFAULT_MACHINE, LAUNCH_FIELDS, REGISTERS, mint_quote, require_applicable
from eaa.simulator.snp_faults import combine_snp
from eaa.simulator.snp_machine import REGISTER_SIZES
from eaa.simulator.snp_mint import delivered_evidence
from eaa.simulator.vendor import ChipMaker

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

__all__ = ["SimulatedAttester"]

_ALL_REGISTERS: Final = (
    *(name for names in REGISTERS.values() for name in names),
    *LAUNCH_FIELDS.values(),
    *REGISTER_SIZES,
)
_KNOWN: Final = (
    "vendor",
    "tee",
    "image",
    "machine",
    "faults",
    "quote_version",
    "init_data_file",
    *BOOT_SETTINGS,
    *_ALL_REGISTERS,
)
_LAUNCH: Final = {
    "tdx": (LAUNCH_FIELDS["tdx"], 48),
    "sgx": (LAUNCH_FIELDS["sgx"], 64),
    "snp": ("host_data", REGISTER_SIZES["host_data"]),
}
"""The field that carries the digest of init-data, and its size."""


class SimulatedAttester:
    """A guest on a simulated machine.

    Settings: ``vendor`` (required: folder of the chip maker, or Verdictd's data folder), ``tee`` (``tdx``, the default, ``sgx`` or
    ``snp``), ``image`` (words that the guest is made of), or for ``tdx`` what it is booted from: ``firmware``, ``kernel``, ``initrd``
    (files), ``cmdline``, ``memory``, ``acpi`` (see :mod:`eaa.simulator.booted`; evidence then has the event log), registers such as
    ``mr_td`` in hex (they go before the image), ``machine`` (a name), ``faults`` (names, as a list or separated by commas),
    ``quote_version`` (of SNP the report's), ``init_data_file`` (what the host launched the guest with: its digest is in the evidence).
    """

    def __init__(self, settings: Mapping[str, Any]) -> None:
        """Load the chip maker and set the machine up.

        :raises ConfigurationError: when a setting is unknown, missing or cannot be used.
        """
        unknown = sorted(set(settings) - set(_KNOWN))
        if unknown:
            raise ConfigurationError(
                f"the simulated attester has no setting {unknown[0]!r}", hint=f"It has: {', '.join(_KNOWN)}."
            )
        self._tee = _text(settings, "tee", "tdx")
        names = settings.get("faults", ())
        names = names.split(",") if isinstance(names, str) else names
        if not isinstance(names, list | tuple) or not all(isinstance(name, str) for name in names):
            raise ConfigurationError("faults is not a list of names")
        faults = _in_evidence([name.strip() for name in names if name.strip()], self._tee)
        vendor = _text(settings, "vendor", "")
        if not vendor:
            raise ConfigurationError(
                "the simulated attester needs the setting vendor",
                hint="Name the folder of a chip maker, or the data folder of a Verdictd that runs with --simulator.",
            )
        self._image = _text(settings, "image", DEFAULT_IMAGE)
        booted = {name: _text(settings, name, "") for name in BOOT_SETTINGS if name in settings}
        guest = boot_guest(booted) if booted else None
        if guest is not None and self._tee != "tdx":
            raise ConfigurationError(
                f"only a simulated TD is booted from files, no {self._tee} guest", hint='Set tee = "tdx".'
            )
        self._event_log = b64encode(guest.event_log).decode() if guest is not None else None
        self._registers = dict(guest.registers) if guest is not None else {}
        self._registers |= {name: _register(settings, name) for name in _ALL_REGISTERS if name in settings}
        if "init_data_file" in settings:
            field, size = _LAUNCH[self._tee]
            self._registers[field] = _launched_with(_text(settings, "init_data_file", ""), size)
        self._version = _version(settings)
        machine = _text(settings, "machine", DEFAULT_MACHINE)
        self._collect = (self._snp if self._tee == "snp" else self._dcap)(vendor, machine, faults)
        # What cannot be minted shall come to light now and not at the first challenge.
        self._collect(bytes(64))

    @property
    def tee(self) -> str:
        """``tdx``, ``sgx`` or ``snp``."""
        return self._tee

    async def collect(self, report_data: bytes) -> dict[str, Any]:
        """Return a quote or report for up to 64 bytes of report data, as evidence JSON of the CoCo guest components.

        :raises ConfigurationError: when there are more bytes.
        """
        return self._collect(report_data)

    def _dcap(self, vendor: str, name: str, faults: tuple[str, ...]) -> Callable[[bytes], dict[str, Any]]:
        machine = ChipMaker.load(vendor).machine(name, faults=faults)

        def collect(report_data: bytes) -> dict[str, Any]:
            minted = mint_quote(
                machine,
                self._tee,
                report_data,
                image=self._image,
                registers=self._registers,
                version=self._version,
            )
            quote = b64encode(minted).decode()
            return (
                {"cc_eventlog": self._event_log, "quote": quote} if self._tee == "tdx" else {"quote": quote}
            )

        return collect

    def _snp(self, vendor: str, name: str, faults: tuple[str, ...]) -> Callable[[bytes], dict[str, Any]]:
        maker = AmdChipMaker.load(vendor)
        machine = maker.machine(name, faults=faults)

        def collect(report_data: bytes) -> dict[str, Any]:
            version = 5 if self._version is None else self._version
            report = machine.report(
                report_data, image=self._image, registers=self._registers, version=version
            )
            return delivered_evidence(maker, machine, report)

        return collect


def _in_evidence(names: Iterable[str], tee: str) -> tuple[str, ...]:
    """Return the names of faults, all of which exist for ``tee`` and can be in evidence."""
    faults = combine_snp(names) if tee == "snp" else require_applicable(combine(names), tee)
    elsewhere = [fault.name for fault in faults.faults if not fault.in_evidence]
    if elsewhere:
        raise ConfigurationError(
            f"an attester cannot have the fault {elsewhere[0]}, which is in the collateral",
            hint="`eaa sim` mints evidence together with such collateral.",
        )
    return faults.names


def _text(settings: Mapping[str, Any], name: str, default: str) -> str:
    value = settings.get(name, default)
    if hasattr(value, "__fspath__"):
        value = str(value)
    if not isinstance(value, str):
        raise ConfigurationError(f"{name} is a {type(value).__name__}, expected text")
    return value


def _register(settings: Mapping[str, Any], name: str) -> bytes:
    try:
        return bytes.fromhex(_text(settings, name, ""))
    except ValueError as error:
        raise ConfigurationError(f"{name} is not hex") from error


def _launched_with(file: str, size: int) -> bytes:
    try:
        return init_data_digest(Path(file).read_bytes(), size)
    except OSError as error:
        raise ConfigurationError(f"cannot read the init-data {file}: {error.strerror}") from error


def _version(settings: Mapping[str, Any]) -> int | None:
    value = settings.get("quote_version")
    if value is None or (isinstance(value, int) and not isinstance(value, bool)):
        return value
    if isinstance(value, str) and value.isdecimal():
        return int(value[:4])
    raise ConfigurationError("quote_version is not a number")
