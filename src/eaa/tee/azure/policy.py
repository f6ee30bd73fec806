# SPDX-License-Identifier: Apache-2.0
"""What an owner demands of Azure's confidential VMs beyond the policies of hardware and TPM."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["AzurePolicy"]


@dataclass(frozen=True, slots=True)
class AzurePolicy:
    """An owner's conditions.

    Evidence before version 2 binds the challenge to the vTPM's quote alone, so that its hardware report may be as old as the VM.
    ``require_user_data`` refuses such evidence; the default accepts it, because older attesters send no other.
    """

    require_user_data: bool = False
