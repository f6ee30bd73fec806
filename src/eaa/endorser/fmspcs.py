# SPDX-License-Identifier: Apache-2.0
"""Intel's list of the families of platforms (FMSPCs) that it knows: read, kept and looked up.

The list is not signed, so it decides nothing: it lets the doctor tell a family that Intel does not know from one whose TCB info
could not be fetched.
"""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import TYPE_CHECKING, Final, NamedTuple

from sqlalchemy import insert, select, update

from eaa.endorser.schema import fmspcs, state
from eaa.rats import EndorsementError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from sqlalchemy import Connection

__all__ = ["LASTS", "PLATFORMS", "Families", "listed", "put", "read_fmspcs"]

PLATFORMS: Final = frozenset({"all", "client", "E3", "E5"})
"""What a list can be limited to; ``all`` is everything."""
LASTS: Final = timedelta(days=30)
"""For how long a list counts."""
_FMSPC: Final = re.compile(r"[0-9a-f]{12}")
_MAX_FMSPCS: Final = 10_000


class Families(NamedTuple):
    """The families in the newest list: FMSPC (12 hex digits) and kind of platform; when it came, and from where."""

    kinds: Mapping[str, str]
    at: datetime
    source: str


def read_fmspcs(body: bytes) -> dict[str, str]:
    """Read the body of ``fmspcs``. Nothing is verified here.

    :raises EndorsementError: when it is malformed or empty.
    """
    try:
        found = {each["fmspc"].lower(): each["platform"] for each in json.loads(body)}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise EndorsementError(f"no list of FMSPCs: {type(error).__name__}") from error
    if not 0 < len(found) <= _MAX_FMSPCS:
        raise EndorsementError(f"a list of {len(found)} FMSPCs, expected 1 to {_MAX_FMSPCS}")
    for fmspc, kind in found.items():
        if not _FMSPC.fullmatch(fmspc) or not isinstance(kind, str) or len(kind) > 32:
            raise EndorsementError("a list of FMSPCs has another entry in it")
    return found


def put(connection: Connection, root: str, kinds: Mapping[str, str], *, source: str, at: datetime) -> None:
    """Take a list in. Families that are no longer in it stay, with the time when they were last."""
    connection.execute(select(state.c.version).with_for_update())
    known = set(connection.scalars(select(fmspcs.c.fmspc).where(fmspcs.c.root == root)))
    for fmspc, kind in kinds.items():
        values = {"platform": kind, "last_listed": at, "source": source}
        if fmspc in known:
            where = (fmspcs.c.root == root) & (fmspcs.c.fmspc == fmspc)
            connection.execute(update(fmspcs).where(where).values(values))
        else:
            connection.execute(insert(fmspcs).values(root=root, fmspc=fmspc, first_listed=at, **values))


def listed(connection: Connection) -> dict[str, Families]:
    """Return the newest list of each chip maker, by its root's id."""
    c = fmspcs.c
    found: dict[str, Families] = {}
    for row in connection.execute(select(fmspcs).order_by(c.root, c.last_listed.desc(), c.fmspc)):
        held = found.setdefault(row.root, Families({}, row.last_listed, row.source))
        if row.last_listed == held.at:
            found[row.root] = held._replace(kinds={**held.kinds, row.fmspc: row.platform})
    return found
