# SPDX-License-Identifier: Apache-2.0
"""Verdict: from what was built to signed reference values."""
