# SPDX-License-Identifier: Apache-2.0
"""Verify, appraise, decide, and say why."""

from eaa.tee.dcap.roots import INTEL_ROOT
from eaa.verifier.verifier import Verifier

__all__ = ["INTEL_ROOT", "Verifier"]
