# SPDX-License-Identifier: Apache-2.0
"""Whom an owner trusts to vouch for TPMs, and what is accepted beyond that."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eaa.rats import TrustAnchor

__all__ = ["TpmPolicy"]


@dataclass(frozen=True, slots=True)
class TpmPolicy:
    """An owner's conditions for TPMs.

    ``anchors`` are the roots of TPM makers and attestation CAs, and attestation keys pinned by themselves. They stand here and not
    among the roots of chip makers, so that whoever runs a laboratory's TPM CA cannot issue certificates of processors.
    ``require_safe_clock`` refuses a quote whose clock may have gone back, instead of warning.
    """

    anchors: tuple[TrustAnchor, ...] = ()
    require_safe_clock: bool = False
