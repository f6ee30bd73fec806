# SPDX-License-Identifier: Apache-2.0
"""What a machine with SEV-SNP, a report and a set of collateral are like. The defaults are sound; a fault is a change to one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

from eaa.tee.snp.product import Product, Tcb
from eaa.tee.snp.report import PLATFORM_ALIAS_CHECK, PLATFORM_BITS, PLATFORM_CIPHERTEXT_HIDING, POLICY_ONE

__all__ = ["CPUIDS", "TCBS", "SnpCollateralTraits", "SnpMachineTraits", "SnpReportTraits", "platform_info"]

TCBS: Final = {
    Product.MILAN: Tcb(None, 4, 0, 0x1D, 0xDE),
    Product.GENOA: Tcb(None, 10, 0, 0x1C, 0x56),
    Product.TURIN: Tcb(1, 1, 1, 4, 0x51),
}
"""The TCB of a machine that is up to date."""
CPUIDS: Final = {
    Product.MILAN: (0x19, 0x01, 1),
    Product.GENOA: (0x19, 0x11, 1),
    Product.TURIN: (0x1A, 0x02, 1),
}

_POLICY: Final = POLICY_ONE | 1 << 8 | 51
"""No bit set but the reserved one, and ABI 1.51 or later."""


def platform_info(product: Product) -> int:
    """Return PLATFORM_INFO of a sound machine: ECC, checked for aliases, and hiding ciphertext where the product can."""
    hiding = 0 if product is Product.MILAN else PLATFORM_CIPHERTEXT_HIDING
    return PLATFORM_BITS["ecc_enabled"] | PLATFORM_ALIAS_CHECK | hiding


@dataclass(frozen=True, slots=True)
class SnpMachineTraits:
    """A platform: its firmware, and what its certificate says. SPLs are relative to the machine that is up to date."""

    impostor: bool = False
    """Made by somebody who uses the chip maker's names, but has other keys."""
    snp_behind: int = 0
    """By how much the SNP firmware's level is below the current one, in the reported, committed and launch TCB."""
    provisional: bool = False
    """Firmware that is up to date runs, but only what lies ``snp_behind`` is committed."""
    unordered: bool = False
    """The reported TCB is above the committed one."""
    certified_behind: int = 0
    """By how much the level in the certificate is below the reported one."""
    certified_chip: bool = True
    """The certificate is that of this very chip."""
    other_product: bool = False
    """The certificate is of another product, and issued below its root."""
    expired: bool = False
    altered: bool = False
    """The certificate was changed after the authority had signed."""
    no_alias_check: bool = False
    smt: bool = False
    masked_chip_id: bool = False


@dataclass(frozen=True, slots=True)
class SnpReportTraits:
    """One report: what the guest is like, and what was done to the bytes."""

    policy: int = _POLICY
    """Bits of the guest policy; those of a fault are added to the default ones."""
    vmpl: int = 0
    other_report_data: bool = False
    signing_key: int | None = None
    """What the report says of the key that signs it, when it is not the truth."""
    signature_algo: int = 1
    unsigned: bool = False
    reserved: bool = False
    """A bit of PLATFORM_INFO that has no meaning is set."""
    altered_report: bool = False
    altered_signature: bool = False
    trailing: bool = False
    """Bytes that nobody signed stand behind the signature."""


@dataclass(frozen=True, slots=True)
class SnpCollateralTraits:
    """One set of collateral. ``begins`` and ``ends`` are those of the CRL, relative to the time it is asked for."""

    begins: timedelta = timedelta(days=-1)
    ends: timedelta = timedelta(days=364)
    key: bool = True
    """The certificate of the machine's key is among it."""
    crl: Literal["current", "missing", "altered", "of-other-product"] = "current"
    revoked_authority: bool = False
    revoked_zero: bool = False
    """The CRL lists the serial number 0, which every VCEK and VLEK has."""
