# SPDX-License-Identifier: Apache-2.0
"""Init-data: the configuration that the host gives a guest at launch, and whose digest the hardware carries (attack A28).

A TOML text of version 0.1.0 with ``algorithm`` and a table ``data`` of file name → content (kata-containers, "Initdata
Specification"; Trustee, ``kbs/docs/initdata.md``). The digest is over the text byte for byte. The text is a stranger's: reading it takes linear time, and what it says counts only once its
digest is found in the evidence.
"""

from __future__ import annotations

import hashlib
import math
import re
import tomllib
from dataclasses import dataclass, field
from datetime import date, time
from typing import TYPE_CHECKING, Any, Final

from eaa._json import parse_json
from eaa.rats import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["ALGORITHMS", "MAX_INIT_DATA", "InitDocument", "parse_init_data"]

MAX_INIT_DATA: Final = 1 << 20
"""Bytes of one text; kata's agent policies have some ten thousand."""
ALGORITHMS: Final = ("sha256", "sha384", "sha512")
VERSION: Final = "0.1.0"
_CONFIGURATIONS: Final = ("aa.toml", "cdh.toml")
"""Files whose content becomes claims member by member."""
_AGENT_POLICY: Final = "policy.rego"
_HINT: Final = 'Send {"format": "toml", "body": …} with the very text that the guest was launched with.'

_MAX_BARE: Final = 64 * 1024
"""Characters outside of strings and comments."""
_MAX_DOTS: Final = 16
"""Dots in one line of them; the standard library's reader takes quadratic time for a name of very many parts."""
_MAX_NESTING: Final = 32
_INTEGER_BITS: Final = 63
"""As TOML has it; a longer number would be beyond what JSON's readers take."""
_TOML_TEXT: Final = re.compile(
    r'''"""(?:[^"\\]|\\.|"{1,2}(?!"))*+"{3,5}|"(?:[^"\\\n]|\\.)*+"'''
    r"""|'''(?:[^']|'{1,2}(?!'))*+'{3,5}|'[^'\n]*+'|\#[^\n]*+"""
    r"""|["'].*+""",  # a string without end, at which any reader stops
    re.DOTALL,
)
_REGO_TEXT: Final = re.compile(
    r'"(?:[^"\\\n]|\\.)*+"|`[^`]*+`|\#[^\n]*+'
    r"|(?P<open>[\[{(])|(?P<close>[\])}])|(?P<name>[A-Za-z_]\w*+)|(?P<unended>[\"`])|(?P<other>\S)",
    re.ASCII,
)
_MAX_REGO: Final = 512 * 1024


@dataclass(frozen=True, slots=True)
class InitDocument:
    """Init-data that was read. ``digest`` is what the hardware carries; ``files`` are file names and their contents."""

    algorithm: str
    digest: bytes
    files: Mapping[str, str] = field(repr=False)

    def digest_in(self, size: int) -> bytes:
        """Return the digest as a field of ``size`` bytes holds it: cut, or followed by zeros."""
        return self.digest[:size].ljust(size, b"\0")

    def claims(self) -> dict[str, Any]:
        """Return the files as policies and tokens see them, under Trustee's names.

        ``aa.toml`` and ``cdh.toml`` become objects. ``policy.rego`` is left out; in its place stand the data that kata's generated
        policies hold, ``policy_data := {…}``, as ``agent_policy_claims``. They tell what the guest's agent is told, not that the policy around
        them applies it: an owner who relies on them has to know the policy, for instance by its digest.

        :raises ProtocolError: when one of the two files is not TOML that JSON can express.
        """
        claims: dict[str, Any] = {
            name: _toml(content, name) if name in _CONFIGURATIONS else content
            for name, content in self.files.items()
            if name != _AGENT_POLICY
        }
        data = _policy_data(self.files.get(_AGENT_POLICY, ""))
        if data is not None:
            claims["agent_policy_claims"] = data
        return claims


def parse_init_data(format_: str, body: str) -> InitDocument:
    """Read init-data as a guest sends it.

    :raises ProtocolError: when it is of another format or version, too long, or malformed.
    """
    if format_ != "toml":
        raise ProtocolError(f"init-data of format {format_[:20]!r}", hint=_HINT)
    try:
        raw = body.encode()
    except UnicodeEncodeError:
        raise ProtocolError("init-data is not Unicode text", hint=_HINT) from None
    if len(raw) > MAX_INIT_DATA:
        raise ProtocolError(f"init-data of {len(raw)} bytes, at most {MAX_INIT_DATA} are read")
    document = _toml(body, "init-data")
    if document.get("version") != VERSION:
        raise ProtocolError(f"init-data of a version other than {VERSION}", hint=_HINT)
    algorithm = document.get("algorithm")
    if algorithm not in ALGORITHMS:
        raise ProtocolError(
            "init-data names no hash algorithm that is known", hint=f"Known are: {', '.join(ALGORITHMS)}."
        )
    files = document.get("data")
    if not isinstance(files, dict) or not all(isinstance(each, str) for each in files.values()):
        raise ProtocolError("the data of init-data is no table of texts", hint=_HINT)
    return InitDocument(str(algorithm), hashlib.new(str(algorithm), raw).digest(), files)


def _toml(text: str, name: str) -> dict[str, Any]:
    """Return TOML as JSON values: dates and times as text.

    :raises ProtocolError: when it is not TOML, or nothing that JSON can express.
    """
    bare = _TOML_TEXT.sub('""', text)
    if len(bare) > _MAX_BARE or _nesting(bare) > _MAX_NESTING or _dots(bare) > _MAX_DOTS:
        raise ProtocolError(f"{name} is no plain configuration", hint=_HINT)
    try:
        return {key: _json(value) for key, value in tomllib.loads(text).items()}
    except (ValueError, RecursionError):
        raise ProtocolError(f"{name} is not TOML that JSON can express", hint=_HINT) from None


def _nesting(bare: str) -> int:
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", bare):
        depth += 1 if bracket in "[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _dots(bare: str) -> int:
    return max(line.count(".") for line in bare.split("\n"))


def _json(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _json(member) for key, member in value.items()}
    if isinstance(value, list):
        return [_json(member) for member in value]
    if isinstance(value, date | time):
        return value.isoformat()
    if (isinstance(value, float) and not math.isfinite(value)) or (
        isinstance(value, int) and value.bit_length() > _INTEGER_BITS
    ):
        raise ValueError
    return value


def _policy_data(policy: str) -> Any:
    """Return the object of the one rule ``policy_data := {…}`` of a Rego text, None when there is none or it could mean anything else.

    Whoever writes the text may try to show one value here and another to the guest's agent: in a comment, in a string, in a second
    definition, with a condition. Whatever is not exactly one plain definition is left out, and a policy that needs it denies.
    """
    if len(policy) > _MAX_REGO:
        return None
    depth, found, begin, end, stage, before = 0, 0, 0, 0, "", ""
    for match in _REGO_TEXT.finditer(policy if len(policy) <= _MAX_REGO else ""):
        kind, text = match.lastgroup, match.group()
        if text.startswith("#"):
            continue
        depth -= kind == "close"
        if depth == 0 and text == "policy_data":
            found, stage = found + 1, "name" if before != "." else "other"
        elif stage in _NEXT:
            stage, begin = _NEXT[stage].get(text, "other"), match.start()
        elif stage == "{" and depth == 0:
            stage, end = "end", match.end()
        elif stage == "end":
            # What follows a definition begins another one; anything else would change this one.
            stage = "defined" if kind == "name" and text not in _CONTINUES else "other"
        depth += kind == "open"
        before = text
        if stage == "other" or found > 1 or depth < 0 or kind == "unended":
            return None
    if stage not in {"end", "defined"}:
        return None
    try:
        return parse_json(policy[begin:end].encode(), _MAX_REGO)
    except ProtocolError:
        return None


_NEXT: Final[Mapping[str, Mapping[str, str]]] = {
    "name": {":": ":", "=": "="},
    ":": {"=": "="},
    "=": {"{": "{"},
}
_CONTINUES: Final = frozenset({"if", "else", "with", "in", "as", "contains"})
