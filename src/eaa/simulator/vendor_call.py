# SPDX-License-Identifier: Apache-2.0
"""One request to the chip maker's services, as those who answer it see it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from datetime import datetime

    from starlette.datastructures import Headers, QueryParams
    from starlette.responses import Response

    from eaa.simulator.kds import KeyDistribution
    from eaa.simulator.publication import Publication

    Answer = Callable[["Call"], Response]

__all__ = ["Call", "Refused"]


class Refused(Exception):
    """The request cannot be answered; ``status`` says why, ``code`` is Intel's ``Error-Code`` if there is one."""

    def __init__(self, status: int, code: str = "") -> None:
        super().__init__(status)
        self.status = status
        self.code = code


class Call(NamedTuple):
    """One request, the time that it is answered as of, and what is published; ``kds`` is None where no SNP chips are made."""

    path: Mapping[str, str]
    query: QueryParams
    headers: Headers
    at: datetime
    publication: Publication
    kds: KeyDistribution | None
    wrong_fmspc: bool

    def hex(self, name: str, size: int) -> bytes:
        """Return the parameter ``name`` as bytes.

        :raises Refused: when it is not hex of ``size`` bytes.
        """
        text = self.query.get(name, "")
        if not re.fullmatch(f"[0-9A-Fa-f]{{{2 * size}}}", text):
            raise Refused(400, "InvalidRequestSyntax")
        return bytes.fromhex(text)
