# SPDX-License-Identifier: Apache-2.0
"""Fields of evidence as every chip maker's simulated hardware fills or spoils them."""

from __future__ import annotations

from hashlib import sha512

from eaa.rats import ConfigurationError

__all__ = ["flipped", "padded_report_data"]


def padded_report_data(report_data: bytes, *, other: bool) -> bytes:
    """Return the 64 bytes that hardware signs for ``report_data``, or, with ``other``, 64 that were not asked for.

    :raises ConfigurationError: when ``report_data`` is longer than 64 bytes.
    """
    if len(report_data) > 64:
        raise ConfigurationError(
            f"report data of {len(report_data)} bytes; the hardware takes up to 64",
            hint="Hash longer data first.",
        )
    padded = report_data.ljust(64, b"\0")
    return sha512(b"other than " + padded).digest() if other else padded


def flipped(value: bytes) -> bytes:
    """Return ``value`` with its lowest bit flipped."""
    return value[:-1] + bytes((value[-1] ^ 1,))
