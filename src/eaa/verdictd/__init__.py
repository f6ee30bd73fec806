# SPDX-License-Identifier: Apache-2.0
"""Verdictd: the server that verifies evidence, applies the owner's policy and releases secrets to attested TEEs."""
