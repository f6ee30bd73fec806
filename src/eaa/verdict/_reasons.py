# SPDX-License-Identifier: Apache-2.0
"""What pydantic found wrong, in one line, without repeating the input."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import ValidationError

__all__ = ["first_reason"]


def first_reason(invalid: ValidationError) -> str:
    """Return where the first fault is, and what it is."""
    first = invalid.errors(include_url=False, include_input=False, include_context=False)[0]
    where = ".".join(str(part)[:60] for part in first["loc"] if part != "[key]")
    why = first["msg"].removeprefix("Value error, ")
    return f"{where}: {why}" if where else why
