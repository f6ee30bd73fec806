# SPDX-License-Identifier: Apache-2.0
"""The signed index: what is written is read, and anything else is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eaa.verdict.envelope import seal
from eaa.verdict.errors import SignatureRefused, StatementError
from eaa.verdict.index import INDEX, Index, Listed, open_index
from eaa.verdict.lifecycle import State
from eaa.verdict.statement import Artifact, Statement

if TYPE_CHECKING:
    from eaa._keys import PrivateKey

SUBJECT = (Artifact.of("sets", b""),)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=70),
    lambda each: (
        st.lists(each, max_size=3)
        | st.dictionaries(st.sampled_from(("sequence", "sets", "digest", "state", "x")), each)
    ),
    max_leaves=8,
)


@given(
    st.integers(0, 2**53 - 1),
    st.lists(
        st.builds(Listed, DIGESTS, st.sampled_from(State)), unique_by=lambda each: each.digest, max_size=5
    ),
)
def test_what_is_written_is_read(sequence: int, sets: list[Listed]) -> None:
    index = Index(sequence, tuple(sets))
    assert Index.from_statement(index.to_statement()) == index


@given(JSON, JSON)
def test_anything_is_an_index_or_refused(sequence: Any, sets: Any) -> None:
    try:
        Index.from_statement(Statement(SUBJECT, INDEX, {"sequence": sequence, "sets": sets}))
    except StatementError:
        return
    assert isinstance(sequence, int)
    assert isinstance(sets, list)


@pytest.mark.parametrize(
    "predicate",
    [
        {"sequence": 1},
        {"sequence": True, "sets": []},
        {"sequence": -1, "sets": []},
        {"sequence": 2**53, "sets": []},
        {"sequence": 1, "sets": [], "more": 1},
        {"sequence": 1, "sets": [{"digest": "ab" * 32, "state": "lost"}]},
        {"sequence": 1, "sets": [{"digest": "AB" * 32, "state": "active"}]},
        {"sequence": 1, "sets": [{"digest": "ab" * 32, "state": "active"}] * 2},
        {"sequence": 1, "sets": ["ab" * 32]},
    ],
)
def test_an_unsound_index_is_refused(predicate: dict[str, Any]) -> None:
    with pytest.raises(StatementError):
        Index.from_statement(Statement(SUBJECT, INDEX, predicate))


def test_only_its_key_signs_an_index(keys: tuple[PrivateKey, ...]) -> None:
    index = Index(3, (Listed("ab" * 32, State.ACTIVE),))
    sealed = seal(index.to_statement(), keys[:1])
    assert open_index(sealed, keys[0].public_key()) == index
    with pytest.raises(SignatureRefused):
        open_index(sealed, keys[1].public_key())
