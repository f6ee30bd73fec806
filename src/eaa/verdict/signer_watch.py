# SPDX-License-Identifier: Apache-2.0
"""Who may sign, looked at in the background: a key that is struck off takes its sets with it, though no set was changed."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from eaa.rats import ConfigurationError, UnavailableError
from eaa.verdict.signers import SignerPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

__all__ = ["SignerWatch"]

_log: Final = logging.getLogger("eaa.verdict")
_LOOK: Final = 1.0
"""Seconds between two looks."""


class SignerWatch:
    """Calls ``changed`` when ``signers`` says something else than it did; while it cannot be read, nobody may sign."""

    def __init__(self, signers: Callable[[], SignerPolicy], changed: Callable[[], Awaitable[object]]) -> None:
        self._signers, self._changed = signers, changed
        self._seen = self._readable()

    async def run(self, *, sleep: Callable[[float], Awaitable[object]] = asyncio.sleep) -> None:
        """Look for ever."""
        while True:
            await sleep(_LOOK)
            try:
                await self.look()
            except UnavailableError as unavailable:
                _log.warning("that others may sign now cannot be written down yet: %s", unavailable)

    async def look(self) -> None:
        """Look once.

        :raises UnavailableError: when the change cannot be written down; the next look tries again.
        """
        found = await asyncio.to_thread(self._readable)
        if found != self._seen:
            await self._changed()
            self._seen = found
            _log.info("who may sign has changed")

    def _readable(self) -> SignerPolicy:
        try:
            return self._signers()
        except ConfigurationError:
            return SignerPolicy(())
