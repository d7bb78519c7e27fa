"""The schema: made at once or by migrations, it is the same, in both kinds of database."""

from __future__ import annotations

import asyncio
import dataclasses
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, Table, create_engine, insert

from pipe.errors import StoreError
from pipe.store import GrantStore, Key, NewKey, Store, User, schema, tables

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


_OLD_USERS = [User("alice", False, 2.5), User("bob", True, 1.5)]
_OLD_KEYS = [
    Key("alice", "SHA256:aaaa", "ssh-ed25519", "ssh-ed25519 a", "it's \x1b[1m", 3.5, None),
    Key("bob", "SHA256:bbbb", "ssh-rsa", "ssh-rsa b", "", 4.5, 5.5),
    Key("bob", "SHA256:cccc", "ssh-ed25519", "ssh-ed25519 c", "b", 6.5, 7.5),
]


_OLD_GRANT = {
    "owner": "alice",
    "path": "x",
    "grantee": "bob",
    "can_read": True,
    "can_write": False,
    "until": None,
    "granted_by": "alice",
    "created": 8.5,
}


def _as_new(key: Key) -> NewKey:
    return NewKey(key.fingerprint, key.key_type, key.public, key.comment)


@pytest.mark.parametrize("revision", ["0001", "0002", "0003", "0004"])
async def test_an_older_database(url: str, revision: str) -> None:
    """Servers that start together on an older database migrate it once, and keep what it holds."""
    engine = create_engine(with_driver(url))
    if url.startswith("sqlite"):
        Path(str(engine.url.database)).parent.mkdir()
        with engine.connect() as connection:  # as the server that made it left it
            connection.exec_driver_sql("PRAGMA journal_mode=WAL")
    with engine.begin() as connection:
        command.upgrade(config_for(connection), revision)
        for name, rows in (("users", _OLD_USERS), ("keys", _OLD_KEYS)):
            table = Table(name, MetaData(), autoload_with=connection)
            for row in rows:
                values = {"shared": False, "proved": True, **dataclasses.asdict(row)}
                connection.execute(
                    insert(table), {name: values[name] for name in values if name in table.c}
                )
        if revision != "0001":
            grants = Table("grants", MetaData(), autoload_with=connection)
            connection.execute(insert(grants), _OLD_GRANT)
    engine.dispose()
    stores = await asyncio.gather(*(Store.open(url, busy_timeout=60) for _ in range(3)))
    assert [await store.list_users() for store in stores] == [tuple(_OLD_USERS)] * 3
    assert [await store.list_keys() for store in stores] == [tuple(_OLD_KEYS)] * 3
    held, _ = await GrantStore(stores[0].database).load()
    assert [str(one.topic) for one in held] == ([] if revision == "0001" else ["alice/x"])
    # What the tables are to hold together, old rows included.
    with pytest.raises(StoreError, match="belongs to another user"):
        await stores[0].add_key("alice", _as_new(_OLD_KEYS[1]))
    await stores[1].add_key("alice", _as_new(_OLD_KEYS[1]), shared=True)
    await stores[2].remove_user("bob")
    assert await stores[0].users_of("SHA256:bbbb") == ("alice",)
    await asyncio.gather(*(store.close() for store in stores))


def test_the_way_back_leaves_a_key_to_one(engines: list[Engine]) -> None:
    """An older version finds each key once: with whom it was before it was shared."""
    with engines[0].begin() as connection:
        schema.upgrade(connection)
        connection.execute(insert(tables.users), [dataclasses.asdict(row) for row in _OLD_USERS])
        for key in _OLD_KEYS:
            row = dataclasses.asdict(key)
            connection.execute(insert(tables.keys), {**row, "shared": False})
            other = "alice" if key.user == "bob" else "bob"
            if key is not _OLD_KEYS[2]:
                connection.execute(insert(tables.keys), {**row, "user": other, "shared": True})
        command.downgrade(config_for(connection), "0002")
        rows = connection.exec_driver_sql('SELECT fingerprint, "user" FROM keys ORDER BY 1')
        assert [tuple(row) for row in rows] == [(key.fingerprint, key.user) for key in _OLD_KEYS]
        command.upgrade(config_for(connection), "head")


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
