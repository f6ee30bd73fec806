# SPDX-License-Identifier: Apache-2.0
"""TPM 2.0: quotes, attestation keys and how they are anchored, credential activation."""
