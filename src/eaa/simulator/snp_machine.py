# SPDX-License-Identifier: Apache-2.0
"""Machines with SEV-SNP: chips of the simulated maker that mint true reports."""

from __future__ import annotations

from dataclasses import dataclass, field
from hashlib import sha384
from typing import TYPE_CHECKING, Final

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA384

from eaa.rats import ConfigurationError
from eaa.simulator.fields import flipped, padded_report_data
from eaa.simulator.measure import DEFAULT_IMAGE
from eaa.simulator.pki import derive_bytes
from eaa.simulator.snp_traits import CPUIDS, TCBS, SnpMachineTraits, SnpReportTraits, platform_info
from eaa.tee.snp.product import Product, Tcb
from eaa.tee.snp.report import (
    KEY_VCEK,
    KEY_VLEK,
    PLATFORM_ALIAS_CHECK,
    PLATFORM_SMT,
    SIGNED_SIZE,
    AttestationReport,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["REGISTER_SIZES", "SnpMachine", "measure_snp"]

REGISTER_SIZES: Final = {"measurement": 48, "host_data": 32, "id_key_digest": 48, "author_key_digest": 48}
_FIRMWARE: Final = (1, 55, 58)
_VECTORS: Final = 0x0B
_NO_MIGRATION_AGENT: Final = b"\xff" * 32
_UNKNOWN_PLATFORM_BIT: Final = 1 << 40
_KEYS: Final = {"VCEK": KEY_VCEK, "VLEK": KEY_VLEK}
_NAMES: Final = {code: name for name, code in _KEYS.items()}
_SIGNATURE: Final = ec.ECDSA(SHA384(), deterministic_signing=True)


def measure_snp(image: bytes | str) -> str:
    """Return the launch measurement of a guest made of ``image``, 48 bytes in lower-case hex."""
    content = image.encode() if isinstance(image, str) else image
    return sha384(b"EAA simulated SNP guest " + content).hexdigest()


@dataclass(frozen=True)
class SnpMachine:
    """One platform. ``certificate`` is the DER of its VCEK, or of the VLEK that its cloud has loaded.

    ``report_traits`` are what every report of this machine is like.
    """

    name: str
    product: Product
    certified_product: Product
    signer: str
    chip_id: bytes
    tcb: Tcb
    certificate: bytes
    traits: SnpMachineTraits
    report_traits: SnpReportTraits
    key: ec.EllipticCurvePrivateKey = field(repr=False, compare=False)
    seed: bytes = field(repr=False)

    @property
    def named_signer(self) -> str:
        """The kind of key that its reports name, which a fault may make another than the one that signs."""
        stated = self.report_traits.signing_key
        return self.signer if stated is None else _NAMES.get(stated, self.signer)

    def report(
        self,
        report_data: bytes,
        *,
        image: bytes | str = DEFAULT_IMAGE,
        registers: Mapping[str, bytes] | None = None,
        version: int = 5,
    ) -> bytes:
        """Return a report of a guest that runs ``image``; ``registers`` (see :data:`REGISTER_SIZES`) go before what it measures to.

        :raises ConfigurationError: when this cannot be put into a report.
        """
        lowest = 3 if self.product is Product.TURIN else 2
        if not lowest <= version <= 5:
            raise ConfigurationError(f"reports of {self.product} have version {lowest} to 5, not {version}")
        traits = self.report_traits
        report = self._unsigned(
            padded_report_data(report_data, other=traits.other_report_data),
            _registers(image, registers or {}),
            version,
        )
        signed = report.pack()[:SIGNED_SIZE]
        if not traits.unsigned:
            r, s = decode_dss_signature(self.key.sign(signed, _SIGNATURE))
            s ^= traits.altered_signature
            report = report._replace(
                signature_r=r.to_bytes(72, "little"), signature_s=s.to_bytes(72, "little")
            )
        if traits.altered_report:
            report = report._replace(measurement=flipped(report.measurement))
        if traits.trailing:
            report = report._replace(unsigned=b"unsigned".ljust(368, b"\0"))
        return report.pack()

    def _unsigned(
        self, report_data: bytes, registers: Mapping[str, bytes], version: int
    ) -> AttestationReport:
        machine, traits = self.traits, self.report_traits
        family, model, stepping = CPUIDS[self.product] if version >= 3 else (0, 0, 0)
        committed = self.tcb
        current = TCBS[self.product] if machine.provisional else committed
        reported = committed
        if machine.unordered:
            committed = committed._replace(snp=committed.snp - 1)
        info = platform_info(self.product)
        info &= ~PLATFORM_ALIAS_CHECK if machine.no_alias_check else ~0
        info |= (PLATFORM_SMT if machine.smt else 0) | (_UNKNOWN_PLATFORM_BIT if traits.reserved else 0)
        signing_key = _KEYS[self.signer] if traits.signing_key is None else traits.signing_key
        masked = machine.masked_chip_id or self.signer == "VLEK"
        vectors = _VECTORS if version >= 5 else 0
        major, minor, build = _FIRMWARE
        return AttestationReport(
            version=version,
            guest_svn=0,
            policy=traits.policy,
            family_id=bytes(16),
            image_id=bytes(16),
            vmpl=traits.vmpl,
            signature_algo=traits.signature_algo,
            current_tcb=current.pack(),
            platform_info=info,
            key_info=signing_key << 2,
            reserved_0=0,
            report_data=report_data,
            measurement=registers["measurement"],
            host_data=registers["host_data"],
            id_key_digest=registers["id_key_digest"],
            author_key_digest=registers["author_key_digest"],
            report_id=derive_bytes(self.seed, "report id", 32),
            report_id_ma=_NO_MIGRATION_AGENT,
            reported_tcb=reported.pack(),
            cpuid_family=family,
            cpuid_model=model,
            cpuid_stepping=stepping,
            reserved_1=bytes(21),
            chip_id=bytes(64) if masked else self.chip_id.ljust(64, b"\0"),
            committed_tcb=committed.pack(),
            current_build=build,
            current_minor=minor,
            current_major=major,
            reserved_2=0,
            committed_build=build,
            committed_minor=minor,
            committed_major=major,
            reserved_3=0,
            launch_tcb=committed.pack(),
            launch_mit_vector=vectors,
            current_mit_vector=vectors,
            reserved_4=bytes(152),
            signature_r=bytes(72),
            signature_s=bytes(72),
            unsigned=bytes(368),
        )


def _registers(image: bytes | str, given: Mapping[str, bytes]) -> dict[str, bytes]:
    values = {name: bytes(size) for name, size in REGISTER_SIZES.items()}
    values["measurement"] = bytes.fromhex(measure_snp(image))
    for name, value in given.items():
        size = REGISTER_SIZES.get(name)
        if size is None:
            raise ConfigurationError(
                f"snp has no register {name} to set", hint=f"There are: {', '.join(REGISTER_SIZES)}."
            )
        if len(value) != size:
            raise ConfigurationError(f"{name} has {size} bytes, not {len(value)}")
        values[name] = value
    return values
