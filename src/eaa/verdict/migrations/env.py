# SPDX-License-Identifier: Apache-2.0
"""What alembic runs: the steps, on the connection and in the transaction that :mod:`eaa.storage.migrate` has begun."""

from alembic import context

from eaa.verdict.schema import STEPS, metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=STEPS.version_table,
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
