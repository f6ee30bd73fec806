# SPDX-License-Identifier: Apache-2.0
"""What a guest's hardware signs in a handshake: the nonce and the TEE's key, hashed.

JSON Canonicalization Scheme (RFC 8785), then a hash, then zeros up to the report data's size; the rule of the KBS protocol
0.4.0 for the primary evidence.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from eaa.rats import ProtocolError

if TYPE_CHECKING:
    from eaa.kbs.tee_key import TeePubKey

__all__ = ["DEFAULT_HASH", "HASH_ALGORITHMS", "REPORT_DATA_SIZE", "report_data", "runtime_data_digest"]

DEFAULT_HASH: Final = "sha384"
HASH_ALGORITHMS: Final = ("sha256", "sha384", "sha512")
"""What a KBS may select in its challenge; the default holds when it selects none."""
REPORT_DATA_SIZE: Final = 64


def runtime_data_digest(
    nonce: str, tee_pubkey: TeePubKey, additional_evidence: str = "", *, algorithm: str = DEFAULT_HASH
) -> bytes:
    """Return the digest that the primary evidence must carry (48 bytes for SHA-384).

    ``nonce`` is the challenge's text, not its bytes; ``additional_evidence`` is the exact string of the message, ``""`` when
    there is none.

    :raises ProtocolError: on a hash that the protocol does not name.
    """
    if algorithm not in HASH_ALGORITHMS:
        raise ProtocolError(
            f"no hash algorithm {algorithm[:20]!r}", hint=f"Known are: {', '.join(HASH_ALGORITHMS)}."
        )
    attested: dict[str, Any] = {
        "additional-evidence": additional_evidence,
        "nonce": nonce,
        "tee-pubkey": tee_pubkey.jwk,
    }
    try:
        return hashlib.new(algorithm, rfc8785.dumps(attested)).digest()
    except rfc8785.CanonicalizationError:
        raise ProtocolError("runtime data has a string that is not Unicode text") from None


def report_data(
    nonce: str, tee_pubkey: TeePubKey, additional_evidence: str = "", *, algorithm: str = DEFAULT_HASH
) -> bytes:
    """Return the 64 bytes of report data for SGX, TDX and SNP: the digest, then zeros.

    :raises ProtocolError: as :func:`runtime_data_digest`.
    """
    return runtime_data_digest(nonce, tee_pubkey, additional_evidence, algorithm=algorithm).ljust(
        REPORT_DATA_SIZE, b"\0"
    )
