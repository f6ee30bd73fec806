# SPDX-License-Identifier: Apache-2.0
"""How old a TCB may be: AMD's security bulletins as far as an attestation report can show whether they are fixed.

AMD publishes no signed statement of TCB levels, so they are shipped here as dated data. :data:`MINIMUM` is what is refused by default
(attack A22); :data:`BULLETINS` are later or stricter levels, which an owner is told about. Microcode levels are the last byte of the
patch level and differ between the models and steppings of one product.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eaa.tee.snp.product import Product, Tcb

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["BULLETINS", "MINIMUM", "Bulletin", "TcbFloor", "open_bulletins"]


@dataclass(frozen=True, slots=True)
class TcbFloor:
    """The lowest TCB of a product that is accepted. ``reason`` says where it comes from, for a reader."""

    snp: int = 0
    microcode: int = 0
    bootloader: int = 0
    tee: int = 0
    fmc: int = 0
    reason: str = "the owner's policy"

    @property
    def tcb(self) -> Tcb:
        """The levels as a TCB version."""
        return Tcb(self.fmc, self.bootloader, self.tee, self.snp, self.microcode)

    def __str__(self) -> str:
        levels = {
            "fmc": self.fmc,
            "bootloader": self.bootloader,
            "tee": self.tee,
            "snp": self.snp,
            "microcode": self.microcode,
        }
        return ", ".join(f"{name} {level}" for name, level in levels.items() if level) or "any"


MINIMUM: Final[Mapping[Product, TcbFloor]] = {
    Product.MILAN: TcbFloor(snp=0x18, reason="AMD-SB-3019 of 2025-02-03"),
    Product.GENOA: TcbFloor(snp=0x17, reason="AMD-SB-3019 of 2025-02-03"),
    Product.TURIN: TcbFloor(snp=0x04, reason="AMD-SB-3020 of 2025-10-13"),
}
"""Below these, microcode that AMD did not sign can be loaded (EntrySign, CVE-2024-56161), or on Turin the reverse map table be
written while it is set up (RMPocalypse, CVE-2025-0033). Levels: TCB[SNP] in the bulletins' tables."""


@dataclass(frozen=True, slots=True)
class Bulletin:
    """One security bulletin: the levels at which it counts as fixed on one product.

    ``microcode`` is by CPUID model and stepping; parts that are not listed are judged by ``snp`` alone.
    """

    id: str
    date: str
    title: str
    product: Product
    snp: int = 0
    microcode: Mapping[tuple[int, int], int] = field(default_factory=dict)

    def fixed_in(self, tcb: Tcb, model: int, stepping: int) -> bool:
        """Whether this TCB of this part is at the bulletin's levels."""
        return tcb.snp >= self.snp and tcb.microcode >= self.microcode.get((model, stepping), 0)


_MILAN, _MILAN_X = (0x01, 1), (0x01, 2)
_GENOA, _GENOA_X, _BERGAMO_SIENA = (0x11, 1), (0x11, 2), (0xA0, 2)
_TURIN: Final = (0x02, 1)

_ENTRYSIGN: Final = ("AMD-SB-3019", "2025-02-03", "microcode signature verification (EntrySign)")
_RMPOCALYPSE: Final = ("AMD-SB-3020", "2025-10-13", "RMP initialisation (RMPocalypse)")
_STACKWARP: Final = ("AMD-SB-3027", "2026-01", "stack engine shared by SMT siblings (StackWarp)")
_IOMMU: Final = ("AMD-SB-3016", "2026-04-14", "IOMMU write buffer")
_NBIO: Final = ("AMD-SB-3030", "2026-05", "lock bits of NBIO registers")

BULLETINS: Final = (
    Bulletin(*_ENTRYSIGN, Product.MILAN, snp=0x18, microcode={_MILAN: 0xDB, _MILAN_X: 0x44}),
    Bulletin(
        *_ENTRYSIGN,
        Product.GENOA,
        snp=0x17,
        microcode={_GENOA: 0x54, _GENOA_X: 0x4F, _BERGAMO_SIENA: 0x19},
    ),
    Bulletin(*_RMPOCALYPSE, Product.GENOA, snp=0x1B, microcode={_GENOA: 0x56, _GENOA_X: 0x51}),
    Bulletin(*_RMPOCALYPSE, Product.TURIN, snp=0x04, microcode={_TURIN: 0x50}),
    Bulletin(*_STACKWARP, Product.GENOA, microcode={_GENOA: 0x56, _GENOA_X: 0x51}),
    Bulletin(*_STACKWARP, Product.TURIN, microcode={_TURIN: 0x51}),
    Bulletin(*_IOMMU, Product.MILAN, snp=0x1B),
    Bulletin(*_IOMMU, Product.GENOA, snp=0x1B),
    Bulletin(*_NBIO, Product.MILAN, snp=0x1D),
)
"""Bulletins whose fix the TCB shows, oldest first."""


def open_bulletins(product: Product, tcb: Tcb, model: int, stepping: int) -> tuple[Bulletin, ...]:
    """Return the bulletins that ``tcb`` does not show to be fixed."""
    return tuple(
        each for each in BULLETINS if each.product is product and not each.fixed_in(tcb, model, stepping)
    )
