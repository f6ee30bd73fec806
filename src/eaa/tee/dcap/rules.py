# SPDX-License-Identifier: Apache-2.0
"""Every rule about DCAP evidence, SGX and TDX, with its source and its remedy. The order is the order of the procedure."""

from __future__ import annotations

from typing import Final

from eaa.rats import Rule, Stage
from eaa.tee.binding import REPORT_DATA  # noqa: F401 - the last rule of the procedure

QVL: Final = "Intel SGX DCAP Quote Verification Library, Appraisal of quotes"
PCS: Final = "Intel PCS API v4"
PCK_PROFILE: Final = "Intel SGX PCK Certificate and CRL Profile Specification"
QUOTE: Final = "Intel DCAP quote format, appendix A"
TDX_ABI: Final = "Intel TDX Module ABI Reference Specification, TD_ATTRIBUTES"
SDM: Final = "Intel SDM volume 3D, SECS.ATTRIBUTES"

_A, _P = Stage.AUTHENTICITY, Stage.POSTURE

_NEW_COLLATERAL: Final = "Get current collateral for this platform from Intel PCS or your Endorser."
_SAME_EVIDENCE: Final = "Do not trust this evidence; have the platform produce a new quote."

VENDOR: Final = Rule(
    "dcap.quote.vendor",
    _A,
    "The quoting enclave's vendor is Intel",
    QUOTE,
    "Use a platform whose quotes come from Intel's quoting enclave.",
)
LENGTH: Final = Rule(
    "dcap.quote.length",
    _A,
    "Every byte of the quote is accounted for",
    QUOTE,
    "Send the quote exactly as the quoting library returned it.",
)
CERTIFICATION: Final = Rule(
    "dcap.quote.certification-data",
    _A,
    "The quote carries its PCK certificate chain (certification data type 5)",
    QUOTE,
    "Configure the platform's quote provider (PCCS, QPL) so that quotes carry the PCK chain instead of an encrypted PPID.",
)
PCK_CHAIN: Final = Rule(
    "dcap.pck.chain",
    _A,
    "The PCK certificate leads to a pinned root, link by link",
    PCK_PROFILE,
    "Check that the quote is from genuine hardware of a vendor you trust; a simulator's root must be configured explicitly.",
)
PCK_VALIDITY: Final = Rule(
    "dcap.pck.validity",
    _A,
    "Every certificate of the PCK chain is valid at this time",
    PCK_PROFILE,
    "Check the verifier's clock; else register the platform again to get a new PCK certificate.",
)
ROOT_CRL: Final = Rule(
    "dcap.crl.root",
    _A,
    "The root CA's revocation list is genuine",
    PCS,
    "Fetch the root CA CRL again from Intel PCS or your Endorser.",
)
ROOT_CRL_DATES: Final = Rule(
    "dcap.crl.root-dates", _A, "The root CA's revocation list is current", PCS, _NEW_COLLATERAL
)
PCK_CRL: Final = Rule(
    "dcap.crl.pck",
    _A,
    "The revocation list of the CA that issued the PCK certificate is genuine",
    PCS,
    "Fetch the PCK CRL of the right CA (processor or platform) from Intel PCS or your Endorser.",
)
PCK_CRL_DATES: Final = Rule(
    "dcap.crl.pck-dates", _A, "The PCK revocation list is current", PCS, _NEW_COLLATERAL
)
CA_REVOCATION: Final = Rule(
    "dcap.pck.ca-revocation",
    _A,
    "The PCK CA is not revoked by the root",
    QVL,
    "Do not trust platforms of this CA; follow Intel's advisory for its replacement.",
)
PCK_REVOCATION: Final = Rule(
    "dcap.pck.revocation",
    _A,
    "The platform's PCK certificate is not revoked",
    QVL,
    "Take this platform out of service: its attestation key hierarchy is compromised or withdrawn.",
)
TCB_INFO_CHAIN: Final = Rule(
    "dcap.tcb-info.chain", _A, "TCB info is signed below a pinned root", QVL, _NEW_COLLATERAL
)
TCB_INFO_REVOCATION: Final = Rule(
    "dcap.tcb-info.revocation", _A, "The TCB info's signer is not revoked", QVL, _NEW_COLLATERAL
)
TCB_INFO_SIGNATURE: Final = Rule(
    "dcap.tcb-info.signature", _A, "TCB info is exactly what Intel signed", QVL, _NEW_COLLATERAL
)
TCB_INFO_FORMAT: Final = Rule(
    "dcap.tcb-info.format", _A, "TCB info is complete and well-formed", PCS, _NEW_COLLATERAL
)
TCB_INFO_DATES: Final = Rule("dcap.tcb-info.dates", _A, "TCB info is current", QVL, _NEW_COLLATERAL)
TCB_INFO_TEE: Final = Rule(
    "dcap.tcb-info.tee",
    _A,
    "TCB info speaks of this kind of TEE",
    QVL,
    "Get TCB info for this TEE: /sgx/… for SGX, /tdx/… for TDX.",
)
TCB_INFO_FMSPC: Final = Rule(
    "dcap.tcb-info.fmspc",
    _A,
    "TCB info speaks of this family of platforms",
    QVL,
    "Get TCB info for the FMSPC that the PCK certificate names.",
)
TCB_INFO_PCE: Final = Rule(
    "dcap.tcb-info.pce-id",
    _A,
    "TCB info speaks of this provisioning certification enclave",
    QVL,
    "Get TCB info for the PCE id that the PCK certificate names.",
)
TCB_EVALUATION: Final = Rule(
    "dcap.tcb.evaluation-number",
    _P,
    "The collateral is of a TCB evaluation that is recent enough",
    "Owner's acceptance policy; Intel PCS tcbEvaluationDataNumber",
    "Refresh the collateral (update=standard or early), or lower the required evaluation number on purpose.",
)
QE_IDENTITY_CHAIN: Final = Rule(
    "dcap.qe-identity.chain", _A, "The QE identity is signed below a pinned root", QVL, _NEW_COLLATERAL
)
QE_IDENTITY_REVOCATION: Final = Rule(
    "dcap.qe-identity.revocation", _A, "The QE identity's signer is not revoked", QVL, _NEW_COLLATERAL
)
QE_IDENTITY_SIGNATURE: Final = Rule(
    "dcap.qe-identity.signature", _A, "The QE identity is exactly what Intel signed", QVL, _NEW_COLLATERAL
)
QE_IDENTITY_FORMAT: Final = Rule(
    "dcap.qe-identity.format", _A, "The QE identity is complete and well-formed", PCS, _NEW_COLLATERAL
)
QE_IDENTITY_DATES: Final = Rule(
    "dcap.qe-identity.dates", _A, "The QE identity is current", QVL, _NEW_COLLATERAL
)
QE_IDENTITY_TEE: Final = Rule(
    "dcap.qe-identity.tee",
    _A,
    "The QE identity is of the enclave that quotes this kind of TEE",
    QVL,
    "Get the QE identity for this TEE: QE for SGX, TD_QE for TDX.",
)
QE_SIGNATURE: Final = Rule(
    "dcap.qe.report-signature",
    _A,
    "The platform's PCK key signed the quoting enclave's report",
    QVL,
    _SAME_EVIDENCE,
)
QE_BINDING: Final = Rule(
    "dcap.qe.binding", _A, "The quoting enclave vouches for the attestation key", QVL, _SAME_EVIDENCE
)
QE_MRSIGNER: Final = Rule(
    "dcap.qe.mrsigner",
    _A,
    "The quoting enclave is signed by Intel",
    QVL,
    "The quote comes from an enclave that is not Intel's quoting enclave: do not trust this platform.",
)
QE_PRODUCT: Final = Rule(
    "dcap.qe.product",
    _A,
    "The quoting enclave is the right product",
    QVL,
    "Use Intel's quoting enclave for this TEE.",
)
QE_ATTRIBUTES: Final = Rule(
    "dcap.qe.attributes",
    _A,
    "The quoting enclave's attributes and MISCSELECT are as Intel states",
    QVL,
    "The quoting enclave runs in a mode (such as debug) that Intel does not allow: do not trust this platform.",
)
QE_TCB: Final = Rule(
    "dcap.qe.tcb",
    _A,
    "The quoting enclave's SVN is at a level that Intel knows",
    QVL,
    "Update the platform's DCAP software (quoting enclave).",
)
SIGNATURE: Final = Rule(
    "dcap.quote.signature", _A, "The attestation key signed exactly this quote", QVL, _SAME_EVIDENCE
)
TCB_LEVEL: Final = Rule(
    "dcap.tcb.level",
    _A,
    "The platform's SVNs reach a TCB level that Intel knows",
    QVL,
    "Update the platform's microcode and firmware: it is below every level that Intel still rates.",
)
TCB_REVOKED: Final = Rule(
    "dcap.tcb.revoked",
    _A,
    "The TCB is not revoked",
    QVL,
    "This TCB is revoked and can never be accepted: update the platform's microcode and firmware.",
)
TCB_STATUS: Final = Rule(
    "dcap.tcb.status",
    _P,
    "The TCB status is one that the owner accepts",
    "Owner's acceptance policy; status converged as in Intel's QVL",
    "Update microcode, firmware, TDX module and quoting enclave as the advisories say, or accept this status on purpose.",
)
ADVISORIES: Final = Rule(
    "dcap.tcb.advisories",
    _P,
    "The security advisories that apply to this TCB are known to the owner",
    "Intel PCS advisoryIDs",
    "Read the advisories; some are mitigated in software, others need an update of the platform.",
)
PLATFORM_ALLOWED: Final = Rule(
    "dcap.platform.allowed",
    _P,
    "The platform is one that the owner lists",
    "Owner's acceptance policy; PPID and platform instance id in the PCK certificate",
    "Run the workload on a listed platform, or add this one's PPID or instance id to the list on purpose.",
)
TDX_MODULE: Final = Rule(
    "tdx.module.identity",
    _A,
    "The TDX module is one that Intel lists",
    QVL,
    "Update the platform's TDX (SEAM) module, or the collateral if the module is newer than it.",
)
TDX_MODULE_SIGNER: Final = Rule(
    "tdx.module.signer",
    _A,
    "The TDX module is signed by who should have signed it",
    QVL,
    "Do not trust this platform: its TDX module is not Intel's.",
)
TDX_MODULE_ATTRIBUTES: Final = Rule(
    "tdx.module.attributes",
    _A,
    "The TDX module's SEAM attributes are as Intel states",
    QVL,
    "Do not trust this platform: its TDX module runs in a mode (such as debug) that Intel does not allow.",
)
TDX_MODULE_TCB: Final = Rule(
    "tdx.module.tcb",
    _A,
    "The TDX module's SVN is at a level that Intel knows",
    QVL,
    "Update the platform's TDX (SEAM) module.",
)
TDX_RESERVED: Final = Rule(
    "tdx.td.reserved",
    _P,
    "Reserved TD attributes are zero",
    TDX_ABI,
    "Update EAA if Intel has given these bits a meaning; until then such a TD is refused.",
)
TDX_DEBUG: Final = Rule(
    "tdx.td.debug",
    _P,
    "The TD cannot be debugged from outside",
    TDX_ABI,
    "Launch the TD without debug (attributes bit 0): the host can read a debug TD's memory.",
)
TDX_SEPT_VE: Final = Rule(
    "tdx.td.sept-ve-disable",
    _P,
    "The host cannot inject #VE by unmapping pages (SEPT_VE_DISABLE)",
    TDX_ABI,
    "Launch the TD with SEPT_VE_DISABLE=1 (the default of current QEMU).",
)
TDX_PERFMON: Final = Rule(
    "tdx.td.perfmon",
    _P,
    "The TD does not expose performance counters",
    TDX_ABI,
    "Launch the TD without PERFMON unless the workload needs it: counters widen side channels.",
)
TDX_MIGRATABLE: Final = Rule(
    "tdx.td.migratable",
    _P,
    "The TD cannot be migrated to another platform",
    TDX_ABI,
    "Launch the TD without MIGRATABLE, or allow its migration TD on purpose.",
)
TDX_SERVICE_TD: Final = Rule(
    "tdx.td.service-td",
    _P,
    "No service TD is bound, or one that the owner allows",
    "Intel TDX 1.5 TD report, MRSERVICETD",
    "Launch the TD without a service TD, or add its MRSERVICETD to the owner's allow-list on purpose.",
)
SGX_RESERVED: Final = Rule(
    "sgx.report.reserved",
    _P,
    "Reserved fields of the enclave report are zero",
    "Intel SDM volume 3D, REPORT",
    "Update EAA if Intel has given these fields a meaning; until then such a report is refused.",
)
SGX_INIT: Final = Rule(
    "sgx.enclave.initialised",
    _A,
    "The enclave was initialised",
    SDM,
    "Do not trust this report: no running enclave has INIT=0.",
)
SGX_DEBUG: Final = Rule(
    "sgx.enclave.debug",
    _P,
    "The enclave cannot be debugged from outside",
    SDM,
    "Build and launch the enclave without debug: the host can read a debug enclave's memory.",
)
RULES: Final[tuple[Rule, ...]] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
"""All of them, in order."""
