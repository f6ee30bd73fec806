# SPDX-License-Identifier: Apache-2.0
"""The KBS protocol 0.4.0, the part that both of its sides share: messages, the TEE's key, report data, init-data, JWE. Pure."""

from eaa.kbs.init_data import MAX_INIT_DATA, InitDocument, parse_init_data
from eaa.kbs.jwe import decrypt, encrypt
from eaa.kbs.messages import (
    MAX_ATTESTATION,
    MAX_REQUEST,
    MAX_RESPONSE,
    PROTOCOL_VERSION,
    SESSION_COOKIE,
    TEE_NAMES,
    Attestation,
    Challenge,
    ErrorInformation,
    InitData,
    JweResponse,
    Request,
    RuntimeData,
    TeeEvidence,
    TokenResponse,
    parse_json,
)
from eaa.kbs.report_data import report_data, runtime_data_digest
from eaa.kbs.tee_key import TeeKeyPair, TeePubKey

__all__ = [
    "MAX_ATTESTATION",
    "MAX_INIT_DATA",
    "MAX_REQUEST",
    "MAX_RESPONSE",
    "PROTOCOL_VERSION",
    "SESSION_COOKIE",
    "TEE_NAMES",
    "Attestation",
    "Challenge",
    "ErrorInformation",
    "InitData",
    "InitDocument",
    "JweResponse",
    "Request",
    "RuntimeData",
    "TeeEvidence",
    "TeeKeyPair",
    "TeePubKey",
    "TokenResponse",
    "decrypt",
    "encrypt",
    "parse_init_data",
    "parse_json",
    "report_data",
    "runtime_data_digest",
]
