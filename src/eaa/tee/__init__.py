# SPDX-License-Identifier: Apache-2.0
"""One folder per kind of TEE. Everything here is pure: bytes, endorsements and a time in; claims and checks out."""
