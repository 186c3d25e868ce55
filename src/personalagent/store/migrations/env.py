"""Alembic's entry: runs the migrations on the connection, and inside the transaction, that ``store.migrate`` hands over."""

from __future__ import annotations

from alembic import context

from personalagent.store.migrate import VERSION_TABLE
from personalagent.store.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    version_table=VERSION_TABLE,
    transactional_ddl=True,
    render_as_batch=True,
)
context.run_migrations()
