# SPDX-License-Identifier: Apache-2.0
"""Sessions are found by their verdict, too: a token opens as long as the session does that its verdict began."""

from typing import Final

from alembic import op

revision: Final = "0002"
down_revision: Final = "0001"


def upgrade() -> None:
    """Index the sessions by verdict."""
    op.create_index("ix_sessions_verdict_id", "sessions", ["verdict_id"])
