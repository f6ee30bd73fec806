# SPDX-License-Identifier: Apache-2.0
"""Every rule about SEV-SNP evidence, with its source and its remedy. The order is the order of the procedure."""

from __future__ import annotations

from typing import Final

from eaa.rats import Rule, Stage

ABI: Final = "AMD SEV-SNP Firmware ABI Specification (56860)"
KDS: Final = "AMD VCEK Certificate and KDS Interface Specification (57230)"
OWNER: Final = "Owner's acceptance policy"

_A, _P = Stage.AUTHENTICITY, Stage.POSTURE

_SAME_EVIDENCE: Final = "Do not trust this evidence; have the guest request a new report."
_NEW_VCEK: Final = "Get the certificate for this chip id and this reported TCB from AMD's KDS (or from your cloud, for a VLEK)."
_FIRMWARE: Final = "Update the platform's BIOS, SEV firmware and microcode, and commit them (SNP_COMMIT)."

ALGORITHM: Final = Rule(
    "snp.report.algorithm",
    _A,
    "The report is signed with ECDSA P-384 and SHA-384",
    f"{ABI}, chapter 10",
    "Update EAA if AMD has defined another algorithm; until then such a report is refused.",
)
SIGNER: Final = Rule(
    "snp.report.signer",
    _A,
    "The report was signed by a VCEK or a VLEK, and the certificate is of that kind",
    f"{ABI}, ATTESTATION_REPORT.SIGNING_KEY",
    "Give the certificate of the key that the report names; a report without signature (MASK_CHIP_KEY) proves nothing.",
)
CHAIN: Final = Rule(
    "snp.vcek.chain",
    _A,
    "The VCEK or VLEK leads to a pinned root, link by link",
    KDS,
    "Check that the certificates are of this product, with the ASK for a VCEK and the ASVK for a VLEK; a simulator's root must be "
    "configured explicitly.",
)
VALIDITY: Final = Rule(
    "snp.vcek.validity",
    _A,
    "Every certificate of the VCEK's or VLEK's chain is valid at this time",
    KDS,
    "Check the verifier's clock; else get a new certificate: a VLEK lives one year, a VCEK seven.",
)
PRODUCT: Final = Rule(
    "snp.vcek.product",
    _A,
    "Report, certificate and root are of one product",
    f"{KDS}, productName; CPUID in the report",
    _NEW_VCEK,
)
CHIP_ID: Final = Rule(
    "snp.vcek.chip-id",
    _A,
    "The certificate is that of the chip that the report names",
    f"{KDS}, hwID",
    _NEW_VCEK,
)
VCEK_TCB: Final = Rule(
    "snp.vcek.tcb",
    _A,
    "The certified TCB is the reported one",
    f"{KDS}, SPL extensions",
    _NEW_VCEK,
)
CRL: Final = Rule(
    "snp.crl",
    _A,
    "AMD's revocation list for this product is genuine",
    KDS,
    "Fetch the product's CRL from AMD's KDS (/vcek/v1/PRODUCT/crl) or your Endorser.",
)
CRL_DATES: Final = Rule(
    "snp.crl.dates",
    _A,
    "AMD's revocation list is current",
    KDS,
    "Fetch the product's CRL again from AMD's KDS or your Endorser.",
)
REVOCATION: Final = Rule(
    "snp.vcek.revocation",
    _A,
    "The authority that issued the VCEK or VLEK is not revoked",
    f"{KDS}; AMD revokes an ASK or ASVK, as all VCEKs and VLEKs have the serial number 0",
    "Do not trust certificates of this authority; follow AMD's bulletin for its replacement.",
)
TCB_RELATIONS: Final = Rule(
    "snp.tcb.relations",
    _A,
    "The TCB versions are in order: reported ≤ committed ≤ current, launch ≤ current",
    f"{ABI}, TCB management",
    _SAME_EVIDENCE,
)
SIGNATURE: Final = Rule(
    "snp.report.signature", _A, "The chip signed exactly this report", f"{ABI}, chapter 10", _SAME_EVIDENCE
)
TCB_MINIMUM: Final = Rule(
    "snp.tcb.minimum",
    _P,
    "Reported, committed and launch TCB are at or above the minimum",
    "Shipped minimum per product from AMD's security bulletins, or the owner's",
    f"{_FIRMWARE} Then launch the guest anew.",
)
PROVISIONAL: Final = Rule(
    "snp.tcb.provisional",
    _P,
    "The platform runs on committed firmware",
    f"{ABI}, provisional firmware",
    "Have the platform commit its firmware (SNP_COMMIT): what is provisional can be rolled back and does not count.",
)
BULLETINS: Final = Rule(
    "snp.tcb.bulletins",
    _P,
    "The TCB shows every security bulletin that EAA knows of to be fixed",
    "AMD product security bulletins",
    f"{_FIRMWARE} Or read the bulletins and require a higher minimum TCB.",
)
FAMILY: Final = Rule(
    "snp.platform.family-advisory",
    _P,
    "The product is one that the owner accepts and whose keys are not known to be extractable",
    "arXiv 2605.12990 (MilanLaunchy, BadFuse); AMD-SB-3045",
    "Prefer another product; on Milan, trust single chips only (chip_ids) whose firmware history you control.",
)
CHIP_ALLOWED: Final = Rule(
    "snp.platform.chip",
    _P,
    "The chip, or the cloud whose VLEK signed, is one that the owner lists",
    OWNER,
    "Add the chip id or the CSP id to the owner's list on purpose, or move the workload to a listed machine.",
)
ALIAS_CHECK: Final = Rule(
    "snp.platform.alias-check",
    _P,
    "The platform found no memory aliases at start (BadRAM)",
    f"{ABI}, PLATFORM_INFO.ALIAS_CHECK_COMPLETE; AMD-SB-3015, CVE-2024-21944",
    "Update the platform's firmware so that it checks for memory aliases, and restart it.",
)
PLATFORM_SMT: Final = Rule(
    "snp.platform.smt",
    _P,
    "Simultaneous multi-threading is off, or the owner allows it",
    f"{ABI}, PLATFORM_INFO.SMT_EN",
    "Switch SMT off in the BIOS if siblings shared with others are a threat to you (AMD-SB-3027).",
)
CIPHERTEXT_HIDING: Final = Rule(
    "snp.platform.ciphertext-hiding",
    _P,
    "The host cannot read the guest's ciphertext",
    f"{ABI}, PLATFORM_INFO.CIPHERTEXT_HIDING_DRAM_EN",
    "Enable ciphertext hiding on the platform (Genoa and later), which closes ciphertext side channels.",
)
VMPL: Final = Rule(
    "snp.vmpl",
    _P,
    "The report was asked for at a privilege level that the owner accepts",
    f"{ABI}, ATTESTATION_REPORT.VMPL",
    "Request the report at VMPL 0; accept a higher level only for a guest under a paravisor (SVSM) that you measure.",
)
DEBUG: Final = Rule(
    "snp.policy.debug",
    _P,
    "The guest cannot be debugged from outside",
    f"{ABI}, POLICY.DEBUG",
    "Launch the guest without DEBUG in its policy: the host can read and change a debug guest's memory.",
)
MIGRATE_MA: Final = Rule(
    "snp.policy.migrate-ma",
    _P,
    "The guest cannot be given to a migration agent",
    f"{ABI}, POLICY.MIGRATE_MA",
    "Launch the guest without MIGRATE_MA in its policy, or allow it on purpose.",
)
POLICY_SMT: Final = Rule(
    "snp.policy.smt",
    _P,
    "The guest refuses to run with simultaneous multi-threading, or the owner allows it",
    f"{ABI}, POLICY.SMT",
    "Launch the guest without SMT in its policy; it then starts only where SMT is off.",
)
SINGLE_SOCKET: Final = Rule(
    "snp.policy.single-socket",
    _P,
    "The guest may be bound to one socket, if the owner asks for it",
    f"{ABI}, POLICY.SINGLE_SOCKET",
    "Launch the guest with SINGLE_SOCKET in its policy.",
)
PAGE_SWAP: Final = Rule(
    "snp.policy.page-swap",
    _P,
    "The host cannot swap the guest's pages out and back in, if the owner asks for it",
    f"{ABI}, POLICY.PAGE_SWAP_DISABLE",
    "Launch the guest with PAGE_SWAP_DISABLE in its policy, on firmware that knows the bit; its memory then stays where it is.",
)
POLICY_ABI: Final = Rule(
    "snp.policy.abi",
    _P,
    "The guest demands a firmware ABI that is recent enough",
    f"{ABI}, POLICY.ABI_MAJOR and ABI_MINOR",
    "Launch the guest with a higher ABI version in its policy.",
)
ID_KEY: Final = Rule(
    "snp.guest.id-key",
    _P,
    "The guest is signed by an id key that the owner lists",
    f"{ABI}, ID_KEY_DIGEST",
    "Launch the guest with an id block signed by a listed key, or list this key on purpose.",
)
AUTHOR_KEY: Final = Rule(
    "snp.guest.author-key",
    _P,
    "The id key is signed by an author key that the owner lists",
    f"{ABI}, AUTHOR_KEY_EN and AUTHOR_KEY_DIGEST",
    "Launch the guest with an author key that is listed, or list this key on purpose.",
)
RESERVED: Final = Rule(
    "snp.report.reserved",
    _P,
    "Reserved fields and bits are as the specification has them",
    ABI,
    "Update EAA if AMD has given these bits a meaning; until then such a report is refused.",
)

RULES: Final[tuple[Rule, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
"""All of them, in order."""
