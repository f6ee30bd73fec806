# SPDX-License-Identifier: Apache-2.0
"""The table of what can happen to a set: everything that is not in it is refused."""

from __future__ import annotations

from itertools import product

import pytest

from eaa.verdict.lifecycle import TRANSITIONS, Action, SetRefused, State, next_state


@pytest.mark.parametrize(("state", "action"), list(product(State, Action)))
def test_only_what_the_table_has_can_happen(state: State, action: Action) -> None:
    if (state, action) in TRANSITIONS:
        assert next_state(state, action, "acme/web@1") is TRANSITIONS[state, action]
        return
    with pytest.raises(SetRefused) as refused:
        next_state(state, action, "acme/web@1")
    assert refused.value.check == ("set.revoked" if state is State.REVOKED else "set.state")
    assert "acme/web@1" in str(refused.value)
    assert refused.value.hint


def test_from_revoked_no_way_leads_out() -> None:
    assert all(state is not State.REVOKED for state, _ in TRANSITIONS)


def test_only_activation_and_rollback_make_active() -> None:
    assert {action for (_, action), to in TRANSITIONS.items() if to is State.ACTIVE} == {
        Action.ACTIVATE,
        Action.ROLLBACK,
    }
