# SPDX-License-Identifier: Apache-2.0
"""What the files of a manifest's TPM and Azure vectors are: evidence and endorsements, by the roles that the manifest gives them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final

from eaa.rats import Endorsement, EndorsementError, Endorsements, EvidenceError
from eaa.tee.azure.evidence import AZ_SNP_VTPM, azure_tdx_from_parts, parse_azure_snp, parse_azure_tdx
from eaa.tee.tpm.enrolment import ENROLLED_AK
from eaa.tee.tpm.evidence import AttestationKey, bundle_tpm2_tools, parse_key, parse_tpm_evidence
from eaa.tee.tpm.formats import parse_enacttrust, parse_go_attestation, parse_go_tpm_tools, parse_parsec

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.tee.azure.evidence import AzureEvidence
    from eaa.tee.tpm.evidence import TpmEvidence

__all__ = ["EXCUSED", "azure_vector", "tpm_vector"]

EXCUSED: Final = {
    ENROLLED_AK: ("tpm.ak.anchored", "eventlog.content"),
    "pcr_values": ("tpm.quote.pcr-selection", "tpm.quote.pcr-digest"),
}
"""Checks that cannot be made without an enrolment (an event log is not read then), or without PCR values, which no vector of that kind can give."""


def tpm_vector(files: Mapping[str, bytes]) -> tuple[TpmEvidence, Endorsements]:
    """Return the evidence of a vector of TEE ``tpm2``, and the key's enrolment where the vector names a trust anchor.

    :raises EaaError: when a file is malformed.
    :raises KeyError: when the vector has none of the roles that are known.
    """
    if "trust_anchor" in files:
        key = _trust_anchor(files["trust_anchor"])
        token = files.get("token")
        evidence = parse_parsec(files["evidence"], key) if token is None else parse_enacttrust(token, key)
        return evidence, Endorsements((Endorsement(ENROLLED_AK, key.spki),))
    if "attestation" in files:
        return parse_go_tpm_tools(files["attestation"]), Endorsements()
    if "dump" in files:
        return parse_go_attestation(files["dump"]), Endorsements()
    if "quote" in files:
        bundle = bundle_tpm2_tools(
            message=files["quote"],
            signature=files["signature"],
            pcrs=files["pcr_values"],
            key=files["ak_public"],
        )
        enrolled = parse_key(files["ak_public"]).spki
        return parse_tpm_evidence(bundle), Endorsements((Endorsement(ENROLLED_AK, enrolled),))
    return parse_tpm_evidence(files["evidence"]), Endorsements()


def azure_vector(tee: str, files: Mapping[str, bytes]) -> AzureEvidence:
    """Return the evidence of a vector of TEE ``az-snp-vtpm`` or ``az-tdx-vtpm``; its collateral is the hardware's.

    :raises EaaError: when a file is malformed.
    :raises KeyError: when the vector has none of the roles that are known.
    """
    if "runtime_claims" in files:
        return azure_tdx_from_parts(
            td_quote=files["td_quote"],
            runtime_data=files["runtime_claims"],
            message=files["tpm_quote"],
            signature=files["tpm_signature"],
        )
    data = files["evidence"]
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise EvidenceError("the evidence is no JSON", check="evidence.format") from error
    if isinstance(document, dict) and isinstance(document.get("evidence"), dict):
        # attestation-rs names the platform beside the attester's own document.
        data = json.dumps(document["evidence"]).encode()
    return parse_azure_snp(data) if tee == AZ_SNP_VTPM else parse_azure_tdx(data)


def _trust_anchor(document: bytes) -> AttestationKey:
    """Return the one verification key of a CoMID in JSON."""
    try:
        keys: Any = json.loads(document)["triples"]["attester-verification-keys"][0]["verification-keys"]
        return parse_key(keys[0]["value"].replace("\\n", "\n").encode())
    except (ValueError, KeyError, IndexError, TypeError, AttributeError) as error:
        raise EndorsementError("the trust anchor holds no verification key") from error
