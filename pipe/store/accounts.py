"""The store of accounts: what can be asked of it, and what can be changed.

Rules that it keeps:

- One key belongs to one user, and one name is given once, also when two ask at the same moment:
  the primary keys decide, no look-up before.
- Each method is one transaction.  Cancelling a method leaves all of it done or none.
- Nothing is cached: what ``pipe user`` and ``pipe key`` change beside a running server counts at
  the next login.
- A database that cannot be used is `StoreUnavailable` with one line, whatever the driver raised.
"""

from __future__ import annotations

import os
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from sqlalchemy import Connection, Row, Select, delete, event, func, insert, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from pipe.errors import StoreError, StoreUnavailable
from pipe.names import escape, parse_user, quoted
from pipe.store import schema
from pipe.store.records import Key, NewKey, User
from pipe.store.tables import keys as keys_table
from pipe.store.tables import users as users_table

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import AsyncIterator, Iterable
    from types import TracebackType

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another process writes: its transactions take milliseconds."""

MIN_PREFIX = 4
"""Characters of a fingerprint that name a key, so that a slip of the finger does not remove one."""

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_FINGERPRINT_START = "SHA256:"
_DRIVERS = {"sqlite": "sqlite+aiosqlite", "postgresql": "postgresql+asyncpg"}

_WRITES = "pipe_writes"
"""The execution option of transactions that write.  SQLite has to lock when they begin: one that
writes after it has read fails at once where another wrote meanwhile, busy timeout or not."""


class Store:
    """The accounts database.  Make it with `Store.open`; ``async with`` closes it."""

    def __init__(self, engine: AsyncEngine, place: str) -> None:
        self._reader = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._place = place

    @classmethod
    async def open(cls, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Open the database; create it, or migrate it, where that is due.

        Args:
            url: ``sqlite:///path``, ``sqlite://`` (in memory) or ``postgresql://…``; a driver may
                be named (``sqlite+aiosqlite``), and is chosen otherwise.
            busy_timeout: Seconds to wait for another process' lock (SQLite).

        Raises:
            StoreUnavailable: It cannot be reached, read, written or migrated.
        """
        target = _parse(url)
        place = f"accounts database {escape(_shown(target))}"
        if target.get_backend_name() == "sqlite" and target.database not in {None, "", ":memory:"}:
            _prepare_file(Path(str(target.database)), place)
        try:
            engine = create_async_engine(target, connect_args=_arguments(target, busy_timeout))
        except (SQLAlchemyError, ImportError) as error:
            raise StoreUnavailable(
                f"cannot use the {place}: {_reason(error)}; "
                "PostgreSQL needs pip install 'pipe-server[postgres]'"
            ) from error
        if target.get_backend_name() == "sqlite":
            _prepare_sqlite(engine)
        store = cls(engine, place)
        try:
            await store._migrate()
        except BaseException:
            await store.close()
            raise
        return store

    async def close(self) -> None:
        """Close all connections to the database."""
        await self._reader.dispose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def get_user(self, name: str) -> User | None:
        """Look a user up."""
        async with self._read() as connection:
            row = (await connection.execute(_user_named(name))).one_or_none()
        return _user(row) if row else None

    async def find_key(self, user: str, fingerprint: str) -> Key | None:
        """Look up whether a key logs this user in.

        Args:
            user: The name that the client wants to log in as.
            fingerprint: The whole fingerprint.
        """
        query = select(keys_table).where(
            keys_table.c.fingerprint == fingerprint, keys_table.c.user == user
        )
        async with self._read() as connection:
            row = (await connection.execute(query)).one_or_none()
        return _key(row) if row else None

    async def list_users(self) -> tuple[User, ...]:
        """All users, by name."""
        async with self._read() as connection:
            rows = await connection.execute(select(users_table).order_by(users_table.c.name))
            return tuple(_user(row) for row in rows)

    async def list_keys(self, user: str | None = None) -> tuple[Key, ...]:
        """The keys of one user or, without one, of all: by user, oldest first.

        Raises:
            StoreError: No such user.
        """
        query = select(keys_table).order_by(
            keys_table.c.user, keys_table.c.created, keys_table.c.fingerprint
        )
        async with self._read() as connection:
            if user is not None:
                await _require_user(connection, user)
                query = query.where(keys_table.c.user == user)
            return tuple(_key(row) for row in await connection.execute(query))

    async def claim(self, user: str, key: NewKey) -> bool:
        """Give a free name to the key that asks for it first.

        Returns:
            False if the name or the key is somebody's already; nothing has changed then.

        Raises:
            BadName: Nobody can have this name.
        """
        parse_user(user)
        try:
            async with self._write() as connection:
                await _insert_user(connection, user, admin=False)
                await _insert_key(connection, user, key)
        except IntegrityError:
            return False
        return True

    async def add_user(self, name: str, admin: bool = False, keys: Iterable[NewKey] = ()) -> User:
        """Register a user, all keys or none with it.

        Raises:
            BadName: Nobody can have this name.
            StoreError: The name is taken, or a key belongs to somebody already.
        """
        parse_user(name)
        async with self._write() as connection:
            try:
                await _insert_user(connection, name, admin=admin)
            except IntegrityError as error:
                raise StoreError(f"user {quoted(name)} exists already") from error
            for key in keys:
                await _insert_key_or_say_why_not(connection, name, key)
            return _user((await connection.execute(_user_named(name))).one())

    async def remove_user(self, name: str) -> tuple[Key, ...]:
        """Remove a user with all keys.

        Returns:
            The keys that went with it.

        Raises:
            StoreError: No such user.
        """
        async with self._write() as connection:
            await _require_user(connection, name)
            removed = await _keys_of(connection, name)
            await connection.execute(delete(users_table).where(users_table.c.name == name))
        return removed

    async def add_key(self, user: str, key: NewKey) -> Key:
        """Give a user one more key.

        Raises:
            StoreError: No such user, or the key belongs to somebody already.
        """
        async with self._write() as connection:
            await _require_user(connection, user)
            await _insert_key_or_say_why_not(connection, user, key)
            query = select(keys_table).where(keys_table.c.fingerprint == key.fingerprint)
            return _key((await connection.execute(query)).one())

    async def remove_key(self, user: str, fingerprint: str) -> Key:
        """Take a key from a user.

        Args:
            user: Whose key it is.
            fingerprint: All of it or its start, with or without ``SHA256:``.

        Returns:
            The key that was removed.

        Raises:
            StoreError: No such user; no key of the user starts so, or more than one does.
        """
        start = _FINGERPRINT_START + fingerprint.removeprefix(_FINGERPRINT_START)
        if len(start) < len(_FINGERPRINT_START) + MIN_PREFIX:
            raise StoreError(f"give at least {MIN_PREFIX} characters of the key's fingerprint")
        async with self._write() as connection:
            await _require_user(connection, user)
            found = [
                key for key in await _keys_of(connection, user) if key.fingerprint.startswith(start)
            ]
            if len(found) != 1:
                count = f"{len(found)} keys" if found else "no key"
                raise StoreError(
                    f"user {quoted(user)} has {count} with the fingerprint {quoted(start)}; "
                    f"'pipe key ls {escape(user)}' lists them"
                )
            await connection.execute(
                delete(keys_table).where(keys_table.c.fingerprint == found[0].fingerprint)
            )
        return found[0]

    async def touch_key(self, fingerprint: str, when: float | None = None) -> None:
        """Note that a key has logged in.

        Args:
            fingerprint: The whole fingerprint; one that is gone by now is no error.
            when: Seconds since 1970, UTC; default: now.
        """
        async with self._write() as connection:
            await connection.execute(
                update(keys_table)
                .where(keys_table.c.fingerprint == fingerprint)
                .values(last_used=time.time() if when is None else when)
            )

    async def _migrate(self) -> None:
        """Reach the schema's head: looked at first, so that a start takes no lock for nothing."""
        async with self._read() as connection:
            if await connection.run_sync(schema.revision) == schema.HEAD:
                return
        async with self._write() as connection:
            await connection.run_sync(schema.upgrade)

    @asynccontextmanager
    async def _read(self) -> AsyncIterator[AsyncConnection]:
        async with self._transaction(self._reader) as connection:
            yield connection

    @asynccontextmanager
    async def _write(self) -> AsyncIterator[AsyncConnection]:
        async with self._transaction(self._writer) as connection:
            yield connection

    @asynccontextmanager
    async def _transaction(self, engine: AsyncEngine) -> AsyncIterator[AsyncConnection]:
        try:
            async with engine.begin() as connection:
                yield connection
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(f"cannot use the {self._place}: {_reason(error)}") from error


def _parse(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError as error:
        raise StoreUnavailable("the URL of the accounts database cannot be understood") from error
    return target.set(drivername=_DRIVERS.get(target.drivername, target.drivername))


def _shown(url: URL) -> str:
    """The path of a file, or the URL without its password."""
    if url.get_backend_name() == "sqlite":
        return url.database or ":memory:"
    return url.render_as_string(hide_password=True)


def _reason(error: BaseException) -> str:
    """The driver's own words in one line; SQLAlchemy puts the statement and a link below them."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return escape(next(iter(str(origin).splitlines()), type(origin).__name__))


def _arguments(url: URL, busy_timeout: float) -> dict[str, object]:
    """What the driver's ``connect`` gets."""
    return {"timeout": busy_timeout} if url.get_backend_name() == "sqlite" else {}


def _prepare_file(path: Path, place: str) -> None:
    """Make folder and file before SQLite does, so that nobody else can ever read them.

    SQLite gives its journal files the mode of the database.
    """
    try:
        path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, _FILE_MODE)
        try:
            if os.fstat(descriptor).st_mode & 0o777 != _FILE_MODE:
                os.fchmod(descriptor, _FILE_MODE)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise StoreUnavailable(f"cannot use the {place}: {error.strerror}") from error


def _prepare_sqlite(engine: AsyncEngine) -> None:
    """Set what each connection needs, and begin transactions ourselves.

    Python's driver begins none before a SELECT or a CREATE TABLE, so that a look-up and what
    follows from it would not be one step.
    """

    def connected(connection: sqlite3.Connection, _record: object) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON"):
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    def begun(connection: Connection) -> None:
        immediate = connection.get_execution_options().get(_WRITES, False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    event.listen(engine.sync_engine, "connect", connected)
    event.listen(engine.sync_engine, "begin", begun)


def _user_named(name: str) -> Select[str, bool, float]:
    return select(users_table).where(users_table.c.name == name)


async def _keys_of(connection: AsyncConnection, user: str) -> tuple[Key, ...]:
    rows = await connection.execute(select(keys_table).where(keys_table.c.user == user))
    return tuple(_key(row) for row in rows)


async def _require_user(connection: AsyncConnection, name: str) -> None:
    query = select(func.count()).select_from(users_table).where(users_table.c.name == name)
    if not (await connection.execute(query)).scalar_one():
        raise StoreError(f"no user {quoted(name)}; 'pipe user ls' lists them")


async def _insert_user(connection: AsyncConnection, name: str, *, admin: bool) -> None:
    await connection.execute(
        insert(users_table).values(name=name, admin=admin, created=time.time())
    )


async def _insert_key(connection: AsyncConnection, user: str, key: NewKey) -> None:
    await connection.execute(
        insert(keys_table).values(
            fingerprint=key.fingerprint,
            user=user,
            key_type=key.key_type,
            public=key.public,
            comment=key.comment,
            created=time.time(),
        )
    )


async def _insert_key_or_say_why_not(connection: AsyncConnection, user: str, key: NewKey) -> None:
    """Insert a key; where it is somebody's already, do not tell a stranger whose."""
    query = select(keys_table.c.user).where(keys_table.c.fingerprint == key.fingerprint)
    owner = (await connection.execute(query)).scalar_one_or_none()
    if owner is None:
        try:
            await _insert_key(connection, user, key)
        except IntegrityError as error:  # another server was faster
            raise StoreError(f"key {key.fingerprint} belongs to another user") from error
    elif owner == user:
        raise StoreError(f"user {quoted(user)} has the key {key.fingerprint} already")
    else:
        raise StoreError(f"key {key.fingerprint} belongs to another user")


def _user(row: Row[*tuple[Any, ...]]) -> User:
    return User(name=row.name, admin=row.admin, created=row.created)


def _key(row: Row[*tuple[Any, ...]]) -> Key:
    return Key(
        user=row.user,
        fingerprint=row.fingerprint,
        key_type=row.key_type,
        public=row.public,
        comment=row.comment,
        created=row.created,
        last_used=row.last_used,
    )
