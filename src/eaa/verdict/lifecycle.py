# SPDX-License-Identifier: Apache-2.0
"""The states of a set of reference values, the table of what leads from one to the next, and the refusals.

Only an active set admits anybody. A set becomes active when it is signed by as many of its product's signers as are asked for, has not
expired, and has a higher version than any set of the product that was ever active. A rollback is the one way back for a set that was
active, and is said so; from revoked there is none.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar, Final

from eaa.rats import AccessDenied

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["TRANSITIONS", "Action", "SetRefused", "State", "next_state"]


class State(StrEnum):
    """Where a set stands."""

    PROPOSED = "proposed"
    ACTIVE = "active"
    RETIRED = "retired"
    REVOKED = "revoked"


class Action(StrEnum):
    """What is done to a set."""

    PROPOSE = "propose"
    ACTIVATE = "activate"
    SUPERSEDE = "supersede"
    """Another set of the product became active in its place."""
    RETIRE = "retire"
    ROLLBACK = "rollback"
    REVOKE = "revoke"


TRANSITIONS: Final[Mapping[tuple[State, Action], State]] = {
    (State.PROPOSED, Action.ACTIVATE): State.ACTIVE,
    (State.PROPOSED, Action.REVOKE): State.REVOKED,
    (State.ACTIVE, Action.SUPERSEDE): State.RETIRED,
    (State.ACTIVE, Action.RETIRE): State.RETIRED,
    (State.ACTIVE, Action.REVOKE): State.REVOKED,
    (State.RETIRED, Action.ROLLBACK): State.ACTIVE,
    (State.RETIRED, Action.REVOKE): State.REVOKED,
}
"""Everything that can happen; what is not here is refused."""


class SetRefused(AccessDenied):
    """A set may not do this from where it stands; nothing was changed. ``check`` names the rule that refused."""

    code: ClassVar[str] = "set.refused"


_HINTS: Final = {
    (State.ACTIVE, Action.ACTIVATE): "There is nothing to do.",
    (State.RETIRED, Action.ACTIVATE): "To go back to a set that was active before: eaa verdict rollback.",
    (State.PROPOSED, Action.ROLLBACK): "A set that was never active is activated: eaa verdict activate.",
    (State.PROPOSED, Action.RETIRE): "A proposal admits nobody; to rule it out for good: eaa verdict revoke.",
}


def next_state(state: State, action: Action, name: str) -> State:
    """Return the state that ``action`` leads to from ``state``, of the set called ``name``.

    :raises SetRefused: when the table has no such transition.
    """
    found = TRANSITIONS.get((state, action))
    if found is not None:
        return found
    if state is State.REVOKED:
        raise SetRefused(
            f"{name} is revoked, and a revoked set never returns",
            check="set.revoked",
            hint="Sign the values again in a set with a higher version, if they shall count.",
        )
    raise SetRefused(
        f"{name} is {state}; {action} does not apply",
        check="set.state",
        hint=_HINTS.get((state, action), "See: eaa verdict list"),
    )
