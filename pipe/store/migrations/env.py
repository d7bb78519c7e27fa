"""Alembic's entry point, which uses the connection of `pipe.store.schema`."""

from __future__ import annotations

from alembic import context

from pipe.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    # To alter a table SQLite makes a new one.  Dropping the old one deletes its rows, and with
    # foreign_keys on the deletion cascades: a step that does this to users must save the keys.
    render_as_batch=True,
)

# The caller's transaction is the only one, so all steps run or none do.
context.run_migrations()
