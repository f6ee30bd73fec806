# SPDX-License-Identifier: Apache-2.0
"""What a machine, a quote and a set of collateral are like. The defaults are sound; a fault is a change to one of them.

SVNs are the sixteen components of Intel's TCB levels: index 0 here is component 1 there.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Literal

__all__ = [
    "SGX_SVNS",
    "TDX_SVNS",
    "CollateralTraits",
    "MachineTraits",
    "PckCrl",
    "QuoteTraits",
    "svns",
]

PckCrl = Literal["current", "missing", "stale", "altered", "of-other-ca"]


def svns(*head: int) -> bytes:
    """Return sixteen SVN components that begin with ``head``; the others are zero."""
    return bytes(head).ljust(16, b"\0")


SGX_SVNS: Final = svns(3, 3, 2, 2, 4, 1, 0, 5)
"""The SGX components of a machine that is up to date."""
TDX_SVNS: Final = svns(6, 1, 3)
"""TEE_TCB_SVN of a machine that is up to date: TDX module SVN 6 of module version 1 (``TDX_01``), microcode 3."""


@dataclass(frozen=True, slots=True)
class MachineTraits:
    """A platform: what its PCK certificate, its TDX module and its quoting enclave say."""

    impostor: bool = False
    """Made by somebody who uses the chip maker's names, but has other keys."""
    revoked: bool = False
    """It is the one platform that every PCK CRL of this chip maker lists."""
    expired_pck: bool = False
    altered_pck: bool = False
    """The PPID in its PCK certificate was changed after the chip maker's CA had signed."""
    old_root: bool = False
    """Its PCK chain carries an earlier certificate of the same root key."""
    sgx_svns: bytes = SGX_SVNS
    pce_svn: int = 13
    tdx_svns: bytes = TDX_SVNS
    """TEE_TCB_SVN: the TDX module that launched the TD."""
    tdx_svns_now: bytes | None = None
    """TEE_TCB_SVN2: the TDX module that runs now, when it is another one than at launch."""
    seam_signer: bytes = bytes(48)
    """MRSIGNERSEAM; zero is Intel's."""
    qe_signer: bytes | None = None
    """MRSIGNER of the quoting enclave, when it is not the genuine one."""
    qe_behind: int = 0
    """By how much the quoting enclave's ISVSVN is below the current one."""
    qe_debug: bool = False


@dataclass(frozen=True, slots=True)
class QuoteTraits:
    """One quote: what the guest is like, and what was done to the bytes."""

    debug: bool = False
    td15: bool = False
    """It needs the body of TDX 1.5, and thus quote version 5."""
    service_td: bytes = bytes(48)
    vendor_id: bytes | None = None
    other_report_data: bool = False
    altered_report: bool = False
    altered_signature: bool = False
    altered_qe_report: bool = False
    foreign_key: bool = False
    """Signed by a key that the quoting enclave's report does not name."""
    trailing: bytes = b""


@dataclass(frozen=True, slots=True)
class CollateralTraits:
    """One set of collateral. ``begins`` and ``ends`` are relative to the time it is asked for."""

    impostor: bool = False
    begins: timedelta = timedelta(days=-1)
    ends: timedelta = timedelta(days=29)
    evaluation: int = 18
    """tcbEvaluationDataNumber of TCB info and QE identity."""
    pck_crl: PckCrl = "current"
    revoked_intermediate: bool = False
    revoked_tcb_signer: bool = False
    altered_tcb_info: bool = False
    altered_qe_identity: bool = False
    other_fmspc: bool = False
    other_tee: bool = False
    components: int = 16
    """How many SVN components each TCB level lists."""
    old_root: bool = False
    """The chains carry an earlier certificate of the same root key."""
