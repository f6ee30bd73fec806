# SPDX-License-Identifier: Apache-2.0
"""Verify, appraise, decide, and say why."""

from eaa.verifier.verifier import INTEL_ROOT, Verifier

__all__ = ["INTEL_ROOT", "Verifier"]
