# SPDX-License-Identifier: Apache-2.0
"""The attestation report that AMD's secure processor signs: read and written, exact to the byte.

Layout of ATTESTATION_REPORT, versions 2 to 5, from AMD's "SEV Secure Nested Paging Firmware ABI Specification" (56860), section
7.3; signature as in chapter 10. Integers are little-endian, and so are ``r`` and ``s``.
"""

from __future__ import annotations

import struct
from typing import Any, Final, NamedTuple

from eaa.rats import EvidenceError
from eaa.tee.snp.product import Product, Tcb, product_of_cpuid, reserved_of

__all__ = [
    "ECDSA_P384_SHA384",
    "HOST_VMPL",
    "KEY_NONE",
    "KEY_VCEK",
    "KEY_VLEK",
    "PLATFORM_BITS",
    "POLICY_BITS",
    "REPORT_SIZE",
    "SIGNED_SIZE",
    "AttestationReport",
]

REPORT_SIZE: Final = 0x4A0
SIGNED_SIZE: Final = 0x2A0
VERSIONS: Final = range(2, 6)

ECDSA_P384_SHA384: Final = 1
KEY_VCEK: Final = 0
KEY_VLEK: Final = 1
KEY_NONE: Final = 7
HOST_VMPL: Final = 0xFFFFFFFF
"""VMPL of a report that the host asked for, and not the guest."""

POLICY_SMT: Final = 1 << 16
POLICY_ONE: Final = 1 << 17
"""Reserved, must be one."""
POLICY_MIGRATE_MA: Final = 1 << 18
POLICY_DEBUG: Final = 1 << 19
POLICY_SINGLE_SOCKET: Final = 1 << 20
POLICY_PAGE_SWAP_DISABLE: Final = 1 << 25
POLICY_BITS: Final = {
    "smt_allowed": POLICY_SMT,
    "migrate_ma": POLICY_MIGRATE_MA,
    "debug_allowed": POLICY_DEBUG,
    "single_socket": POLICY_SINGLE_SOCKET,
    "cxl_allowed": 1 << 21,
    "mem_aes_256_xts": 1 << 22,
    "rapl_disabled": 1 << 23,
    "ciphertext_hiding": 1 << 24,
    "page_swap_disabled": POLICY_PAGE_SWAP_DISABLE,
}
"""The bits of the guest policy above its ABI version (56860, section 4.3)."""
_POLICY_KNOWN: Final = 0xFFFF | POLICY_ONE | sum(POLICY_BITS.values())

PLATFORM_SMT: Final = 1 << 0
PLATFORM_CIPHERTEXT_HIDING: Final = 1 << 4
PLATFORM_ALIAS_CHECK: Final = 1 << 5
PLATFORM_BITS: Final = {
    "smt_enabled": PLATFORM_SMT,
    "tsme_enabled": 1 << 1,
    "ecc_enabled": 1 << 2,
    "rapl_disabled": 1 << 3,
    "ciphertext_hiding_enabled": PLATFORM_CIPHERTEXT_HIDING,
    "alias_check_complete": PLATFORM_ALIAS_CHECK,
    "iommu_write_safe": 1 << 6,
    "tio_enabled": 1 << 7,
}
"""The bits of PLATFORM_INFO."""
_PLATFORM_KNOWN: Final = sum(PLATFORM_BITS.values())

KEY_INFO_AUTHOR: Final = 1 << 0
KEY_INFO_MASK_CHIP_KEY: Final = 1 << 1
_KEY_INFO_KNOWN: Final = 0x1F

_LAYOUT: Final = struct.Struct(
    "<IIQ16s16sII8sQII64s48s32s48s48s32s32s8sBBB21s64s8sBBBBBBBB8sQQ152s72s72s368s"
)
assert _LAYOUT.size == REPORT_SIZE


class AttestationReport(NamedTuple):
    """A report, field by field in the order of the specification.

    The four TCB versions are kept as their 8 bytes, whose layout depends on the product: see :meth:`tcb`. The CPUID fields exist
    from version 3, the two mitigation vectors from version 5; before, they are zero.
    """

    version: int
    guest_svn: int
    policy: int
    family_id: bytes
    image_id: bytes
    vmpl: int
    signature_algo: int
    current_tcb: bytes
    platform_info: int
    key_info: int
    reserved_0: int
    report_data: bytes
    measurement: bytes
    host_data: bytes
    id_key_digest: bytes
    author_key_digest: bytes
    report_id: bytes
    report_id_ma: bytes
    reported_tcb: bytes
    cpuid_family: int
    cpuid_model: int
    cpuid_stepping: int
    reserved_1: bytes
    chip_id: bytes
    committed_tcb: bytes
    current_build: int
    current_minor: int
    current_major: int
    reserved_2: int
    committed_build: int
    committed_minor: int
    committed_major: int
    reserved_3: int
    launch_tcb: bytes
    launch_mit_vector: int
    current_mit_vector: int
    reserved_4: bytes
    signature_r: bytes
    signature_s: bytes
    unsigned: bytes

    @classmethod
    def parse(cls, raw: bytes) -> AttestationReport:
        """Read exactly 1184 bytes.

        :raises EvidenceError: on any other length, an unknown version, or bytes behind the signature that nobody signed (A13).
        """
        if len(raw) != REPORT_SIZE:
            raise EvidenceError(
                f"an attestation report has {REPORT_SIZE} bytes, not {len(raw)}", check="snp.report.length"
            )
        report = cls._make(_LAYOUT.unpack(raw))
        if report.version not in VERSIONS:
            raise EvidenceError(
                f"attestation report of version {report.version}; known are 2 to 5",
                check="snp.report.version",
                hint="Send the report alone: the firmware's response to a guest begins 32 bytes before it.",
            )
        if any(report.unsigned):
            raise EvidenceError(
                "the 368 bytes behind the signature are not all zero", check="snp.report.length"
            )
        return report

    def pack(self) -> bytes:
        """Return the 1184 bytes of this report."""
        return _LAYOUT.pack(*self)

    @property
    def product(self) -> Product | None:
        """The product line by CPUID; None where it is unknown, as in version 2, which does not say."""
        return product_of_cpuid(self.cpuid_family, self.cpuid_model) if self.version >= 3 else None

    @property
    def signing_key(self) -> int:
        """Which key signed: 0 the VCEK, 1 the VLEK, 7 none; others are reserved."""
        return self.key_info >> 2 & 7

    @property
    def debug(self) -> bool:
        """Whether the guest's policy lets the host read and change its memory."""
        return bool(self.policy & POLICY_DEBUG)

    @property
    def policy_abi(self) -> tuple[int, int]:
        """The lowest firmware ABI (major, minor) that the guest accepts to run on."""
        return self.policy >> 8 & 0xFF, self.policy & 0xFF

    @property
    def firmware(self) -> tuple[int, int, int]:
        """Version of the committed firmware: major, minor, build."""
        return self.committed_major, self.committed_minor, self.committed_build

    def tcb(self, name: str, product: Product | None = None) -> Tcb:
        """Return ``current``, ``reported``, ``committed`` or ``launch``, in the layout of ``product`` or, without, of the CPUID's."""
        raw: bytes = getattr(self, f"{name}_tcb")
        return Tcb.parse(raw, product or self.product)

    def reserved_set(self, product: Product | None) -> list[str]:
        """Name every reserved field, bit or byte that is not as the specification has it; empty for a sound report."""
        found = [f"reserved_{n}" for n in range(5) if _any(self[self._fields.index(f"reserved_{n}")])]
        if unknown := self.policy & ~_POLICY_KNOWN:
            found.append(f"policy {unknown:#x}")
        if not self.policy & POLICY_ONE:
            found.append("policy bit 17 is 0")
        if unknown := self.platform_info & ~_PLATFORM_KNOWN:
            found.append(f"platform_info {unknown:#x}")
        if unknown := self.key_info & ~_KEY_INFO_KNOWN:
            found.append(f"key_info {unknown:#x}")
        if self.version < 3 and (self.cpuid_family, self.cpuid_model, self.cpuid_stepping) != (0, 0, 0):
            found.append("cpuid in version 2")
        # AMD's documents name the vectors with version 5; firmware of version 4 may fill them in, too.
        if self.version < 4 and (self.launch_mit_vector or self.current_mit_vector):
            found.append(f"mitigation vectors in version {self.version}")
        versions = ("current_tcb", "reported_tcb", "committed_tcb", "launch_tcb")
        return found + [name for name in versions if any(reserved_of(getattr(self, name), product))]

    def to_claims(self) -> dict[str, Any]:
        """Return every field that has a meaning, bytes as lower-case hex."""
        return {
            name: value.hex() if isinstance(value, bytes) else value
            for name, value in self._asdict().items()
            if not name.startswith(("reserved_", "signature_r", "signature_s", "unsigned"))
        }


def _any(value: bytes | int) -> bool:
    return any(value) if isinstance(value, bytes) else bool(value)
