# SPDX-License-Identifier: Apache-2.0
"""The error of this package."""

from __future__ import annotations

from eaa.rats import InputError

__all__ = ["ImageError"]


class ImageError(InputError):
    """An annotation, key provider message or resource URI that cannot be used, or a wrapped key that does not open."""

    code = "image.malformed"
