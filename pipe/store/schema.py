"""Brings a database to the schema that this version of the program uses.

One query tells whether there is anything to do.  An empty database gets the tables in
`pipe.store.tables`; one from an earlier version is migrated step by step.  Alembic, which costs
11 MiB of memory, is imported only when it has work.  A test checks that both ways agree.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from sqlalchemy import (
    Column,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    insert,
    inspect,
    select,
)

from pipe.errors import StoreUnavailable
from pipe.language.names import quoted
from pipe.store import tables

if TYPE_CHECKING:
    from alembic.config import Config
    from sqlalchemy import Connection

HEAD = "0009"
"""The newest revision in ``migrations/versions``."""

_VERSION_TABLE = "alembic_version"

_version = Table(  # as Alembic defines it
    _VERSION_TABLE,
    MetaData(),
    Column("version_num", String(32), nullable=False),
    PrimaryKeyConstraint("version_num", name="alembic_version_pkc"),
)


def revision(connection: Connection) -> str | None:
    """Return the database's revision; None if it has none of our tables."""
    if not inspect(connection).has_table(_VERSION_TABLE):
        return None
    return connection.execute(select(_version.c.version_num)).scalar_one_or_none()


def upgrade(connection: Connection) -> None:
    """Create the tables, or migrate them to `HEAD`.

    Args:
        connection: In a transaction that keeps other writers out; the caller commits it.

    Raises:
        StoreUnavailable: The database is of a later version of the program.
    """
    current = revision(connection)
    if current is None:
        # Do not look for existing tables: those of another program must stay.
        tables.metadata.create_all(connection, checkfirst=False)
        _version.create(connection)
        connection.execute(insert(_version).values(version_num=HEAD))
    elif current != HEAD:
        migrate(connection)


def migrate(connection: Connection) -> None:
    """Run the missing migrations.

    Raises:
        StoreUnavailable: The database is of a later version of the program.
    """
    from alembic import command
    from alembic.util.exc import CommandError

    config = alembic_config()
    config.attributes["connection"] = connection
    try:
        command.upgrade(config, "head")
    except CommandError as error:
        raise StoreUnavailable(
            f"the accounts database is at revision {quoted(str(revision(connection)))}, which this "
            "version of pipe does not know: a newer one made it"
        ) from error


def known_revisions() -> frozenset[str]:
    """Return the revisions that this version of the program can migrate from, and `HEAD`."""
    from alembic.script import ScriptDirectory

    script = ScriptDirectory.from_config(alembic_config())
    return frozenset(step.revision for step in script.walk_revisions())


def alembic_config() -> Config:
    """Make Alembic's configuration; the migrations are inside the installed package."""
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", "pipe.store:migrations")
    return config
