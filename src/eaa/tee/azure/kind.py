# SPDX-License-Identifier: Apache-2.0
"""Azure's confidential VMs on SEV-SNP and on TDX, as the rest of EAA knows them."""

from __future__ import annotations

from base64 import b64encode
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Appraisal
from eaa.tee.azure.evidence import (
    AZ_SNP_VTPM,
    AZ_TDX_VTPM,
    AzureEvidence,
    azure_snp_from_kbs,
    azure_tdx_from_kbs,
    parse_azure_snp,
    parse_azure_tdx,
)
from eaa.tee.azure.verify import azure_verifier
from eaa.tee.kind import TeeClaims, TeeKind
from eaa.tee.snp.kind import KIND as SNP
from eaa.tee.tdx.kind import KIND as TDX
from eaa.tee.tpm.kind import (
    INIT_DATA_PCR,
    PCR_TITLES,
    REGISTER_SOURCE,
    boot_registers,
    extended_init_data,
)
from eaa.tee.tpm.log import log_claim

if TYPE_CHECKING:
    from collections.abc import Container

__all__ = ["AZ_SNP", "AZ_TDX"]

_PCRS: Final = {name: title for name, title in PCR_TITLES.items() if name.startswith("pcr")}
"""An Azure vTPM's evidence carries the SHA-256 bank alone."""
_SOURCE: Final = f"Microsoft, Azure confidential VM guest attestation design; {REGISTER_SOURCE}"


def _snp_required(expected: Container[str]) -> frozenset[str]:
    """Require the paravisor's measurement, and the PCRs of the boot that it does not cover (attack A28)."""
    return boot_registers(expected) | {"measurement"}


def _tdx_required(expected: Container[str]) -> frozenset[str]:
    """Require the paravisor's measurement, and the PCRs of the boot; the RTMRs stay zero under the paravisor."""
    return boot_registers(expected) | {"mr_td"}


def _text(value: Any) -> Any:
    """Write a value as Trustee's ``az-snp-vtpm`` verifier does: everything is text."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def _hardware_claims(appraisal: Appraisal, kind: TeeKind) -> dict[str, Any]:
    evidence = appraisal.evidence
    assert isinstance(evidence, AzureEvidence)
    part = Appraisal(evidence.hardware, appraisal.at, appraisal.checks, appraisal.unverified)
    return {name: value for name, value in kind.claims(part).claims.items() if name != "report_data"}


def _with_pcrs(appraisal: Appraisal, claims: dict[str, Any]) -> TeeClaims:
    evidence = appraisal.evidence
    assert isinstance(evidence, AzureEvidence)
    registers = evidence.quote.measurements
    return TeeClaims(
        {**claims, "tpm": dict(registers), **log_claim(evidence.event_log, appraisal.checks)},
        bytes.fromhex(registers.get(INIT_DATA_PCR, "")),
        extended_init_data,
    )


def _snp_claims(appraisal: Appraisal) -> TeeClaims:
    """Trustee's: text throughout, the measurement in base64, PCRs below ``tpm``."""
    assert isinstance(appraisal.evidence, AzureEvidence)
    claims = {name: _text(value) for name, value in _hardware_claims(appraisal, SNP).items()}
    measurement = bytes.fromhex(appraisal.evidence.hardware.measurements["measurement"])
    return _with_pcrs(appraisal, {**claims, "measurement": b64encode(measurement).decode()})


def _tdx_claims(appraisal: Appraisal) -> TeeClaims:
    """Trustee's: the claims of a TD as for TDX, PCRs below ``tpm``."""
    return _with_pcrs(appraisal, _hardware_claims(appraisal, TDX))


AZ_SNP: Final = TeeKind(
    name=AZ_SNP_VTPM,
    parse=parse_azure_snp,
    from_kbs=azure_snp_from_kbs,
    verifier=azure_verifier,
    claims=_snp_claims,
    registers={**SNP.registers, **_PCRS},
    register_source=_SOURCE,
    required=_snp_required,
    minimums=SNP.minimums,
    roots=SNP.roots,
)
AZ_TDX: Final = TeeKind(
    name=AZ_TDX_VTPM,
    parse=parse_azure_tdx,
    from_kbs=azure_tdx_from_kbs,
    verifier=azure_verifier,
    claims=_tdx_claims,
    registers={**TDX.registers, **_PCRS},
    register_source=_SOURCE,
    required=_tdx_required,
    roots=TDX.roots,
)
