"""One database: its connections, its transactions, and a stamp that shows changes.

Rules:

- One thread does all work, one transaction after the other, so that the event loop never waits for
  a disk or a network.
- Cancelling leaves a transaction done or not begun, never half done.
- Nobody waits longer than `ANSWER_TIMEOUT`.  Requests from before a failure all get that failure,
  rather than each waiting in turn for the next one.
- A database that cannot be used is `StoreUnavailable` with one line, whatever the driver raised.
- `Database.stamp` is new after every change, even one by another process.
"""

from __future__ import annotations

import asyncio
import os
import queue
import sqlite3
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, TypeVar

from sqlalchemy import Connection, Engine, create_engine, event, text
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, IntegrityError, SQLAlchemyError

from pipe.errors import StoreUnavailable
from pipe.language.names import escape
from pipe.store import schema

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

BUSY_TIMEOUT = 5.0
"""Seconds to wait while another process writes (SQLite), or for a connection (PostgreSQL): both
take milliseconds."""

ANSWER_TIMEOUT = 10.0
"""Seconds until a request fails for lack of an answer; a login may take 20 in all."""

FOREIGN_CHANGE_SECONDS = 1.0
"""How late another process's change may be seen in PostgreSQL.  LISTEN would tell sooner, but on a
separate connection that can be cut off unnoticed, so it would need a bound like this too."""

_DIRECTORY_MODE = 0o700
_FILE_MODE = 0o600
_DRIVERS = {"sqlite": "sqlite+pysqlite", "postgresql": "postgresql+psycopg"}

_WRITES = "pipe_writes"
"""The execution option of transactions that write.  SQLite must lock when they begin: one that
writes after reading fails at once if another wrote meanwhile, whatever the busy timeout."""

_MIGRATION_LOCK = int.from_bytes(b"pipe")
"""PostgreSQL's advisory lock for servers that start at the same moment; any number would do."""

T = TypeVar("T")


class Database:
    """An open database.  Make it with `Database.open`."""

    def __init__(self, engine: Engine, place: str, file: Path | None) -> None:
        self._engine = engine
        self._writer = engine.execution_options(**{_WRITES: True})
        self._place = place
        self._file = file
        self._identity: tuple[int, int] | None = None
        self._worker = _Worker()
        self._watch = _FileWatch(file) if file else None
        self._changes = 0
        self._failure: StoreUnavailable | None = None
        self._failed_at = 0.0

    @classmethod
    async def open(cls, url: str, *, busy_timeout: float = BUSY_TIMEOUT) -> Self:
        """Open the database; create or migrate it if needed.

        Args:
            url: ``sqlite:///path``, ``sqlite://`` (in memory) or ``postgresql://…``; it may name a
                driver (``postgresql+psycopg``).
            busy_timeout: Seconds to wait for another process's lock, or for a connection.

        Raises:
            StoreUnavailable: It cannot be reached, read, written or migrated.
        """
        target = _parse(url)
        place = f"accounts database {escape(_shown(target))}"
        try:
            engine = _make_engine(target, busy_timeout)
        except (SQLAlchemyError, ImportError) as error:
            raise StoreUnavailable(
                f"cannot use the {place}: {_reason(error)}; "
                "PostgreSQL needs pip install 'pipe-server[postgres]'"
            ) from error
        in_file = _is_sqlite(target) and target.database not in {None, "", ":memory:"}
        database = cls(engine, place, Path(str(target.database)) if in_file else None)
        try:
            await database._do(database._prepare)
        except BaseException:
            await database.close()
            raise
        return database

    async def close(self) -> None:
        """Close all connections; do not use the database afterwards."""
        if self._watch:
            self._watch.close()
        await self._worker.stop(self._engine.dispose)

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read in one transaction, on the store's own thread.

        Raises:
            StoreUnavailable: The database cannot be used.
        """
        return await self._do(lambda: self._transact(self._engine, work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write in one transaction, on the store's own thread.

        Raises:
            IntegrityError: A constraint forbids it; nothing has changed.
            StoreUnavailable: The database cannot be used.
        """
        return await self._do(lambda: self._transact(self._writer, work))

    def stamp(self) -> Hashable | None:
        """Return a value that differs once anything in the database may have changed.

        It costs microseconds and waits for nothing, so each login can ask.  SQLite shows all
        changes, including those of other processes; in PostgreSQL those may be seen
        `FOREIGN_CHANGE_SECONDS` late.

        Returns:
            A value to compare with an earlier one; None if it is unknown.
        """
        if self._watch:
            state = self._watch.look()
            return None if state is None else (self._changes, *state)
        if self._engine.dialect.name == "sqlite":
            return self._changes
        return self._changes, time.monotonic() // FOREIGN_CHANGE_SECONDS

    @property
    def tells_at_once(self) -> bool:
        """Whether `stamp` shows another process's change as soon as it is made."""
        return self._engine.dialect.name == "sqlite"

    def note_change(self) -> None:
        """Note that another process has changed something, as the database's log says."""
        self._changes += 1

    async def _do(self, work: Callable[[], T]) -> T:
        asked = time.monotonic()

        def unless_it_failed_meanwhile() -> T:
            if self._failure and asked < self._failed_at:
                raise StoreUnavailable(self._failure.message)
            try:
                return work()
            except StoreUnavailable as error:
                self._failure, self._failed_at = error, time.monotonic()
                raise

        try:
            async with asyncio.timeout(ANSWER_TIMEOUT):
                return await self._worker.order(unless_it_failed_meanwhile)
        except TimeoutError as error:
            raise StoreUnavailable(
                f"cannot use the {self._place}: no answer within {ANSWER_TIMEOUT:g} seconds"
            ) from error

    # -- on the store's own thread ----------------------------------------------------------------

    def _prepare(self) -> None:
        """Bring the schema to its head, after a check, so that a start takes no needless lock."""
        if self._file:
            _prepare_file(self._file, self._place)
            self._identity = _identity(self._file)
        if self._run(self._engine, schema.revision) != schema.HEAD:
            self._run(self._writer, self._upgrade)

    def _upgrade(self, connection: Connection) -> None:
        if connection.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:n)"), {"n": _MIGRATION_LOCK})
        schema.upgrade(connection)

    def _transact(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        self._follow_file()
        try:
            return self._run(engine, work)
        finally:
            if engine is self._writer:
                self._changes += 1

    def _run(self, engine: Engine, work: Callable[[Connection], T]) -> T:
        try:
            with engine.begin() as connection:
                return work(connection)
        except IntegrityError:
            raise
        except (SQLAlchemyError, OSError) as error:
            raise StoreUnavailable(f"cannot use the {self._place}: {_reason(error)}") from error

    def _follow_file(self) -> None:
        """Notice that the file is gone or was replaced, for example by a backup.

        SQLite itself would go on with the file that no longer has a name.
        """
        if self._file is None:
            return
        now = _identity(self._file)
        if now is None:
            raise StoreUnavailable(f"cannot use the {self._place}: the file is gone")
        if now != self._identity:
            self._engine.dispose()
            self._prepare()


def locate(url: str) -> tuple[str, Path | None]:
    """Say where a database is, without a password, and in which file if it is SQLite's.

    Raises:
        StoreUnavailable: The URL cannot be understood.
    """
    target = _parse(url)
    in_file = _is_sqlite(target) and target.database not in {None, "", ":memory:"}
    return escape(_shown(target)), Path(str(target.database)) if in_file else None


def peek(url: str, work: Callable[[Connection], T]) -> T:
    """Read in one transaction; nothing is made, migrated or written, and the caller waits.

    Raises:
        StoreUnavailable: The database cannot be reached or read, or an SQLite file is not there.
    """
    place, file = locate(url)
    try:
        engine = (
            create_engine("sqlite+pysqlite://", creator=lambda: _connect_to_read(file))
            if file
            else _make_engine(_parse(url), BUSY_TIMEOUT)
        )
        try:
            with engine.begin() as connection:
                if connection.dialect.name == "postgresql":
                    connection.execute(text("SET TRANSACTION READ ONLY"))
                return work(connection)
        finally:
            engine.dispose()
    except (SQLAlchemyError, OSError, ImportError) as error:
        raise StoreUnavailable(
            f"cannot use the accounts database {place}: {_reason(error)}"
        ) from error


def _connect_to_read(file: Path) -> sqlite3.Connection:
    """Open an SQLite file without making its second and third file, which others may not read."""
    in_use = all(file.with_name(f"{file.name}{end}").exists() for end in ("-wal", "-shm"))
    mode = "mode=ro" if in_use else "mode=ro&immutable=1"
    return sqlite3.connect(f"{file.absolute().as_uri()}?{mode}", uri=True, timeout=BUSY_TIMEOUT)


class _Worker:
    """A thread that does one piece of work after the other.

    It is a daemon, so that a database that never answers cannot keep the process from ending.
    """

    def __init__(self) -> None:
        self._orders: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="pipe-store", daemon=True)
        self._thread.start()

    def order(self, work: Callable[[], T]) -> asyncio.Future[T]:
        """Queue work and return a future; work that has begun is not cancelled."""
        future: Future[T] = Future()

        def carry_out() -> None:
            if not future.set_running_or_notify_cancel():
                return
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - whoever waits gets it, whatever it is
                future.set_exception(error)
            else:
                future.set_result(result)

        self._orders.put(carry_out)
        return asyncio.wrap_future(future)

    async def stop(self, last: Callable[[], None]) -> None:
        """Do one last piece of work, and end."""
        done = self.order(last)
        self._orders.put(None)
        await asyncio.wait({done}, timeout=ANSWER_TIMEOUT)

    def _work(self) -> None:
        while order := self._orders.get():
            order()
            del order  # do not keep its objects alive while the thread waits


class _FileWatch:
    """Tells whether an SQLite file has changed, over a separate connection.

    SQLite's ``data_version`` counts other connections' commits exactly, and is read from shared
    memory.  A file's time of change is too coarse: two commits may fall into one tick.
    """

    def __init__(self, file: Path) -> None:
        self._file = file
        self._connection: sqlite3.Connection | None = None
        self._identity: tuple[int, int] | None = None

    def look(self) -> tuple[int, ...] | None:
        """Return which file it is and how often it changed; None if it cannot be read now."""
        identity = _identity(self._file)
        if identity is None:
            return None
        try:
            if self._connection is None or identity != self._identity:
                self.close()
                self._connection = sqlite3.connect(
                    f"{self._file.absolute().as_uri()}?mode=rw",
                    uri=True,
                    timeout=0,
                    isolation_level=None,
                )
                self._identity = identity
            version: int = self._connection.execute("PRAGMA data_version").fetchone()[0]
        except sqlite3.Error:
            return None
        return (*identity, version)

    def close(self) -> None:
        """Close the connection."""
        if self._connection:
            self._connection.close()
            self._connection = None


def _parse(url: str) -> URL:
    try:
        target = make_url(url)
    except ArgumentError as error:
        raise StoreUnavailable("the URL of the accounts database cannot be understood") from error
    return target.set(drivername=_DRIVERS.get(target.drivername, target.drivername))


def _is_sqlite(url: URL) -> bool:
    return url.get_backend_name() == "sqlite"


def _shown(url: URL) -> str:
    """The path of a file, or the URL without its password."""
    if _is_sqlite(url):
        return url.database or ":memory:"
    return url.render_as_string(hide_password=True)


def _reason(error: BaseException) -> str:
    """The driver's message in one line; SQLAlchemy adds the statement and a link below it."""
    origin = error.orig if isinstance(error, DBAPIError) and error.orig else error
    return escape(next(iter(str(origin).splitlines()), type(origin).__name__))


def _identity(path: Path) -> tuple[int, int] | None:
    """The identity of the file that a path leads to now."""
    try:
        status = os.stat(path)  # noqa: PTH116 - each login asks, and this takes half as long
    except OSError:
        return None
    return status.st_dev, status.st_ino


def _make_engine(url: URL, busy_timeout: float) -> Engine:
    if _is_sqlite(url):
        engine = create_engine(url, connect_args={"timeout": busy_timeout})
        _prepare_sqlite(engine)
        return engine
    # What the URL says wins.  Both timeouts are the driver's, for hosts that do not answer.  There
    # are no prepared statements, so a pool in between (pgbouncer) works.
    arguments: dict[str, Any] = {
        "connect_timeout": max(2, round(busy_timeout)),
        "tcp_user_timeout": round(ANSWER_TIMEOUT * 1000),
        "application_name": "pipe",
        # Else a cluster that was made without a locale, of SQL_ASCII, sends bytes for text.
        "client_encoding": "utf8",
    }
    arguments = {name: value for name, value in arguments.items() if name not in url.query}
    return create_engine(
        url,
        connect_args={**arguments, "prepare_threshold": None},
        # One thread, one connection, which is checked before each use.
        pool_size=1,
        max_overflow=0,
        pool_pre_ping=True,
    )


def _prepare_file(path: Path, place: str) -> None:
    """Create the folder and file before SQLite does, so that nobody else can ever read them.

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


def _prepare_sqlite(engine: Engine) -> None:
    """Set what each connection needs, and begin transactions ourselves.

    Python's driver begins none before a SELECT or a CREATE TABLE, so a lookup and the change that
    depends on it would not be one step.
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

    event.listen(engine, "connect", connected)
    event.listen(engine, "begin", begun)
