# SPDX-License-Identifier: Apache-2.0
"""The rules that are particular to Azure's confidential VMs, with their sources and remedies."""

from __future__ import annotations

from typing import Final

from eaa.rats import Rule, Stage
from eaa.tee.azure.hcl import FORMAT as FORMAT_ID

HCL: Final = "Microsoft, Azure confidential VM guest attestation design: HCL report and runtime data"

_A, _B, _P = Stage.AUTHENTICITY, Stage.BINDING, Stage.POSTURE

FORMAT: Final = Rule(
    FORMAT_ID,
    _A,
    "The HCL report is whole, and every byte of it is accounted for",
    HCL,
    "Send the HCL report exactly as the vTPM's NV index 0x01400001 holds it.",
)
BINDING: Final = Rule(
    "az.hcl.binding",
    _A,
    "The hardware signed the hash of the paravisor's runtime data",
    f"{HCL}; all 64 bytes of report data compared",
    "Do not trust this evidence: the vTPM's key in it is not the one that the hardware vouches for.",
)
PARAVISOR: Final = Rule(
    "az.hcl.paravisor",
    _A,
    "The paravisor itself, at VMPL 0, had the hardware report made, and no software of the guest",
    f"{HCL}; AMD SEV-SNP Firmware ABI Specification, ATTESTATION_REPORT.VMPL",
    "Do not trust this evidence: the guest may have bound a key of its own.",
)
TD_REPORT: Final = Rule(
    "az.hcl.td-report",
    _A,
    "The TD report in the HCL report and the TD quote speak of the same runtime data",
    HCL,
    "Have the guest take HCL report and TD quote anew, one from the other.",
)
USER_DATA: Final = Rule(
    "az.hcl.user-data",
    _B,
    "The paravisor put the report data of this very exchange into the runtime data",
    "Evidence version 2 of CoCo's az-snp-vtpm and az-tdx-vtpm attesters",
    "Ask the guest again with the current challenge; its attester writes it to NV index 0x01400002 before it reads the HCL report.",
)
SECURE_BOOT: Final = Rule(
    "az.vm.secure-boot",
    _P,
    "The VM boots only what is signed",
    f"{HCL}, vm-configuration",
    "Enable Secure Boot for the VM, or pin every PCR of the boot: without it the host's disk decides what runs.",
)
