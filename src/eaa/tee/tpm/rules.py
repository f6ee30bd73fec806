# SPDX-License-Identifier: Apache-2.0
"""Every rule about a TPM's evidence, with its source and its remedy. The order is the order of the procedure."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from eaa.rats import Rule, Stage
from eaa.tee.binding import REPORT_DATA

TPM2: Final = "TPM 2.0 Library, Part 2: Structures"
QUOTING: Final = "TPM 2.0 Library, Part 3: Commands, TPM2_Quote"
CREDENTIALS: Final = "TPM 2.0 Library, Part 1: Architecture, section 24 (credential protection)"
EK_PROFILE: Final = "TCG EK Credential Profile for TPM 2.0"

_A, _B, _P = Stage.AUTHENTICITY, Stage.BINDING, Stage.POSTURE

_SAME_EVIDENCE: Final = "Do not trust this evidence; have the machine produce a new quote."

MAGIC: Final = Rule(
    "tpm.quote.magic",
    _A,
    "The signed structure was composed by a TPM, as a quote",
    f"{TPM2}, TPM_GENERATED and TPM_ST_ATTEST_QUOTE",
    _SAME_EVIDENCE,
)
AK_FORMAT: Final = Rule(
    "tpm.ak.format",
    _A,
    "The attestation key is a key that quotes can be signed with",
    f"{TPM2}, TPMT_PUBLIC",
    "Use an RSA key of 2048 bits or more, or one on NIST P-256, P-384 or P-521.",
)
AK_ANCHORED: Final = Rule(
    "tpm.ak.anchored",
    _A,
    "The attestation key is known to live in a TPM that the owner trusts",
    CREDENTIALS,
    "Enrol the machine's attestation key: credential activation against its endorsement key's certificate, a certificate of an "
    "attestation CA that you pin, or the key itself. What evidence says of its own key counts for nothing.",
)
CHAIN: Final = Rule(
    "tpm.certificate.chain",
    _A,
    "The certificate behind the attestation key leads to a pinned root, link by link",
    EK_PROFILE,
    "Pin the root of the TPM's maker in the TPM policy, and give the whole chain below it.",
)
REVOCATION: Final = Rule(
    "tpm.certificate.revocation",
    _A,
    "No certificate of that chain is revoked by its issuer",
    EK_PROFILE,
    "Give the current revocation lists that the certificates name (endorsements tpm_crl); replace a TPM whose certificate is on one.",
)
DATES: Final = Rule(
    "tpm.certificate.dates",
    _A,
    "That chain and its revocation lists are valid at this time",
    EK_PROFILE,
    "Check the verifier's clock; else get current revocation lists, or enrol the machine again with a valid certificate.",
)
AK_ATTRIBUTES: Final = Rule(
    "tpm.ak.attributes",
    _A,
    "The attestation key never leaves its TPM and signs nothing that the TPM did not compose",
    f"{TPM2}, TPMA_OBJECT",
    "Enrol a restricted signing key with fixedTPM, fixedParent and sensitiveDataOrigin, as tpm2_createak makes, by its public area.",
)
HASH: Final = Rule(
    "tpm.quote.hash",
    _P,
    "Quote and PCRs rest on a hash for which no collisions can be made",
    "NIST SP 800-131A Rev. 2: SHA-1 is disallowed for signatures",
    "Quote the SHA-256 or SHA-384 bank with an attestation key whose scheme uses SHA-256 or better.",
)
SIGNATURE: Final = Rule(
    "tpm.quote.signature", _A, "The attestation key signed exactly this quote", QUOTING, _SAME_EVIDENCE
)
PCR_SELECTION: Final = Rule(
    "tpm.quote.pcr-selection",
    _A,
    "The quote is about PCRs, and the evidence has the value of each",
    f"{TPM2}, TPML_PCR_SELECTION",
    "Quote the PCRs that the boot is measured to (sha256:0-15 at least), and send the values of all that are quoted.",
)
PCR_DIGEST: Final = Rule(
    "tpm.quote.pcr-digest",
    _A,
    "The PCR values are those that the TPM quoted",
    QUOTING,
    "Read the PCRs together with the quote: a value changed between the two, or somebody changed it in the evidence.",
)
CLOCK_SAFE: Final = Rule(
    "tpm.clock.safe",
    _P,
    "The TPM's clock has not gone back since it last told the time",
    f"{TPM2}, TPMS_CLOCK_INFO",
    "The machine lost power without an orderly shutdown. Do not rely on the quote's time; quote again after some minutes.",
)
RESET_COUNT: Final = Rule(
    "tpm.clock.reset-count",
    _P,
    "The TPM's count of resets has not gone back since its key was enrolled",
    f"{TPM2}, TPMS_CLOCK_INFO",
    "The TPM was cleared, or a virtual one was put back to an older state: find out why, then enrol the machine again.",
)
QUOTED_DATA: Final = replace(
    REPORT_DATA,
    title="The TPM quoted the report data of this very exchange",
    source=f"RFC 9334, section 10 (freshness); {TPM2}, TPMS_ATTEST.extraData",
)
"""``extraData`` is shorter than report data may be, so attesters leave out zero padding, or everything after 32 bytes."""
