# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with signed statements: malformed, or refused."""

from __future__ import annotations

from eaa.rats import AccessDenied, InputError

__all__ = ["SignatureRefused", "StatementError"]


class StatementError(InputError):
    """Bytes that are not the statement, set or envelope that they are handed in as."""

    code = "statement.malformed"


class SignatureRefused(AccessDenied):
    """A well-formed envelope that is not signed as it must be. ``check`` names the rule that refused."""

    code = "signature.refused"
