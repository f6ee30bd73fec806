# SPDX-License-Identifier: Apache-2.0
"""EAA: remote attestation and key release for confidential containers."""
