# SPDX-License-Identifier: Apache-2.0
"""What policies see and tokens carry: the claims of a TEE under the names that Trustee gives them.

Under the TEE's name stand Trustee's claims, and beside them the plain names of our own vocabulary (``mr_td``, ``isv_svn`` as an
integer, …), which Trustee does not use. Each kind of TEE brings its own (:class:`~eaa.tee.kind.TeeKind`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from eaa.tee.registry import kind_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from eaa.rats import Appraisal

__all__ = ["policy_input"]


def policy_input(
    appraisal: Appraisal,
    runtime_data: Mapping[str, Any] | None,
    *,
    init_data_claims: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the ``input`` of attestation policies, which is also the token's annotated evidence.

    ``runtime_data`` is what the report data binds (``nonce``, ``tee-pubkey``). Only the claims of an accepted appraisal are trusted.

    :raises EvidenceError: when there is no such form for this kind of evidence.
    """
    evidence = appraisal.evidence
    stated = kind_of(evidence.tee).claims(appraisal)
    return {
        evidence.tee: dict(stated.claims),
        "report_data": evidence.report_data.hex(),
        "init_data": stated.init_data.hex(),
        "init_data_claims": None if init_data_claims is None else dict(init_data_claims),
        "runtime_data_claims": None if runtime_data is None else dict(runtime_data),
    }
