# SPDX-License-Identifier: Apache-2.0
"""Verdictd's own logger; what its lines look like says :mod:`eaa._logging`."""

from __future__ import annotations

import structlog

__all__ = ["log"]

log: structlog.stdlib.BoundLogger = structlog.get_logger("eaa.verdictd")
