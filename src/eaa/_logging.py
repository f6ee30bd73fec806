# SPDX-License-Identifier: Apache-2.0
"""Structured logs of the daemons on standard error, one JSON object per line, in which no secret can appear by its name.

An exception is logged by its kind and where it happened, never by its text, which may repeat what it failed on; so is one that a
library logs.
"""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["configure_logging", "describe_fault"]

REDACTED: Final = "[redacted]"
_SECRET_WORDS: Final = (
    "authorization", "cookie", "credential", "key", "nonce", "passphrase", "password", "plaintext", "secret", "session", "token",
)  # fmt: skip
_NOT_SECRET: Final = frozenset({"key_provider"})
_CHATTY: Final = (
    "uvicorn", "uvicorn.error", "httpx2", "httpcore2", "sqlalchemy", "aiosqlite", "alembic", "asyncio",
)  # fmt: skip
"""Libraries of which what they say below WARNING is said by us, without every URL and statement."""
_FRAMES: Final = 8


def configure_logging(level: str = "INFO") -> None:
    """Send the logs of this program and of its libraries to standard error; ``level`` is a name of either case."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        _without_text,
        redact,
    ]
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                structlog.processors.JSONRenderer(),
            ],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for library in map(logging.getLogger, _CHATTY):
        library.setLevel(logging.WARNING)
        # A handler of its own would write past ours, with all that is left out here.
        library.handlers.clear()
        library.propagate = True


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank every field whose name speaks of a secret, and every field of bytes."""
    for name, value in event.items():
        secret = name not in _NOT_SECRET and any(word in name.lower() for word in _SECRET_WORDS)
        if secret or isinstance(value, bytes | bytearray | memoryview):
            event[name] = REDACTED
    return event


def _without_text(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Put where it happened in the place of an exception; of the message that came with it, keep the first line.

    What stands below that is, in asyncio's messages for one, the exception again.
    """
    event.pop("stack_info", None)
    given = event.pop("exc_info", None)
    error = sys.exception() if given is True else given[1] if isinstance(given, tuple) else given
    if isinstance(error, BaseException):
        event["event"] = str(event.get("event")).partition("\n")[0]
        event.update(describe_fault(error))
    return event


def describe_fault(error: BaseException) -> dict[str, Any]:
    """Return where an unexpected error happened. Its message is left out: it may repeat what it failed on."""
    frames = traceback.extract_tb(error.__traceback__)[-_FRAMES:]
    return {
        "fault": type(error).__name__,
        "at": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }
