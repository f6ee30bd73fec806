# SPDX-License-Identifier: Apache-2.0
"""What an owner accepts of an SEV-SNP guest and its platform beyond genuineness."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError
from eaa.tee.snp.minimum_tcb import MINIMUM, TcbFloor
from eaa.tee.snp.product import Product

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["SnpPolicy"]

_VMPLS: Final = frozenset(range(4))


@dataclass(frozen=True, slots=True)
class SnpPolicy:
    """An owner's conditions. The default refuses what no cloud needs and warns of what every cloud does.

    ``products`` are the product lines that are accepted at all (attack A23); ``chip_ids`` (64 or 8 bytes each), unless empty, the only
    chips (attack A24); ``csp_ids``, unless empty, the only clouds whose VLEK may sign. ``minimum_tcb`` is held against the reported, the
    committed and the launch TCB, never against firmware that is only provisional. ``vmpls`` are the privilege levels that may ask for a
    report: above 0 it may be the guest's user space (attack A19). ``minimum_abi`` is the least that the guest's policy must demand of the
    firmware's ABI. ``require_page_swap_disable`` refuses a guest whose policy leaves the host able to swap its pages out, and to observe or
    replay their ciphertext on the way. ``id_keys`` and ``author_keys`` (48 bytes each), unless empty, are the digests one of which must have signed the guest.

    There is no switch for debug: no policy accepts a guest whose policy allows it (attack A18).
    """

    products: frozenset[Product] = frozenset(Product)
    chip_ids: frozenset[bytes] = frozenset()
    csp_ids: frozenset[str] = frozenset()
    minimum_tcb: Mapping[Product, TcbFloor] = field(default_factory=lambda: MINIMUM, hash=False)
    allow_provisional_firmware: bool = True
    vmpls: frozenset[int] = frozenset({0})
    minimum_abi: tuple[int, int] = (0, 0)
    allow_smt: bool = True
    allow_migrate_ma: bool = False
    require_single_socket: bool = False
    require_page_swap_disable: bool = False
    require_alias_check: bool = True
    require_ciphertext_hiding: bool = False
    id_keys: frozenset[bytes] = frozenset()
    author_keys: frozenset[bytes] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.vmpls - _VMPLS:
            raise ConfigurationError(f"no VMPL {min(unknown)}: there are 0 to 3")
        if any(len(each) not in {8, 64} for each in self.chip_ids):
            raise ConfigurationError("a chip id has 64 bytes, from Turin on 8")
        if any(len(each) != 48 for each in self.id_keys | self.author_keys):
            raise ConfigurationError("the digest of an id key or an author key has 48 bytes")
