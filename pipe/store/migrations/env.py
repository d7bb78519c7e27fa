"""What Alembic runs to reach the database: it takes the connection that `pipe.store.schema` has."""

from __future__ import annotations

from alembic import context

from pipe.store import tables

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=tables.metadata,
    # SQLite alters a table by making it anew.  Dropping the old one deletes its rows, and with
    # foreign_keys on the deletion cascades: a step that does this to users has to save the keys.
    render_as_batch=True,
)

# The caller's transaction is the only one: all steps are taken, or none.
context.run_migrations()
