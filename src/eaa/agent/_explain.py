# SPDX-License-Identifier: Apache-2.0
"""One error as the one line of text that a caller of the agent gets to see."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from eaa.rats import EaaError

__all__ = ["explain"]


def explain(error: EaaError) -> str:
    """Return the message, the check if the message does not name it already, and what to do next."""
    text = str(error)
    check = getattr(error, "check", "")
    if check and check not in text:
        text = f"{text} (check {check})"
    return f"{text.rstrip('.')}. {error.hint}" if error.hint else text
