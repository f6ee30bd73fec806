# SPDX-License-Identifier: Apache-2.0
"""Endorser: chip makers' collateral, checked once, kept, and handed out."""
