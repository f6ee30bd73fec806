# SPDX-License-Identifier: Apache-2.0
"""Evidence of Azure's confidential VMs as JSON, in the three versions that CoCo's attesters have sent.

Version 0 writes bytes as lists of numbers: ``{"quote": {"signature", "message", "pcrs"}, "report", "vcek": "<PEM>"}``, or, on TDX,
``{"tpm_quote", "hcl_report", "td_quote"}``. Version 1 writes the quote in hex and the rest in URL-safe base64: ``{"version": 1,
"tpm_quote", "hcl_report", "vcek" or "td_quote"}``. Version 2 is the same, with the report data also in the HCL report's user data.

Beside any of them, ``cc_eventlog`` may hold the VM's firmware's event log in standard base64.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import EndorsementError, EvidenceError
from eaa.tee.azure.hcl import (
    FORMAT,
    REPORT_SNP,
    REPORT_TDX,
    decode_url_safe,
    parse_hcl_report,
    parse_runtime_data,
)
from eaa.tee.members import event_log_member
from eaa.tee.snp.evidence import DeliveredCertificate, SnpEvidence, make_evidence
from eaa.tee.tdx.evidence import TdxQuote, parse_tdx_quote
from eaa.tee.tpm.evidence import parse_pcr_values
from eaa.tee.tpm.quote import Signature, TpmQuote, parse_attest, parse_signature
from eaa.tee.tpm.wire import Algorithm
from eaa.tee.x509 import split_pem

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from eaa.tee.azure.hcl import RuntimeData

__all__ = [
    "AZ_SNP_VTPM",
    "AZ_TDX_VTPM",
    "AzureEvidence",
    "azure_snp_from_kbs",
    "azure_tdx_from_kbs",
    "azure_tdx_from_parts",
    "parse_azure_snp",
    "parse_azure_tdx",
]

AZ_SNP_VTPM: Final = "az-snp-vtpm"
AZ_TDX_VTPM: Final = "az-tdx-vtpm"
MAX_EVIDENCE: Final = 1024 * 1024
_MAX_FIELD: Final = 64 * 1024
_VERSIONS: Final = frozenset({0, 1, 2})
_PEM: Final = b"-----BEGIN"


@dataclass(frozen=True, slots=True)
class AzureEvidence:
    """A vTPM's quote, the paravisor's runtime data, and the hardware's evidence that is bound to that.

    ``td_report_data`` is that of the TDREPORT in the HCL report, empty on SNP and where there is no HCL report. ``event_log`` is what
    came of one, unread, as in :class:`~eaa.tee.tpm.evidence.TpmEvidence`.
    """

    tee: str
    raw: bytes
    version: int
    quote: TpmQuote
    runtime: RuntimeData
    hardware: SnpEvidence | TdxQuote
    td_report_data: bytes = b""
    event_log: bytes = b""

    @property
    def report_data(self) -> bytes:
        """The vTPM quote's ``extraData``; the hardware's report data is bound to the runtime data instead."""
        return self.quote.attest.extra_data

    @property
    def debug(self) -> bool:
        """Whether the hardware says that the VM's memory can be read from outside."""
        return self.hardware.debug

    @property
    def measurements(self) -> Mapping[str, str]:
        """The hardware's measurements, which cover the paravisor and its firmware, and the quoted PCRs, which cover the rest (A28)."""
        return {**self.hardware.measurements, **self.quote.measurements}


def parse_azure_snp(data: bytes) -> AzureEvidence:
    """Parse the JSON of an ``az-snp-vtpm`` attester.

    :raises EvidenceError: when it is malformed.
    """
    return azure_snp_from_kbs(_document(data), raw=bytes(data))


def parse_azure_tdx(data: bytes) -> AzureEvidence:
    """Parse the JSON of an ``az-tdx-vtpm`` attester.

    :raises EvidenceError: when it is malformed.
    """
    return azure_tdx_from_kbs(_document(data), raw=bytes(data))


def azure_snp_from_kbs(evidence: Mapping[str, Any], *, raw: bytes | None = None) -> AzureEvidence:
    """Read the ``az-snp-vtpm`` evidence that a KBS client sends.

    :raises EvidenceError: when it is malformed.
    """
    version = _version(evidence)
    old = version == 0
    quote = _quote(evidence.get("quote" if old else "tpm_quote"), version)
    hcl = parse_hcl_report(_bytes(evidence, "report" if old else "hcl_report", version))
    if hcl.runtime.report_type != REPORT_SNP:
        raise _malformed("the HCL report is of another kind of hardware than SNP")
    hardware = make_evidence(hcl.hardware, _certificates(evidence, version))
    log = event_log_member(evidence)
    return AzureEvidence(
        AZ_SNP_VTPM, raw or _dump(evidence), version, quote, hcl.runtime, hardware, event_log=log
    )


def azure_tdx_from_kbs(evidence: Mapping[str, Any], *, raw: bytes | None = None) -> AzureEvidence:
    """Read the ``az-tdx-vtpm`` evidence that a KBS client sends.

    :raises EvidenceError: when it is malformed.
    """
    version = _version(evidence)
    quote = _quote(evidence.get("tpm_quote"), version)
    hcl = parse_hcl_report(_bytes(evidence, "hcl_report", version))
    if hcl.runtime.report_type != REPORT_TDX:
        raise _malformed("the HCL report is of another kind of hardware than TDX")
    hardware = parse_tdx_quote(_bytes(evidence, "td_quote", version))
    log = event_log_member(evidence)
    return AzureEvidence(
        AZ_TDX_VTPM, raw or _dump(evidence), version, quote, hcl.runtime, hardware, hcl.td_report_data, log
    )


def azure_tdx_from_parts(
    *, td_quote: bytes, runtime_data: bytes, message: bytes, signature: bytes
) -> AzureEvidence:
    """Put evidence together that came in parts: a TD quote, runtime data with its header, TPMS_ATTEST and TPMT_SIGNATURE.

    Without PCR values it can be verified, but never accepted.

    :raises EvidenceError: when one is malformed.
    """
    runtime = parse_runtime_data(runtime_data)
    if runtime.report_type != REPORT_TDX:
        raise _malformed("the runtime data is of another kind of hardware than TDX")
    quote = TpmQuote(message, parse_attest(message), parse_signature(signature), {})
    raw = b"".join((td_quote, runtime_data, message, signature))
    return AzureEvidence(AZ_TDX_VTPM, raw, 1, quote, runtime, parse_tdx_quote(td_quote))


def _document(data: bytes) -> Mapping[str, Any]:
    document = parse_json(data, MAX_EVIDENCE, error=EvidenceError)
    if not isinstance(document, dict):
        raise _malformed("the evidence is no JSON object")
    return document


def _dump(evidence: Mapping[str, Any]) -> bytes:
    return json.dumps(dict(evidence), separators=(",", ":")).encode()


def _version(evidence: Mapping[str, Any]) -> int:
    version = evidence.get("version", 0)
    if type(version) is not int or version not in _VERSIONS or (version == 0 and "version" in evidence):
        raise _malformed("the evidence is of an unknown version; known are 1, 2 and the one without number")
    return version


def _quote(quote: Any, version: int) -> TpmQuote:
    """Read the quote. Its signature is bare: the vTPM's key signs with RSASSA over SHA-256 and nothing else."""
    if not isinstance(quote, dict):
        raise _malformed("the evidence has no TPM quote")
    message, signature = (_bytes(quote, name, version, bytes.fromhex) for name in ("message", "signature"))
    return TpmQuote(
        message,
        parse_attest(message),
        Signature(Algorithm.RSASSA, Algorithm.SHA256, signature),
        {Algorithm.SHA256: parse_pcr_values(quote.get("pcrs"))},
    )


def _bytes(
    document: Mapping[str, Any], name: str, version: int, decode: Callable[[str], bytes] = decode_url_safe
) -> bytes:
    value = document.get(name)
    try:
        if version == 0 and isinstance(value, list) and len(value) <= _MAX_FIELD:
            return bytes(value)
        if version > 0 and isinstance(value, str) and len(value) <= 2 * _MAX_FIELD:
            return decode(value)
    except (TypeError, ValueError):
        pass
    raise _malformed(f"{name} is not written as version {version} writes bytes")


def _certificates(evidence: Mapping[str, Any], version: int) -> list[DeliveredCertificate]:
    """Return the VCEK, and whatever came behind it in its PEM."""
    if version > 0:
        found = [_bytes(evidence, "vcek", version)]
    else:
        pem = evidence.get("vcek")
        try:
            found = split_pem(pem.encode("ascii")) if isinstance(pem, str) else []
        except (EndorsementError, UnicodeError) as error:
            raise _malformed(f"the VCEK's PEM: {error}") from error
    if not found:
        raise _malformed("the evidence has no VCEK")
    return [DeliveredCertificate("VCEK", found[0]), *(DeliveredCertificate("ASK", der) for der in found[1:])]


def _malformed(what: str) -> EvidenceError:
    return EvidenceError(what, check=FORMAT)
