# SPDX-License-Identifier: Apache-2.0
"""Verification of Azure's confidential VMs: hardware → paravisor → vTPM → what booted.

1. the hardware's own evidence, by the rules of SEV-SNP or DCAP; its measurement covers the paravisor
2. the hardware's report data is the hash of the paravisor's runtime data, and the paravisor asked for it
3. the runtime data names the vTPM's attestation key, which is thereby anchored
4. that key signed the quote; the PCR values are those that it quotes
5. the event log that came with it, if all of that holds: it replays to the quoted PCRs, and its content is what was measured
6. evidence of version 2: the user data in the runtime data is the report data
7. the quote's extra data is the report data, uncut

The hardware's report data is not the challenge's, so its check of the binding is replaced by step 2's.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Appraisal, Check, Claims, Result, Stage
from eaa.tee.azure import rules
from eaa.tee.azure.policy import AzurePolicy
from eaa.tee.binding import REPORT_DATA
from eaa.tee.dcap import rules as dcap
from eaa.tee.dcap.verify import dcap_verifier
from eaa.tee.kind import policy_of
from eaa.tee.snp import rules as snp
from eaa.tee.snp.evidence import SnpEvidence
from eaa.tee.snp.verify import snp_verifier
from eaa.tee.tpm import rules as tpm
from eaa.tee.tpm.log import check_log
from eaa.tee.tpm.policy import TpmPolicy
from eaa.tee.tpm.public import PublicKey, load_spki
from eaa.tee.tpm.verify import check_clock, check_extra_data, check_quote, quote_facts

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from eaa.rats import Endorsements, TrustAnchor
    from eaa.tee.azure.evidence import AzureEvidence
    from eaa.tee.kind import EvidenceVerifier

__all__ = ["AzureVerifier", "azure_verifier"]

_WHOLE: Final = rules.FORMAT.passed("header, hardware report, runtime data, zeros", "nothing else")
_MADE_BY_PARAVISOR: Final = tpm.AK_ATTRIBUTES.not_applicable(
    "the paravisor made the key, and the hardware vouches for the paravisor"
)
_ANCHOR: Final = "the key in runtime data that the hardware vouches for"
_SIGNATURES: Final = (snp.SIGNATURE, dcap.SIGNATURE)


def azure_verifier(anchors: Sequence[TrustAnchor], policies: Sequence[object]) -> AzureVerifier:
    """Make the verifier of both kinds; the policies of SNP, DCAP and TPM hold for their parts."""
    return AzureVerifier(
        snp_verifier(anchors, policies),
        dcap_verifier(anchors, policies),
        policy_of(AzurePolicy, policies),
        policy_of(TpmPolicy, policies),
    )


class AzureVerifier:
    """Verifies ``az-snp-vtpm`` and ``az-tdx-vtpm`` evidence. Holds caches only, and is safe to share between threads."""

    def __init__(
        self, snp: EvidenceVerifier, dcap: EvidenceVerifier, policy: AzurePolicy, tpm_policy: TpmPolicy
    ) -> None:
        self._snp = snp
        self._dcap = dcap
        self._policy = policy
        self._tpm_policy = tpm_policy

    def verify(
        self, evidence: AzureEvidence, endorsements: Endorsements, *, at: datetime, report_data: bytes
    ) -> Appraisal:
        """Verify as of ``at`` (UTC) against the 64 bytes of report data that the challenge demands."""
        runtime, quote, part = evidence.runtime, evidence.quote, evidence.hardware
        # (1), (2) The hardware, and what it is bound to.
        verifier = self._snp if isinstance(part, SnpEvidence) else self._dcap
        hardware = verifier.verify(part, endorsements, at=at, report_data=runtime.digest)
        checks = [_WHOLE, *(_rebound(check) for check in hardware.checks)]
        checks.append(_paravisor(evidence))
        # (3) The vTPM's key is what the hardware signed for.
        checks.append(_anchored(checks))
        checks.append(_MADE_BY_PARAVISOR)
        # (4) The quote.
        key: PublicKey = load_spki(runtime.ak)
        checks += check_quote(quote, key)
        checks.append(check_clock(quote, strict=self._tpm_policy.require_safe_clock))
        checks.append(_secure_boot(runtime.configuration))
        # (5) The log of what was measured.
        checks += check_log(evidence.event_log, quote, checks)
        # (6), (7) This challenge.
        checks.append(_user_data(evidence, report_data, required=self._policy.require_user_data))
        checks.append(check_extra_data(evidence.report_data, report_data, truncated=False))
        return Appraisal(evidence, at, tuple(checks), _claims(evidence, hardware.unverified))


def _rebound(check: Check) -> Check:
    """Return the hardware's check of its report data as one of the runtime data."""
    if check.id != REPORT_DATA.id:
        return check
    return Check(rules.BINDING, check.result, check.expected, check.found)


def _paravisor(evidence: AzureEvidence) -> Check:
    """Require what keeps the guest from binding a key of its own; no policy about the hardware loosens it."""
    part = evidence.hardware
    if isinstance(part, SnpEvidence):
        return rules.PARAVISOR.holds(part.report.vmpl == 0, "VMPL 0", f"VMPL {part.report.vmpl}")
    if not evidence.td_report_data:
        return rules.TD_REPORT.not_applicable("the evidence holds no TD report")
    same = hmac.compare_digest(evidence.td_report_data, part.report_data)
    return rules.TD_REPORT.holds(same, part.report_data.hex(), evidence.td_report_data.hex())


def _anchored(checks: list[Check]) -> Check:
    """Anchor the vTPM's key where the hardware is proven to have signed for it; what else the hardware lacks, its own checks say."""
    loose = [
        check.id
        for check in checks
        if (check.result is Result.FAIL and check.rule.stage is Stage.AUTHENTICITY)
        or (check.result is Result.NOT_MADE and check.rule in _SIGNATURES)
    ]
    if loose:
        return tpm.AK_ANCHORED.not_made(_ANCHOR, f"not proven: {', '.join(loose[:3])}")
    return tpm.AK_ANCHORED.passed(_ANCHOR, "HCLAkPub")


def _secure_boot(configuration: dict[str, Any]) -> Check:
    on = configuration.get("secure-boot") is True
    return (rules.SECURE_BOOT.passed if on else rules.SECURE_BOOT.warned)("on", "on" if on else "off")


def _user_data(evidence: AzureEvidence, report_data: bytes, *, required: bool) -> Check:
    if evidence.version < 2:
        old = f"evidence of version {evidence.version} does not bind it"
        return (
            rules.USER_DATA.failed(report_data.hex(), old)
            if required
            else rules.USER_DATA.not_applicable(old)
        )
    found = evidence.runtime.user_data
    same = bool(found) and hmac.compare_digest(found.ljust(len(report_data), b"\0"), report_data)
    return rules.USER_DATA.holds(same, report_data.hex(), found.hex() or "nothing")


def _claims(evidence: AzureEvidence, hardware: Claims) -> Claims:
    return Claims(
        tee=evidence.tee,
        report_data=evidence.report_data,
        measurements=evidence.measurements,
        debug=evidence.debug,
        tcb_status=hardware.tcb_status,
        advisory_ids=hardware.advisory_ids,
        simulated=hardware.simulated,
        values={
            **hardware.values,
            "tpm": quote_facts(evidence.quote),
            "vm_configuration": evidence.runtime.configuration,
            "hardware_report_data": evidence.hardware.report_data.hex(),
        },
    )
