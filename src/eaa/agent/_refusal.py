# SPDX-License-Identifier: Apache-2.0
"""A key broker's refusals, as errors that explain themselves to whoever asked the agent."""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from eaa.kbs import MAX_RESPONSE, ErrorInformation
from eaa.rats import AccessDenied, EaaError, NotFound, ProtocolError, UnavailableError

if TYPE_CHECKING:
    from eaa.agent._transport import Answer

__all__ = ["UNNAMED_CHECK", "is_final", "refusal"]

UNNAMED_CHECK: Final = "kbs.denied"
"""The check of a denial by a broker that names none."""
_MAX_DETAIL: Final = 2000
"""Characters of a broker's explanation that are passed on; a gRPC status has room for some kilobytes."""
_CHECK: Final = re.compile(r"\bcheck\b[\s:`'\"]{1,4}([a-z0-9_\-]+(?:\.[a-z0-9_\-]+)+)")
_POLICY_DENY: Final = "PolicyDeny"


def refusal(answer: Answer, what: str) -> EaaError:
    """Return the error that an answer other than 200 stands for; ``what`` names what was asked.

    The broker's own explanation is kept, without control characters; a check that it names becomes :attr:`AccessDenied.check`.
    """
    variant, detail = _explanation(answer)
    status = answer.status
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        named = _CHECK.search(detail)
        check = named.group(1) if named else UNNAMED_CHECK
        if detail:
            return AccessDenied(f"the key broker refused {what}: {detail}", check=check)
        return AccessDenied(
            f"the key broker refused {what} without saying why: {variant or f'HTTP status {status}'}",
            check=check,
            hint="Ask its owner: the broker's log tells.",
        )
    if status == HTTPStatus.NOT_FOUND:
        return NotFound(
            f"the key broker has no {what}: {detail or 'no explanation'}",
            hint="Check the name, and that it was created there.",
        )
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return UnavailableError(
            f"the key broker cannot answer for {what} now: {detail or f'HTTP status {status}'}"
        )
    return ProtocolError(
        f"the key broker answered {what} with HTTP status {status}: {detail or 'no explanation'}",
        hint="Check that kbs_url names a key broker.",
    )


def is_final(answer: Answer, error: EaaError) -> bool:
    """Tell whether a denial of a *fresh* session is the policy's answer, which another handshake cannot change."""
    if answer.status == HTTPStatus.UNAUTHORIZED:
        variant, _ = _explanation(answer)
        return variant == _POLICY_DENY or (isinstance(error, AccessDenied) and error.check != UNNAMED_CHECK)
    return True


def _explanation(answer: Answer) -> tuple[str, str]:
    """Return the error's variant and detail, both empty when the body is no ErrorInformation."""
    try:
        error = ErrorInformation.from_json(answer.body, limit=MAX_RESPONSE)
    except ProtocolError:
        return "", ""
    return _plain(error.variant)[:64], _plain(error.detail)


def _plain(text: str) -> str:
    """Fold a stranger's text to one line of printable characters."""
    printable = "".join(each if each.isprintable() else " " for each in text[: 4 * _MAX_DETAIL])
    folded = " ".join(printable.split())
    return folded if len(folded) <= _MAX_DETAIL else f"{folded[: _MAX_DETAIL - 1]}…"
