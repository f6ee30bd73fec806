# SPDX-License-Identifier: Apache-2.0
"""The signed index of a Verdict: which sets there are, and where each stands. Whoever subscribes compares its number with the last one.

An index is a statement under a signature of the Verdict's own key. It moves sets that a product's signers have signed, and admits nothing
by itself: each set's signatures are verified by the subscriber.
"""

from __future__ import annotations

from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Final

import rfc8785

from eaa.verdict.envelope import open_envelope
from eaa.verdict.errors import StatementError
from eaa.verdict.lifecycle import State
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from eaa._keys import PublicKey

__all__ = ["INDEX", "Index", "Listed", "open_index"]

INDEX: Final = "urn:eaa:verdict-index:1"
"""The predicate's type."""
MAX_SEQUENCE: Final = 2**53 - 1
_MAX_LISTED: Final = 32_768


@dataclass(frozen=True, slots=True)
class Listed:
    """One set of an index, by its digest, and where it stands."""

    digest: str
    state: State


@dataclass(frozen=True, slots=True)
class Index:
    """Every set of a Verdict at one of its changes; ``sequence`` counts those, and never goes back."""

    sequence: int
    sets: tuple[Listed, ...]

    def to_statement(self) -> Statement:
        """Return the index as a statement; its subject is the list."""
        listed: list[dict[str, Any]] = [
            {"digest": each.digest, "state": each.state.value} for each in self.sets
        ]
        subject = Artifact("sets", (("sha256", sha256(rfc8785.dumps(listed)).hexdigest()),))
        return Statement((subject,), INDEX, {"sequence": self.sequence, "sets": listed})

    @classmethod
    def from_statement(cls, statement: Statement) -> Index:
        """Read an index.

        :raises StatementError: when the statement is none.
        """
        predicate = statement.predicate
        sequence, listed = predicate.get("sequence"), predicate.get("sets")
        if statement.predicate_type != INDEX or predicate.keys() != {"sequence", "sets"}:
            raise StatementError("this is no index of a Verdict")
        if not isinstance(sequence, int) or isinstance(sequence, bool) or not 0 <= sequence <= MAX_SEQUENCE:
            raise StatementError("an index has a sequence, a whole number")
        if not isinstance(listed, list) or len(listed) > _MAX_LISTED:
            raise StatementError(f"an index lists at most {_MAX_LISTED} sets")
        found = cls(sequence, tuple(_listed(each) for each in listed))
        if len({each.digest for each in found.sets}) != len(found.sets):
            raise StatementError("an index lists a set twice")
        return found


def open_index(data: bytes, key: PublicKey) -> Index:
    """Return the index in an envelope that ``key`` has signed.

    :raises StatementError: when it is none.
    :raises SignatureRefused: when the key did not sign it.
    """
    return Index.from_statement(open_envelope(data, [key]).statement)


def _listed(value: Any) -> Listed:
    digest = value.get("digest") if isinstance(value, dict) else None
    state = value.get("state") if isinstance(value, dict) else None
    if not isinstance(digest, str) or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise StatementError("an index has a set without its digest")
    if not isinstance(state, str) or state not in list(State):
        raise StatementError("an index has a set in a state that is not known")
    return Listed(digest, State(state))
