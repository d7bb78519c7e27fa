"""The schema: made at once or by migrations, it is the same, in both kinds of database."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine, insert

from pipe.store import Store, User, schema, tables

if TYPE_CHECKING:
    from collections.abc import Iterator

    from alembic.config import Config
    from sqlalchemy import Connection, Engine

    from tests.postgres import Postgres

_QUERIES = {
    "sqlite": ["SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL"],
    "postgresql": [
        "SELECT table_name, column_name, data_type, character_maximum_length, is_nullable,"
        " column_default FROM information_schema.columns WHERE table_schema = 'public'",
        "SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint"
        " WHERE connamespace = 'public'::regnamespace",
        "SELECT tablename, indexdef FROM pg_indexes WHERE schemaname = 'public'",
    ],
}


def with_driver(url: str) -> str:
    """The URL for SQLAlchemy itself, which would choose another driver."""
    return url.replace("postgresql:", "postgresql+psycopg:")


def config_for(connection: Connection) -> Config:
    """Alembic's configuration, for the commands that a server never runs."""
    config = schema.alembic_config()
    config.attributes["connection"] = connection
    return config


def test_head_is_the_newest_migration() -> None:
    """The revision in the code is the one that Alembic finds in the package."""
    assert ScriptDirectory.from_config(schema.alembic_config()).get_heads() == [schema.HEAD]


def describe(connection: Connection) -> list[str]:
    """All that the database itself knows of its tables."""
    queries = _QUERIES[connection.dialect.name]
    rows = [row for query in queries for row in connection.exec_driver_sql(query)]
    return sorted("".join(str(row).split()) for row in rows)


@pytest.fixture(params=["sqlite", "postgresql"])
def engines(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[list[Engine]]:
    """Two empty databases of one kind."""
    if request.param == "sqlite":
        urls = [f"sqlite:///{tmp_path / name}" for name in ("one", "two")]
    else:
        postgres: Postgres = request.getfixturevalue("postgres")
        urls = [with_driver(postgres.new_database()) for _ in range(2)]
    engines = [create_engine(url) for url in urls]
    yield engines
    for engine in engines:
        engine.dispose()


def test_migrations_lead_to_the_tables(engines: list[Engine]) -> None:
    """The migrations, one after the other, make what an empty database gets at once."""
    made = []
    for engine, act in zip(engines, (schema.migrate, schema.upgrade), strict=True):
        with engine.begin() as connection:
            act(connection)
            assert schema.revision(connection) == schema.HEAD
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, tables.metadata) == []
            made.append(describe(connection))
    assert made[0] == made[1]
    assert len(made[0]) > len(tables.metadata.tables)


def test_migrations_lead_back(engines: list[Engine]) -> None:
    """Each migration can be taken back."""
    with engines[0].begin() as connection:
        schema.upgrade(connection)
        command.downgrade(config_for(connection), "base")
        assert schema.revision(connection) is None


async def test_a_database_of_the_first_version(url: str) -> None:
    """Servers that start together on an older database migrate it once, and keep what it holds."""
    engine = create_engine(with_driver(url))
    if url.startswith("sqlite"):
        Path(str(engine.url.database)).parent.mkdir()
        with engine.connect() as connection:  # as the server that made it left it
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with engine.begin() as connection:
        command.upgrade(config_for(connection), "0001")
        connection.execute(insert(tables.users).values(name="bob", admin=True, created=1.5))
    engine.dispose()
    stores = await asyncio.gather(*(Store.open(url, busy_timeout=60) for _ in range(3)))
    assert [await store.list_users() for store in stores] == [(User("bob", True, 1.5),)] * 3
    await asyncio.gather(*(store.close() for store in stores))


def test_alembic_is_not_imported_without_need(url: str) -> None:
    """Neither a first start nor a later one pays for Alembic's memory."""
    program = (
        "import asyncio, sys\n"
        "from pipe.store import Store\n"
        "async def main(): await (await Store.open(sys.argv[1])).close()\n"
        "for _ in range(2): asyncio.run(main())\n"
        "sys.exit('alembic' in sys.modules)\n"
    )
    assert subprocess.run([sys.executable, "-c", program, url], check=False).returncode == 0
