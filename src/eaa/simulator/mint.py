# SPDX-License-Identifier: Apache-2.0
"""A whole case at once: a quote, its collateral, the root, and what a verifier must say."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import ConfigurationError
from eaa.simulator.faults import combine
from eaa.simulator.measure import DEFAULT_IMAGE, measure
from eaa.tee.registry import parse_evidence

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from eaa.rats import Endorsements, TrustAnchor
    from eaa.simulator.faults import Combination
    from eaa.simulator.machine import Machine
    from eaa.simulator.vendor import ChipMaker

__all__ = [
    "DEFAULT_MACHINE",
    "LAUNCH_FIELDS",
    "REGISTERS",
    "Minted",
    "mint",
    "mint_quote",
    "require_applicable",
]

DEFAULT_MACHINE: Final = "machine-1"
REGISTERS: Final = {
    "tdx": ("mr_td", "rtmr_0", "rtmr_1", "rtmr_2", "rtmr_3"),
    "sgx": ("mr_enclave", "mr_signer"),
}
"""The registers that an image determines, by kind of TEE."""
LAUNCH_FIELDS: Final = {"tdx": "mr_config_id", "sgx": "config_id"}
"""The field that the host sets at launch and that carries the digest of init-data, by kind of TEE; zero unless it is given."""


@dataclass(frozen=True, slots=True)
class Minted:
    """One case. ``report_data`` is the 64 bytes that the verifier asked for, which a fault may keep out of the quote."""

    tee: str
    quote: bytes
    endorsements: Endorsements
    root_der: bytes
    trust_anchor: TrustAnchor
    report_data: bytes
    at: datetime
    faults: Combination

    @property
    def expected(self) -> dict[str, Any]:
        """What a verifier must find, as plain JSON values.

        ``valid`` speaks of cryptography, collateral and a known TCB level, ``accepted`` also of the default policy and the
        binding. ``failed_checks`` are ids of checks that must fail or cannot be made; others may follow from them.
        ``tcb_status`` is null where no verifier can establish one; ``advisory_ids`` are those of the platform's levels.
        """
        faults = self.faults
        shown = parse_evidence(self.quote.removesuffix(faults.quote.trailing), tee=self.tee)
        checks = faults.checks_of(self.tee)
        return {
            "valid": faults.valid,
            "accepted": not checks,
            "tcb_status": faults.tcb_status,
            "advisory_ids": list(faults.advisory_ids),
            "debug": shown.debug,
            "measurements": {name: shown.measurements[name] for name in REGISTERS[self.tee]},
            "report_data": self.report_data.hex(),
            "at": self.at.isoformat().replace("+00:00", "Z"),
            "simulated": True,
            "faults": list(faults.names),
            "failed_checks": list(checks),
        }


def mint(
    maker: ChipMaker,
    tee: str,
    report_data: bytes,
    *,
    at: datetime,
    faults: Iterable[str] = (),
    machine: str = DEFAULT_MACHINE,
    ca: str = "platform",
    image: bytes | str = DEFAULT_IMAGE,
    registers: Mapping[str, bytes] | None = None,
    version: int | None = None,
) -> Minted:
    """Mint a quote of ``sgx`` or ``tdx`` for up to 64 bytes of report data, with the collateral to verify it ``at`` a time.

    ``registers`` (see :data:`REGISTERS` and :data:`LAUNCH_FIELDS`) go before what ``image`` measures to; ``version`` is that of the quote.

    :raises ConfigurationError: when this cannot be minted, for instance as a fault does not exist for this TEE.
    """
    faults = tuple(faults)
    combination = require_applicable(combine(faults), tee)
    device = maker.machine(machine, ca=ca, faults=faults)
    return Minted(
        tee=tee,
        quote=mint_quote(device, tee, report_data, image=image, registers=registers, version=version),
        endorsements=maker.collateral(tee, at, ca=ca, faults=faults),
        root_der=maker.root_der,
        trust_anchor=maker.trust_anchor(),
        report_data=report_data.ljust(64, b"\0"),
        at=at,
        faults=combination,
    )


def mint_quote(
    machine: Machine,
    tee: str,
    report_data: bytes,
    *,
    image: bytes | str = DEFAULT_IMAGE,
    registers: Mapping[str, bytes] | None = None,
    version: int | None = None,
) -> bytes:
    """Return a quote of a guest (``tdx``) or an enclave (``sgx``) that runs ``image`` on ``machine``.

    :raises ConfigurationError: when a register or the version does not fit.
    """
    given = dict(registers or {})
    known = (*REGISTERS[tee], LAUNCH_FIELDS[tee])
    unknown = sorted(set(given) - set(known))
    if unknown:
        raise ConfigurationError(
            f"{tee} has no register {unknown[0]} to set", hint=f"There are: {', '.join(known)}."
        )
    launched = given.get(LAUNCH_FIELDS[tee])
    measured = measure(image)
    values = {name: given.get(name, bytes.fromhex(measured[name])) for name in REGISTERS[tee]}
    if tee == "sgx":
        mr_enclave, mr_signer = values.values()
        version = 3 if version is None else version
        return machine.quote_sgx(
            report_data, mr_enclave=mr_enclave, mr_signer=mr_signer, config_id=launched, version=version
        )
    mr_td, *rtmrs = values.values()
    return machine.quote_tdx(report_data, mr_td=mr_td, rtmrs=rtmrs, mr_config_id=launched, version=version)


def require_applicable(faults: Combination, tee: str) -> Combination:
    """Return ``faults`` if all of them exist for ``tee``.

    :raises ConfigurationError: when there is no such TEE, or one of them does not exist for it.
    """
    if tee not in REGISTERS:
        raise ConfigurationError(f"no TEE {tee!r} is simulated", hint=f"There are: {', '.join(REGISTERS)}.")
    for fault in faults.faults:
        if tee not in fault.tees:
            raise ConfigurationError(
                f"the fault {fault.name} exists for {', '.join(fault.tees)} only, not for {tee}"
            )
    return faults
