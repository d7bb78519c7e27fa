"""Databases: opened, watched for changes, and unusable in all the ways there are."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import sqlite3
import stat
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from sqlalchemy.exc import SQLAlchemyError

from pipe.errors import Outcome, StoreUnavailable
from pipe.store import Store, database
from tests.postgres import Postgres

from .conftest import new_key

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


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
def damaged(sqlite_url: str, path: Path) -> Path:
    """A database of which the first page's header is all that is left."""

    async def make() -> None:
        async with await Store.open(sqlite_url) as store:
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


@pytest.fixture
def own_postgres() -> Iterator[Postgres]:
    """A PostgreSQL that a test may stop."""
    with Postgres() as postgres:
        yield postgres


def move(path: Path, place: Path) -> None:
    """Move a database with its journals to where nothing is."""
    assert not place.exists()
    for end in ("", "-wal", "-shm"):
        path.with_name(path.name + end).rename(place.with_name(place.name + end))


async def complaint(url: str) -> str:
    """Open a store that cannot be used, and return the one line that says why."""
    with pytest.raises(StoreUnavailable) as caught:
        await Store.open(url, busy_timeout=0.01)
    assert caught.value.outcome is Outcome.UNAVAILABLE
    assert caught.value.message.isprintable()
    return caught.value.message


async def test_modes(sqlite_store: Store, path: Path) -> None:
    """Folder, database and journals can be read by the server's user alone."""
    await sqlite_store.claim("bob", new_key("aaaa"))
    assert mode(path) == mode(path.with_name("pipe.db-wal")) == 0o600
    assert mode(path.with_name("pipe.db-shm")) == 0o600
    assert mode(path.parent) == 0o700


async def test_mode_of_an_older_file(sqlite_url: str, older_file: Path) -> None:
    """A database that others could read is closed to them."""
    async with await Store.open(sqlite_url):
        assert mode(older_file) == 0o600


async def test_pragmas(sqlite_store: Store, path: Path) -> None:
    """The journal is a write-ahead log: readers and a writer do not wait for each other."""
    await sqlite_store.list_users()
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("PRAGMA journal_mode").fetchone() == ("wal",)


async def test_concurrent_first_opens(url: str) -> None:
    """Several programs that start on an empty folder all get the same, complete database."""
    stores = await asyncio.gather(*(Store.open(url) for _ in range(5)))
    won = await asyncio.gather(*(store.claim("bob", new_key("aaaa")) for store in stores))
    await asyncio.gather(*(store.close() for store in stores))
    assert won.count(True) == 1


async def test_not_a_database(sqlite_url: str, path: Path, not_a_database: bytes) -> None:
    """A file that is no database is left as it is, and one line names it."""
    message = await complaint(sqlite_url)
    assert message == f"cannot use the accounts database {path}: file is not a database"
    with path.open("rb") as file:
        assert file.read() == not_a_database


async def test_damaged_database(sqlite_url: str, damaged: Path) -> None:
    """A database with damaged pages is unavailable, and one line names it."""
    message = await complaint(sqlite_url)
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


async def test_locked_database(sqlite_url: str, path: Path) -> None:
    """A database that another program keeps locked is unavailable after the busy timeout."""
    async with await Store.open(sqlite_url, busy_timeout=0.01) as store:
        with closing(sqlite3.connect(path, isolation_level=None)) as raw:
            raw.execute("BEGIN EXCLUSIVE")
            with pytest.raises(StoreUnavailable, match="database is locked"):
                await store.claim("bob", new_key("aaaa"))
            raw.execute("ROLLBACK")
        assert await store.claim("bob", new_key("aaaa"))


async def test_tables_of_another_program(sqlite_url: str, older_file: Path) -> None:
    """A database with another program's table of the same name is left alone."""
    with closing(sqlite3.connect(older_file)) as raw:
        raw.execute("CREATE TABLE users (id INTEGER)")
    assert "already exists" in await complaint(sqlite_url)
    with closing(sqlite3.connect(older_file)) as raw:
        assert raw.execute("SELECT name FROM sqlite_master").fetchall() == [("users",)]


async def test_a_newer_database(sqlite_url: str, path: Path) -> None:
    """A database of a later version of the program is refused rather than misread."""
    async with await Store.open(sqlite_url):
        pass
    with closing(sqlite3.connect(path)) as raw, raw:
        raw.execute("UPDATE alembic_version SET version_num = '9999'")
    assert "revision '9999'" in await complaint(sqlite_url)


async def test_bad_urls() -> None:
    """A URL that names no database that we know is one line without its password."""
    assert "cannot be understood" in await complaint("nonsense")
    message = await complaint("oracle+nothing://me:secret@host/db")
    assert "secret" not in message
    assert "oracle" in message


async def test_stamp(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stamp changes with each change and with nothing else."""
    monkeypatch.setattr(database, "FOREIGN_CHANGE_SECONDS", 1e9)
    stamps = [store.database.stamp()]
    for name in ("alice", "bob"):
        await store.add_user(name)
        stamps.append(store.database.stamp())
    assert len(set(stamps)) == 3
    await store.list_users()
    assert store.database.stamp() == stamps[-1]


async def test_stamp_of_another_process(sqlite_store: Store, path: Path) -> None:
    """Each commit of another program to the SQLite file changes the stamp, an open one does not."""
    with closing(sqlite3.connect(path, isolation_level=None)) as raw:
        stamps = [sqlite_store.database.stamp()]
        for number in range(20):
            raw.execute("BEGIN IMMEDIATE")
            raw.execute("INSERT INTO users VALUES (?, 0, 0)", (f"user{number}",))
            assert sqlite_store.database.stamp() == stamps[-1]
            raw.execute("COMMIT")
            stamps.append(sqlite_store.database.stamp())
    assert len(set(stamps)) == len(stamps)


async def test_the_file_is_gone_for_a_while(sqlite_store: Store, path: Path) -> None:
    """Without its file the database is unavailable, and all is well when the file is back."""
    await sqlite_store.claim("bob", new_key("aaaa"))
    assert await sqlite_store.find_key("bob", "SHA256:aaaa")
    move(path, path.with_name("away"))
    assert sqlite_store.database.stamp() is None
    with pytest.raises(StoreUnavailable, match="the file is gone"):
        await sqlite_store.find_key("bob", "SHA256:aaaa")
    with pytest.raises(StoreUnavailable, match="the file is gone"):
        await sqlite_store.claim("alice", new_key("bbbb"))
    move(path.with_name("away"), path)
    assert await sqlite_store.find_key("bob", "SHA256:aaaa")
    assert await sqlite_store.claim("alice", new_key("bbbb"))


async def test_another_file_takes_its_place(
    sqlite_store: Store, path: Path, tmp_path: Path
) -> None:
    """A backup that is put back counts at the next login, and what is written goes into it."""
    await sqlite_store.claim("bob", new_key("aaaa"))
    assert await sqlite_store.find_key("bob", "SHA256:aaaa")
    backup = tmp_path / "backup.db"
    async with await Store.open(f"sqlite:///{backup}") as other:
        await other.claim("bob", new_key("bbbb"))
    for end in ("-wal", "-shm"):
        path.with_name(path.name + end).unlink()
    backup.rename(path)
    assert await sqlite_store.find_key("bob", "SHA256:aaaa") is None
    assert await sqlite_store.find_key("bob", "SHA256:bbbb")
    assert await sqlite_store.claim("carol", new_key("cccc"))
    with closing(sqlite3.connect(path)) as raw:
        assert raw.execute("SELECT count(*) FROM users").fetchone() == (2,)


async def test_postgresql_is_gone_for_a_while(own_postgres: Postgres) -> None:
    """While PostgreSQL is down all is unavailable at once, and all is well when it is back."""
    async with await Store.open(own_postgres.new_database()) as store:
        await store.claim("bob", new_key("aaaa"))
        store.note_use("bob", "SHA256:aaaa", 5.0)
        await asyncio.to_thread(own_postgres.stop)
        with pytest.raises(StoreUnavailable) as caught:
            await store.list_users()
        assert caught.value.message.isprintable()
        for error in await asyncio.gather(
            *(store.find_login(f"user{number}") for number in range(20)), return_exceptions=True
        ):
            assert isinstance(error, StoreUnavailable)
        with pytest.raises(StoreUnavailable):
            await store.flush_uses()
        await asyncio.to_thread(own_postgres.start)
        assert await store.find_key("bob", "SHA256:aaaa")
        (key,) = await store.list_keys()
        assert key.last_used == 5.0
        assert await store.claim("alice", new_key("bbbb"))


async def test_postgresql_without_a_locale(postgres: Postgres) -> None:
    """A database of SQL_ASCII, as a Debian without a locale makes it, has any text."""
    async with await Store.open(postgres.new_database("SQL_ASCII")) as store:
        key = dataclasses.replace(new_key("aaaa"), comment="Schlüssel")
        await store.claim("bob", key)
        (found,) = await store.list_keys()
        assert found.comment == "Schlüssel"


async def test_a_host_that_does_not_answer() -> None:
    """A PostgreSQL that takes connections and says nothing is unavailable after a while."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(1)
        port = listener.getsockname()[1]
        message = await complaint(f"postgresql://me:secret@127.0.0.1:{port}/pipe")
    assert "secret" not in message
    assert f"127.0.0.1:{port}/pipe" in message


async def test_an_answer_that_does_not_come(
    sqlite_store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever waits for a database that hangs is told so, and the store can still be closed."""
    monkeypatch.setattr(database, "ANSWER_TIMEOUT", 0.05)
    release = threading.Event()
    try:
        with pytest.raises(StoreUnavailable, match=r"no answer within 0\.05 seconds"):
            await sqlite_store.database.read(lambda _connection: release.wait(30))
        with pytest.raises(StoreUnavailable, match="no answer"):
            await sqlite_store.list_users()
    finally:
        release.set()


async def test_who_asked_before_a_failure_shares_it(sqlite_url: str) -> None:
    """With a database that is away, those who wait do not each wait for another timeout."""
    async with await Store.open(sqlite_url) as store:
        attempts = 0

        def fail(_connection: object) -> None:
            nonlocal attempts
            attempts += 1
            raise SQLAlchemyError("away")

        outcomes = await asyncio.gather(
            *(store.database.read(fail) for _ in range(5)), return_exceptions=True
        )
        assert all(isinstance(outcome, StoreUnavailable) for outcome in outcomes)
        assert attempts == 1
        assert await store.list_users() == ()


async def test_cancelled_work_is_done_or_not_begun(sqlite_store: Store) -> None:
    """Who is cancelled while others are served leaves nothing half done, and nobody waiting."""
    attempts = [
        asyncio.ensure_future(sqlite_store.claim(f"user{number}", new_key(f"key{number}")))
        for number in range(10)
    ]
    await asyncio.sleep(0)
    for attempt in attempts[::2]:
        attempt.cancel()
    await asyncio.gather(*attempts, return_exceptions=True)
    users = {user.name for user in await sqlite_store.list_users()}
    assert users >= {f"user{number}" for number in range(1, 10, 2)}
    assert {key.user for key in await sqlite_store.list_keys()} == users


async def test_the_loop_goes_on(sqlite_store: Store) -> None:
    """While the database works the event loop is free."""
    turns = 0
    done = threading.Event()

    def work(_connection: object) -> bool:
        return done.wait(30)

    waiting = asyncio.ensure_future(sqlite_store.database.read(work))
    while turns < 100:
        await asyncio.sleep(0)
        turns += 1
    done.set()
    assert await waiting
