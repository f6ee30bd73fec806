# SPDX-License-Identifier: Apache-2.0
"""Unit tests of policies, put into words that the engine gets right.

Of Rego's ``with`` the engine can do all but two things: it dies of ``with input as …``, and a value that is a reference
(``with data.reference as fixture``) is undefined to it. So the policy's input is moved to a place under ``data``, in policy and
tests alike, and such a value is taken out of a list. Lines stay where they are, and nothing else is changed.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from eaa.verifier._rego_scan import KEYWORDS, tokens_of

if TYPE_CHECKING:
    from eaa.verifier._rego_scan import Token

__all__ = ["in_engine_terms"]

INPUT: Final = "data.tested_input"


def in_engine_terms(text: str) -> str:
    """Return the text of a policy or of its tests with ``with`` as the engine can do it.

    :raises PolicyError: when the text cannot be read.
    """
    text = text.replace("\r\n", "\n")
    tokens = list(tokens_of(text))
    edits: list[tuple[int, int, str]] = []
    for at, token in enumerate(tokens):
        if token.text == "input" and token.kind == "name" and (not at or tokens[at - 1].text != "."):
            edits.append((token.at, token.at + len(token.text), INPUT))
        elif token.text == "with" and token.kind == "name":
            edits += _value_from_list(tokens, at)
    parts, done = [], 0
    for begin, end, new in sorted(edits):
        parts += [text[done:begin], new]
        done = end
    return "".join(parts) + text[done:]


def _value_from_list(tokens: list[Token], at: int) -> list[tuple[int, int, str]]:
    """Return the edits that make ``with … as name.member`` read ``with … as [name.member][0]``."""
    at += 1
    while at < len(tokens) and tokens[at].text not in KEYWORDS:
        at += 1
    begin = at + 1
    if begin >= len(tokens) or tokens[at].text != "as" or tokens[begin].kind != "name":
        return []
    if tokens[begin].text in KEYWORDS:
        return []
    last = _end_of_reference(tokens, begin)
    return [(tokens[begin].at, tokens[begin].at, "["), (_end(tokens[last]), _end(tokens[last]), "][0]")]


def _end_of_reference(tokens: list[Token], at: int) -> int:
    """Return the last token of ``name.member["index"](arguments)``, in which nothing stands between the parts."""
    while at + 1 < len(tokens) and tokens[at + 1].at == _end(tokens[at]):
        following = tokens[at + 1]
        if following.text == ".":
            at += 2
        elif following.text in {"[", "("}:
            at += 2
            while at < len(tokens) and tokens[at].depth > following.depth:
                at += 1
        else:
            break
        if at >= len(tokens):
            return len(tokens) - 1
    return at


def _end(token: Token) -> int:
    return token.at + len(token.text)
