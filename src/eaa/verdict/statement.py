# SPDX-License-Identifier: Apache-2.0
"""Statements about artifacts: in-toto Attestation Framework, Statement v1.

Statements of ours are written in the canonical JSON of RFC 8785, so that the same statement has the same bytes and digest
everywhere. Statements of others are read in any JSON. What a predicate says is for whoever knows its type.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from eaa._json import parse_json
from eaa.verdict.errors import StatementError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["MAX_STATEMENT", "MAX_SUBJECTS", "STATEMENT_TYPE", "Artifact", "Statement", "parse_statement"]

STATEMENT_TYPE: Final = "https://in-toto.io/Statement/v1"
MAX_STATEMENT: Final = 4 << 20
MAX_SUBJECTS: Final = 1024
_MAX_TEXT: Final = 1024
_ALGORITHM: Final = re.compile(r"[A-Za-z0-9_.:-]{1,32}", re.ASCII)
_HEX: Final = re.compile(r"([0-9a-f]{2}){1,64}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Artifact:
    """Something that was built or measured, by what it is called and its digests: algorithm and lower-case hex, sorted.

    :raises StatementError: when the name is empty, or a digest is none.
    """

    name: str
    digests: tuple[tuple[str, str], ...]

    def __post_init__(self) -> None:
        if not (0 < len(self.name) <= _MAX_TEXT and self.name.isprintable()):
            raise StatementError(f"an artifact's name is empty, not printable or over {_MAX_TEXT} characters")
        if not self.digests or list(self.digests) != sorted(dict(self.digests).items()):
            raise StatementError(
                f"the artifact {self.name[:200]!r} has no digest, or not one of each algorithm"
            )
        for algorithm, digest in self.digests:
            if not (_ALGORITHM.fullmatch(algorithm) and _HEX.fullmatch(digest)):
                raise StatementError(
                    f"the artifact {self.name[:200]!r} has a digest that is not lower-case hex"
                )

    @classmethod
    def of(cls, name: str, content: bytes) -> Artifact:
        """Return the artifact of that name and content."""
        return cls(name, (("sha256", sha256(content).hexdigest()),))

    @property
    def sha256(self) -> str | None:
        """The SHA-256 in hex, if it is known."""
        return dict(self.digests).get("sha256")

    def to_json(self) -> dict[str, Any]:
        """Return the artifact as an in-toto ResourceDescriptor."""
        return {"name": self.name, "digest": dict(self.digests)}

    @classmethod
    def from_json(cls, value: Any) -> Artifact:
        """Read a ResourceDescriptor that has a name and a digest; its other members are not looked at.

        :raises StatementError: when it lacks one of them.
        """
        if not isinstance(value, dict):
            raise StatementError("a subject is not an object")
        name, digest = value.get("name"), value.get("digest")
        if not isinstance(name, str) or not isinstance(digest, dict):
            raise StatementError("a subject has no name or no digest")
        if not all(isinstance(each, str) for each in digest.values()):
            raise StatementError("a subject has a digest that is no text")
        return cls(name, tuple(sorted(digest.items())))


@dataclass(frozen=True, slots=True)
class Statement:
    """What somebody says about artifacts: ``predicate``, to be read as ``predicate_type`` has it."""

    subject: tuple[Artifact, ...]
    predicate_type: str
    predicate: Mapping[str, Any]

    def to_bytes(self) -> bytes:
        """Return the statement in canonical JSON (RFC 8785).

        :raises StatementError: when it holds what JSON cannot say exactly, or is too large.
        """
        value: dict[str, Any] = {
            "_type": STATEMENT_TYPE,
            "subject": [each.to_json() for each in self.subject],
            "predicateType": self.predicate_type,
            "predicate": dict(self.predicate),
        }
        try:
            data = rfc8785.dumps(value)
        except (rfc8785.CanonicalizationError, UnicodeError, RecursionError) as error:
            raise StatementError(f"the statement has no canonical form: {type(error).__name__}") from error
        if len(data) > MAX_STATEMENT:
            raise StatementError(f"a statement of {len(data)} bytes, at most {MAX_STATEMENT} are written")
        return data

    @property
    def digest(self) -> str:
        """The SHA-256, in hex, of the canonical bytes: the statement's identity."""
        return sha256(self.to_bytes()).hexdigest()


def parse_statement(data: bytes) -> Statement:
    """Read an in-toto Statement v1 of at most :data:`MAX_STATEMENT` bytes.

    :raises StatementError: when it is none, or says nothing about an artifact.
    """
    value = parse_json(data, MAX_STATEMENT, error=StatementError)
    if not isinstance(value, dict):
        raise StatementError("a statement is a JSON object")
    if value.get("_type") != STATEMENT_TYPE:
        raise StatementError("this is no in-toto Statement v1", hint=f'Its _type must be "{STATEMENT_TYPE}".')
    subject, kind, predicate = (value.get(name) for name in ("subject", "predicateType", "predicate"))
    if not isinstance(subject, list) or not 1 <= len(subject) <= MAX_SUBJECTS:
        raise StatementError(f"a statement has from 1 to {MAX_SUBJECTS} subjects")
    if not isinstance(kind, str) or not 0 < len(kind) <= _MAX_TEXT:
        raise StatementError("the statement has no predicateType")
    if not isinstance(predicate, dict):
        raise StatementError("the statement's predicate is not an object")
    return Statement(tuple(Artifact.from_json(each) for each in subject), kind, predicate)
