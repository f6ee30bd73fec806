# SPDX-License-Identifier: Apache-2.0
"""The Attestation Agent: the daemon in the guest that proves what it runs on and fetches what that earns."""
