# SPDX-License-Identifier: Apache-2.0
"""Structured logs on standard error, one JSON object per line, in which no secret can appear by its name."""

from __future__ import annotations

import logging
import sys
import traceback
from typing import TYPE_CHECKING, Any, Final

import structlog

if TYPE_CHECKING:
    from collections.abc import MutableMapping

__all__ = ["configure_logging", "describe_fault", "log"]

REDACTED: Final = "[redacted]"
_SECRET_WORDS: Final = (
    "authorization", "cookie", "credential", "key", "nonce", "passphrase", "password", "plaintext", "secret", "session", "token",
)  # fmt: skip
_NOT_SECRET: Final = frozenset({"key_provider"})

log: structlog.stdlib.BoundLogger = structlog.get_logger("eaa.verdictd")


def redact(_: Any, __: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    """Blank every field whose name speaks of a secret, and every field of bytes."""
    for name, value in event.items():
        secret = name not in _NOT_SECRET and any(word in name.lower() for word in _SECRET_WORDS)
        if secret or isinstance(value, bytes | bytearray | memoryview):
            event[name] = REDACTED
    return event


def configure_logging(level: str = "INFO") -> None:
    """Send the logs of this program and of its libraries to standard error."""
    shared: list[Any] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
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
    root.setLevel(level)
    for library in ("uvicorn", "uvicorn.error", "sqlalchemy", "aiosqlite", "alembic", "asyncio"):
        logging.getLogger(library).setLevel(logging.WARNING)


def describe_fault(error: BaseException) -> dict[str, Any]:
    """Return where an unexpected error happened. Its message is left out: it may repeat what it failed on."""
    frames = traceback.extract_tb(error.__traceback__)[-8:]
    return {
        "fault": type(error).__name__,
        "at": [f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames],
    }
