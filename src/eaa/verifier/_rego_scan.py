# SPDX-License-Identifier: Apache-2.0
"""What a Rego policy calls and defines, read from its text in linear time before any engine sees it.

The engine has no switch that forbids builtins, and deep nesting kills it. So the text is first split into tokens, which
is enough to know the package, the rules, every function that is called and every reference value that is asked for.
Whatever this lexer does not understand is refused: a stricter reader can only deny more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Final, NamedTuple, NoReturn

from eaa.rats import PolicyError

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = [
    "KEYWORDS",
    "MAX_POLICY_SIZE",
    "QUERY",
    "VOLATILE_BUILTINS",
    "PolicyScan",
    "Token",
    "scan_policy",
    "tokens_of",
]

MAX_POLICY_SIZE: Final = 256 * 1024
"""Bytes of UTF-8. A policy of a whole fleet has a few thousand."""
MAX_NESTING: Final = 100
"""Brackets within brackets; the engine's parser is recursive and crashes at some thousand."""
QUERY: Final = "query_reference_value"
VOLATILE_BUILTINS: Final = frozenset({"time.now_ns"})
"""Builtins that an operator may allow although their result changes; results that rest on them are never remembered."""

_FORBIDDEN_ROOTS: Final = {
    "opa": "it would show the verifier's own environment",
    "http": "a verdict never depends on the network",
    "net": "a verdict never depends on the network",
    "rand": "a verdict must be reproducible",
    "uuid": "a verdict must be reproducible",
}
_IMPORT_ROOTS: Final = frozenset({"data", "input", "rego", "future"})
KEYWORDS: Final = frozenset(
    {"as", "contains", "default", "else", "every", "false", "if", "import", "in", "not", "null"}
    | {"package", "some", "true", "with"}
)
_CONTROL: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\x85\u2028\u2029]")
_TOKEN: Final = re.compile(
    r"""(?P<space>[ \t]+|\#[^\n]*)
      | (?P<newline>\n)
      | (?P<template>\$["`])
      | (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
      | (?P<name>[A-Za-z_][A-Za-z0-9_]*)
      | (?P<number>[0-9]+(?:\.[0-9]+)?(?:[eE][-+]?[0-9]+)?)
      | (?P<mark>:=|==|!=|<=|>=|[-+*/%&|=<>:;,.\[\](){}])""",
    re.VERBOSE,
)
_PLAIN_STRING: Final = re.compile(r'"[A-Za-z0-9_.\-/ ]*"|`[^`]*`')
_OPERATORS: Final = frozenset(
    {":=", "=", "==", "!=", "<", "<=", ">", ">=", "+", "-", "*", "/", "%", "&", "|", ","}
)


class Token(NamedTuple):
    """A word of Rego: not a space, a newline or a comment. ``depth`` counts the brackets around it."""

    kind: str
    text: str
    line: int
    depth: int
    first: bool
    """Whether no other token stands before it on its line."""
    at: int
    """Where it begins in the text."""


@dataclass(frozen=True, slots=True)
class PolicyScan:
    """What one policy text contains.

    ``references`` are the names given literally to ``query_reference_value``, in their order; ``computed_references`` says that
    some name is computed, ``reads_data`` that the text speaks of ``data`` itself. ``calls`` holds every function called that the policy itself does not define.
    """

    package: str
    rules: frozenset[str]
    references: tuple[str, ...]
    computed_references: bool
    reads_data: bool
    calls: frozenset[str]
    volatile: frozenset[str] = field(default_factory=frozenset)


@lru_cache(maxsize=256)
def scan_policy(text: str) -> PolicyScan:
    """Read a policy's text.

    :raises PolicyError: when it is too long, too deeply nested, uses what no policy may use, or does not begin with a package.
    """
    try:
        size = len(text.encode())
    except UnicodeEncodeError as error:
        raise PolicyError("the policy is not UTF-8 text", hint="Save it as UTF-8.") from error
    if size > MAX_POLICY_SIZE:
        raise PolicyError(
            f"the policy has {size} bytes, at most {MAX_POLICY_SIZE} are read",
            hint="Move lists of values out of the policy and into reference values.",
        )
    return _Scanner(list(tokens_of(text.replace("\r\n", "\n")))).scan()


def _refuse(line: int, why: str, hint: str = "") -> NoReturn:
    raise PolicyError(f"line {line}: {why}", hint=hint or "Correct the policy; nothing was stored.")


def tokens_of(text: str) -> Iterator[Token]:
    """Yield the words of a policy's text, whose lines end in a newline alone.

    :raises PolicyError: at what no policy may contain.
    """
    at, line, depth, first = 0, 1, 0, True
    if control := _CONTROL.search(text):
        _refuse(text.count("\n", 0, control.start()) + 1, f"control character {control.group()!r}")
    while at < len(text):
        match = _TOKEN.match(text, at)
        if match is None:
            _refuse(
                line, f"unexpected {text[at]!r}" if text[at] not in '"`' else "a string that does not end"
            )
        begin, at, kind, piece = at, match.end(), str(match.lastgroup), match.group()
        if kind == "template":
            _refuse(
                line,
                "template strings are not allowed",
                "Use sprintf or concat: code must not hide in strings.",
            )
        if kind == "newline":
            line, first = line + 1, True
        elif kind != "space":
            if piece in {")", "]", "}"}:
                depth -= 1
            yield Token(kind, piece, line, depth, first, begin)
            if piece in {"(", "[", "{"}:
                depth += 1
                if depth > MAX_NESTING:
                    _refuse(line, f"brackets nested deeper than {MAX_NESTING}")
            line, first = line + piece.count("\n"), False


class _Scanner:
    """One pass over the tokens."""

    def __init__(self, tokens: list[Token]) -> None:
        self.tokens = tokens
        self.rules: set[str] = set()
        self.aliases: set[str] = set()
        self.references: dict[str, None] = {}
        self.computed = False
        self.reads_data = False
        self.calls: dict[str, int] = {}
        self.volatile: set[str] = set()

    def scan(self) -> PolicyScan:
        if not self.tokens or self.tokens[0].text != "package":
            line = self.tokens[0].line if self.tokens else 1
            _refuse(line, "a policy begins with its package", "Write `package policy` in the first line.")
        package, at = self._chain(1)
        while at < len(self.tokens):
            token = self.tokens[at]
            if token.text == "import" and token.first and token.depth == 0:
                at = self._import(at)
            elif token.kind == "name":
                at = self._name(at)
            else:
                at += 1
        known = self.rules | self.aliases | {QUERY}
        calls = frozenset(name for name in self.calls if name.split(".")[0] not in known | {"data", "input"})
        return PolicyScan(
            package,
            frozenset(self.rules),
            tuple(self.references),
            self.computed,
            self.reads_data,
            calls,
            frozenset(self.volatile),
        )

    def _text(self, at: int) -> str:
        return self.tokens[at].text if 0 <= at < len(self.tokens) else ""

    def _chain(self, at: int) -> tuple[str, int]:
        """Read ``a.b["c"]`` at ``at``; return ``a.b.c`` and where it ends. Stops at a computed index."""
        names = [self._text(at)]
        at += 1
        while at < len(self.tokens):
            if self._text(at) == "." and at + 1 < len(self.tokens) and self.tokens[at + 1].kind == "name":
                names.append(self._text(at + 1))
                at += 2
            elif self._text(at) == "[" and self._text(at + 2) == "]" and self.tokens[at + 1].kind == "string":
                names.append(self._text(at + 1)[1:-1])
                at += 3
            else:
                break
        return ".".join(names), at

    def _import(self, at: int) -> int:
        line = self.tokens[at].line
        path, end = self._chain(at + 1)
        root = path.split(".")[0]
        self.reads_data |= root == "data"
        if root not in _IMPORT_ROOTS or (root == "rego" and path != "rego.v1"):
            _refuse(line, f"import of {path}", "Import only from data, input, rego.v1 and future.keywords.")
        if self._text(end) == "as":
            path, end = self._text(end + 1), end + 2
        alias = path.rsplit(".", 1)[-1]
        if alias == QUERY:
            self._refuse_query(line)
        self.aliases.add(alias)
        return end

    def _name(self, at: int) -> int:
        token = self.tokens[at]
        if token.text in KEYWORDS:
            return at + 1
        chain, end = self._chain(at)
        member = self._text(at - 1) == "."
        root = chain.split(".")[0]
        self.reads_data |= root == "data"
        if QUERY in (parts := chain.split(".")):
            if parts[-1] != QUERY:
                self._refuse_query(token.line)
            self._query(at, end)
        elif not member:
            self._check_builtin(chain, root, token.line, following=self._text(end))
            if self._defines(at):
                self.rules.add(root)
            elif self._text(end) == "(":
                self.calls.setdefault(chain, token.line)
        # Names inside a computed index are looked at on their own: the chain stopped before it.
        return end

    def _defines(self, at: int) -> bool:
        """Whether the name at ``at`` heads a rule: at depth 0, where a statement begins, not continuing an expression."""
        token, before = self.tokens[at], self._text(at - 1)
        if token.depth:
            return False
        if before == "default":
            return True
        return (
            (token.first or before == ";")
            and before not in _OPERATORS
            and before not in {"if", "in", "not", "else", "with", "as", "."}
        )

    def _query(self, at: int, end: int) -> None:
        token = self.tokens[at]
        if self._text(end) != "(" or self._defines(at) or self._text(at - 1) in {"as", "with", "some"}:
            self._refuse_query(token.line)
        argument = self.tokens[end + 1] if end + 1 < len(self.tokens) else None
        if (
            argument is not None
            and argument.kind == "string"
            and self._text(end + 2) == ")"
            and _PLAIN_STRING.fullmatch(argument.text)
        ):
            self.references[argument.text[1:-1]] = None
        else:
            self.computed = True

    def _refuse_query(self, line: int) -> NoReturn:
        _refuse(
            line,
            f"{QUERY} may only be called",
            "It is given by the verifier; a policy cannot define, replace or pass it on.",
        )

    def _check_builtin(self, chain: str, root: str, line: int, *, following: str) -> None:
        if root in _FORBIDDEN_ROOTS and (chain != root or following in {"[", "."}):
            _refuse(line, f"{chain} is not allowed", f"Leave it out: {_FORBIDDEN_ROOTS[root]}.")
        if chain == "trace" and following == "(":
            _refuse(line, "trace is not allowed", "Leave it out.")
        if chain in VOLATILE_BUILTINS:
            self.volatile.add(chain)
