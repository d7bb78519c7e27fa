"""The store: accounts, who gets a name, and databases that cannot be used."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import create_engine

from pipe.errors import BadName, Outcome, StoreError, StoreUnavailable
from pipe.store import NewKey, Store, schema, tables

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path


def new_key(name: str) -> NewKey:
    """Make a key: the store does not look into it."""
    return NewKey(f"SHA256:{name}", "ssh-ed25519", f"ssh-ed25519 {name}", f"{name}@host")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """The place of the database, in a folder that is not there yet."""
    return tmp_path / "data" / "pipe.db"


@pytest.fixture
def url(path: Path) -> str:
    """The URL of the database."""
    return f"sqlite:///{path}"


@pytest_asyncio.fixture
async def store(url: str) -> AsyncIterator[Store]:
    """An open store without users."""
    async with await Store.open(url) as store:
        yield store


def mode(path: Path) -> int:
    """The permission bits of a file or folder."""
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def not_a_database(path: Path) -> bytes:
    """Text where the database should be."""
    path.parent.mkdir()
    content = b"these are not the bytes of a database" * 100
    path.write_bytes(content)
    return content


@pytest.fixture
def damaged(url: str, path: Path) -> Path:
    """A database of which the first page's header is all that is left."""

    async def make() -> None:
        async with await Store.open(url) as store:
            await store.claim("bob", new_key("aaaa"))

    asyncio.run(make())
    content = path.read_bytes()
    path.write_bytes(content[:100] + b"\xff" * (len(content) - 100))
    return path


@pytest.fixture
def older_file(path: Path) -> Path:
    """An empty database that others can read."""
    path.parent.mkdir()
    path.touch(mode=0o644)
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A regular file."""
    file = tmp_path / "file"
    file.touch()
    return file


async def complaint(url: str) -> str:
    """Open a store that cannot be used, and return the one line that says why."""
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(url, busy_timeout=0.01)
    assert caught.value.outcome is Outcome.UNAVAILABLE
    assert caught.value.message.isprintable()
    return caught.value.message


async def test_users(store: Store) -> None:
    """A user that was added is found, listed by name, and gone after it was removed."""
    assert await store.get_user("bob") is None
    bob = await store.add_user("bob", admin=True)
    alice = await store.add_user("alice", keys=[new_key("aaaa"), new_key("bbbb")])
    assert (bob.name, bob.admin, alice.admin) == ("bob", True, False)
    assert await store.get_user("bob") == bob
    assert await store.list_users() == (alice, bob)
    assert {key.fingerprint for key in await store.remove_user("alice")} == {
        "SHA256:aaaa",
        "SHA256:bbbb",
    }
    assert await store.list_users() == (bob,)


async def test_keys(store: Store) -> None:
    """A key that was added is found under its user's name and no other."""
    await store.add_user("bob")
    await store.add_user("alice")
    added = await store.add_key("bob", new_key("aaaa"))
    assert (added.user, added.key_type, added.comment) == ("bob", "ssh-ed25519", "aaaa@host")
    assert (added.public, added.last_used) == ("ssh-ed25519 aaaa", None)
    assert await store.find_key("bob", "SHA256:aaaa") == added
    assert await store.find_key("alice", "SHA256:aaaa") is None
    assert await store.find_key("bob", "SHA256:aaa") is None
    assert await store.list_keys("alice") == ()
    assert await store.list_keys() == await store.list_keys("bob") == (added,)


async def test_touch_key(store: Store) -> None:
    """A key remembers when it was last used; one that is gone by then is no error."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    await store.touch_key("SHA256:aaaa", 1234.5)
    await store.touch_key("SHA256:gone")
    (key,) = await store.list_keys("bob")
    assert key.last_used == 1234.5
    await store.touch_key("SHA256:aaaa")
    (key,) = await store.list_keys("bob")
    assert key.last_used is not None
    assert key.last_used >= key.created


async def test_removing_a_user_removes_its_keys(store: Store, path: Path) -> None:
    """The database itself lets no key outlive its user."""
    await store.claim("bob", new_key("aaaa"))
    await store.remove_user("bob")
    assert await store.list_keys() == ()
    assert await store.claim("alice", new_key("aaaa"))
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute('SELECT fingerprint, "user" FROM keys').fetchall() == [
            ("SHA256:aaaa", "alice")
        ]


async def test_claim(store: Store) -> None:
    """The first key gets a free name; a name or key that is taken changes nothing."""
    assert await store.claim("bob", new_key("aaaa"))
    assert not await store.claim("bob", new_key("bbbb"))
    assert not await store.claim("alice", new_key("aaaa"))
    assert [user.name for user in await store.list_users()] == ["bob"]
    assert [key.fingerprint for key in await store.list_keys()] == ["SHA256:aaaa"]


async def test_concurrent_claims_of_one_name(store: Store) -> None:
    """Of many keys that claim one name at the same moment exactly one gets it."""
    keys = [new_key(f"key{number}") for number in range(10)]
    won = await asyncio.gather(*(store.claim("bob", key) for key in keys))
    assert won.count(True) == 1
    assert [key.fingerprint for key in await store.list_keys()] == [
        keys[won.index(True)].fingerprint
    ]


async def test_concurrent_claims_of_two_stores(store: Store, url: str) -> None:
    """Two servers on one database cannot both give a name away."""
    async with await Store.open(url) as other:
        won = await asyncio.gather(
            store.claim("bob", new_key("aaaa")), other.claim("bob", new_key("bbbb"))
        )
    assert sorted(won) == [False, True]


async def test_concurrent_claims_of_one_key(store: Store) -> None:
    """One key that claims two names at the same moment gets one."""
    won = await asyncio.gather(
        *(store.claim(name, new_key("aaaa")) for name in ("alice", "bob", "carol"))
    )
    assert won.count(True) == 1
    assert len(await store.list_users()) == 1


@pytest.mark.parametrize("name", ["", "root", "public", "Bob", "a/b", "é", "x" * 33])
async def test_bad_names(store: Store, name: str) -> None:
    """No way leads to a name outside the grammar."""
    with pytest.raises(BadName):
        await store.claim(name, new_key("aaaa"))
    with pytest.raises(BadName):
        await store.add_user(name)
    assert await store.list_users() == ()


async def test_no_such_user(store: Store) -> None:
    """What names a user that is not there says so and how to find the others."""
    for attempt in (
        store.remove_user("bob"),
        store.add_key("bob", new_key("aaaa")),
        store.remove_key("bob", "SHA256:aaaa"),
        store.list_keys("bob"),
    ):
        with pytest.raises(StoreError, match=r"^no user 'bob'; 'pipe user ls' lists them$"):
            await attempt


async def test_taken(store: Store) -> None:
    """A name or key that is taken is refused, and nobody learns whose key it is."""
    await store.add_user("bob", keys=[new_key("aaaa")])
    await store.add_user("carol")
    with pytest.raises(StoreError, match=r"^user 'bob' exists already$"):
        await store.add_user("bob")
    with pytest.raises(StoreError, match=r"^user 'bob' has the key SHA256:aaaa already$"):
        await store.add_key("bob", new_key("aaaa"))
    with pytest.raises(StoreError, match=r"^key SHA256:aaaa belongs to another user$"):
        await store.add_key("carol", new_key("aaaa"))
    with pytest.raises(StoreError, match=r"^key SHA256:aaaa belongs to another user$"):
        await store.add_user("alice", keys=[new_key("bbbb"), new_key("aaaa")])
    assert [user.name for user in await store.list_users()] == ["bob", "carol"]
    assert [key.fingerprint for key in await store.list_keys()] == ["SHA256:aaaa"]


async def test_remove_key(store: Store) -> None:
    """A key is named by the start of its fingerprint, with or without the name of the hash."""
    await store.add_user("bob", keys=[new_key("abcd1"), new_key("abcd2"), new_key("xyzz1")])
    await store.add_user("alice", keys=[new_key("xyzz2")])
    for start, expected in [
        ("", "at least 4 characters"),
        ("SHA256:xyz", "at least 4 characters"),
        ("abcd", "has 2 keys with the fingerprint 'SHA256:abcd'; 'pipe key ls bob' lists them"),
        ("xyzz2", "has no key"),
        ("ABCD1", "has no key"),
        ("%%%%", "has no key"),
    ]:
        with pytest.raises(StoreError, match=expected):
            await store.remove_key("bob", start)
    assert (await store.remove_key("bob", "xyzz")).fingerprint == "SHA256:xyzz1"
    assert (await store.remove_key("bob", "SHA256:abcd2")).fingerprint == "SHA256:abcd2"
    assert len(await store.list_keys()) == 2


async def test_accounts_outlive_the_server(url: str) -> None:
    """What was stored is there when the database is opened again."""
    async with await Store.open(url) as store:
        await store.claim("bob", new_key("aaaa"))
    async with await Store.open(url) as store:
        assert await store.find_key("bob", "SHA256:aaaa")


async def test_in_memory() -> None:
    """A URL without a file makes a store that is gone when it is closed."""
    async with await Store.open("sqlite://") as store:
        assert await store.claim("bob", new_key("aaaa"))


async def test_modes(store: Store, path: Path) -> None:
    """Folder, database and journals can be read by the server's user alone."""
    await store.claim("bob", new_key("aaaa"))
    assert mode(path) == mode(path.with_name("pipe.db-wal")) == 0o600
    assert mode(path.with_name("pipe.db-shm")) == 0o600
    assert mode(path.parent) == 0o700


async def test_mode_of_an_older_file(url: str, older_file: Path) -> None:
    """A database that others could read is closed to them."""
    async with await Store.open(url):
        assert mode(older_file) == 0o600


async def test_pragmas(store: Store, path: Path) -> None:
    """The journal is a write-ahead log: readers and a writer do not wait for each other."""
    await store.list_users()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_concurrent_first_opens(url: str) -> None:
    """Several programs that start on an empty folder all get the same, complete database."""
    stores = await asyncio.gather(*(Store.open(url) for _ in range(5)))
    won = await asyncio.gather(*(store.claim("bob", new_key("aaaa")) for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert won.count(True) == 1


async def test_not_a_database(url: str, path: Path, not_a_database: bytes) -> None:
    """A file that is no database is left as it is, and one line names it."""
    message = await complaint(url)
    assert message == f"cannot use the accounts database {path}: file is not a database"
    with path.open("rb") as file:
        assert file.read() == not_a_database


async def test_damaged_database(url: str, damaged: Path) -> None:
    """A database with damaged pages is unavailable, and one line names it."""
    message = await complaint(url)
    assert message == (
        f"cannot use the accounts database {damaged}: database disk image is malformed"
    )


async def test_below_a_regular_file(file: Path) -> None:
    """A folder that cannot be made is one line that names the path."""
    message = await complaint(f"sqlite:///{file}/data/pipe.db")
    assert message.endswith(f"{file}/data/pipe.db: Not a directory")


async def test_a_folder_in_place_of_the_file(tmp_path: Path) -> None:
    """A folder where the file should be is one line that names it."""
    assert "Is a directory" in await complaint(f"sqlite:///{tmp_path}")


async def test_locked_database(url: str, path: Path) -> None:
    """A database that another program keeps locked is unavailable after the busy timeout."""
    async with await Store.open(url, busy_timeout=0.01) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="database is locked"):
                await store.claim("bob", new_key("aaaa"))
            raw.execute("ROLLBACK")
        assert await store.claim("bob", new_key("aaaa"))


async def test_tables_of_another_program(url: str, older_file: Path) -> None:
    """A database with another program's table of the same name is left alone."""
    with closing(sqlite3.connect(older_file)) as raw:
        raw.execute("CREATE TABLE users (id INTEGER)")
    assert "already exists" in await complaint(url)
    with closing(sqlite3.connect(older_file)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("users",)]


async def test_a_newer_database(url: str, path: Path) -> None:
    """A database of a later version of the program is refused rather than misread."""
    async with await Store.open(url):
        pass
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "revision '9999'" in await complaint(url)


async def test_bad_urls() -> None:
    """A URL that names no database that we know is one line without its password."""
    assert "cannot be understood" in await complaint("nonsense")
    message = await complaint("oracle+nothing://me:secret@host/db")
    assert "secret" not in message
    assert "oracle" in message


def test_head_is_the_newest_migration() -> None:
    """The revision in the code is the one that Alembic finds in the package."""
    assert ScriptDirectory.from_config(schema.alembic_config()).get_heads() == [schema.HEAD]


def test_migrations_lead_to_the_tables(tmp_path: Path) -> None:
    """The migrations, one after the other, make what an empty database gets at once."""
    made = {}
    for way, act in {"migrated": schema.migrate, "created": schema.upgrade}.items():
        engine = create_engine(f"sqlite:///{tmp_path / way}")
        with engine.begin() as connection:
            act(connection)
            assert schema.revision(connection) == schema.HEAD
            context = MigrationContext.configure(connection)
            assert compare_metadata(context, tables.metadata) == []
            rows = connection.exec_driver_sql(
                "SELECT name, sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY name"
            )
            made[way] = [(name, "".join(sql.split())) for name, sql in rows]
        engine.dispose()
    assert made["migrated"] == made["created"]


def test_migrations_lead_back(tmp_path: Path) -> None:
    """Each migration can be taken back."""
    engine = create_engine(f"sqlite:///{tmp_path / 'pipe.db'}")
    with engine.begin() as connection:
        schema.upgrade(connection)
        config = schema.alembic_config()
        config.attributes["connection"] = connection
        command.downgrade(config, "base")
        assert schema.revision(connection) is None
    engine.dispose()


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
