# SPDX-License-Identifier: Apache-2.0
"""AMD's product lines with SEV-SNP, and the version of a TCB, which each of them lays out in its own way."""

from __future__ import annotations

from enum import StrEnum
from typing import Final, NamedTuple

__all__ = ["TCB_SIZE", "Product", "Tcb", "product_of_cpuid", "product_of_name"]

TCB_SIZE: Final = 8


class Product(StrEnum):
    """A line of products, as AMD's key distribution service names it: each has a root of its own."""

    MILAN = "Milan"
    GENOA = "Genoa"
    """Genoa, Genoa-X, and with the same root Bergamo and Siena."""
    TURIN = "Turin"


# Family, first and last model: AMD "Processor Programming Reference"; models of one line share its root.
_MODELS: Final = (
    (0x19, 0x00, 0x0F, Product.MILAN),
    (0x19, 0x10, 0x1F, Product.GENOA),
    (0x19, 0xA0, 0xAF, Product.GENOA),
    (0x1A, 0x00, 0x11, Product.TURIN),
)


def product_of_cpuid(family: int, model: int) -> Product | None:
    """Return the product line of a CPUID family and model (extended and base combined), or None."""
    return next(
        (product for of, first, last, product in _MODELS if family == of and first <= model <= last), None
    )


def product_of_name(name: str) -> Product | None:
    """Return the product line of a name in a certificate, such as ``Milan-B0``, ``Genoa`` or ``Turin``, or None."""
    line = name.partition("-")[0]
    return next((product for product in Product if product.value == line), None)


class Tcb(NamedTuple):
    """The version of a TCB: the security patch level of each part. ``fmc`` is None for the lines before Turin."""

    fmc: int | None
    bootloader: int
    tee: int
    snp: int
    microcode: int

    @classmethod
    def parse(cls, raw: bytes, product: Product | None) -> Tcb:
        """Read the 8 bytes of a TCB_VERSION (ABI specification, section 2.2), whose layout changed with Turin."""
        if product is Product.TURIN:
            return cls(raw[0], raw[1], raw[2], raw[3], raw[7])
        return cls(None, raw[0], raw[1], raw[6], raw[7])

    def pack(self) -> bytes:
        """Return the 8 bytes, in Turin's layout if there is an ``fmc``."""
        if self.fmc is not None:
            return bytes((self.fmc, self.bootloader, self.tee, self.snp, 0, 0, 0, self.microcode))
        return bytes((self.bootloader, self.tee, 0, 0, 0, 0, self.snp, self.microcode))

    def reaches(self, least: Tcb) -> bool:
        """Whether no part is below the same part of ``least``."""
        return (
            (self.fmc or 0) >= (least.fmc or 0)
            and self.bootloader >= least.bootloader
            and self.tee >= least.tee
            and self.snp >= least.snp
            and self.microcode >= least.microcode
        )

    def __str__(self) -> str:
        parts = (f"{name} {level}" for name, level in self._asdict().items() if level is not None)
        return ", ".join(parts)


def reserved_of(raw: bytes, product: Product | None) -> bytes:
    """Return the bytes of a TCB_VERSION that have no meaning and must be zero."""
    return raw[4:7] if product is Product.TURIN else raw[2:6]
