# SPDX-License-Identifier: Apache-2.0
"""Azure's confidential VMs: a vTPM in the paravisor, vouched for by a SEV-SNP report or a TDX quote."""
