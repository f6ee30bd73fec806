# SPDX-License-Identifier: Apache-2.0
"""What can be wrong with somebody's reference values: malformed, or not signed as they must be."""

from __future__ import annotations

from eaa.rats import AccessDenied, InputError

__all__ = ["ManifestError", "ManifestRefused"]


class ManifestError(InputError):
    """Bytes that are not the manifest that they are handed in as."""

    code = "manifest.malformed"


class ManifestRefused(AccessDenied):
    """A well-formed manifest whose signature does not hold. ``check`` names the rule that refused."""

    code = "manifest.refused"
