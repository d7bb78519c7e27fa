"""Monitors in the database: their terms, what they remember, and their history.

Rules:

- A user has at most `MAX_MONITORS`, one for each topic.  They go with the user.
- A monitor's history is its newest `MAX_CHANGES`, and nothing from before `KEPT_SECONDS` but the
  last change before that, which says how it was since.
- When a server watched is kept for as long.  A watch of less than `SHORT_WATCH` counts as none, so
  that a server that starts again and again fills nothing.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, bindparam, delete, func, insert, or_, select, update
from sqlalchemy.exc import IntegrityError

from pipe.errors import StoreError
from pipe.language.monitor_requests import On, Terms
from pipe.language.names import TopicName, quoted
from pipe.store.tables import monitor_changes as changes_table
from pipe.store.tables import monitor_feeds as feeds_table
from pipe.store.tables import monitor_watches as watches_table
from pipe.store.tables import monitors as table
from pipe.store.tables import users as users_table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from sqlalchemy import ColumnElement, Row

    from pipe.store.database import Database

MAX_MONITORS = 50
"""Monitors of one user: more than anybody looks at."""

MAX_CHANGES = 1000
KEPT_SECONDS = 366.0 * 86_400
"""How much history is kept, and how long."""

SHORT_WATCH = 60.0
MAX_WATCHES = 1000
"""See the module docstring; seconds, and rows."""

MAX_REASON = 255
"""Characters."""

_AT_ONCE = 100
"""Rows that are written in one transaction, so that no login waits long for them: 50 ms."""


@dataclass(frozen=True, slots=True)
class StoredMonitor:
    """One monitor."""

    number: int
    user: str
    admin: bool
    """Whether the user is an admin."""
    topic: TopicName
    terms: Terms
    alert: TopicName
    memory: str
    """JSON, of `pipe.events.monitors.monitor`."""
    created: float


@dataclass(frozen=True, slots=True)
class NewChange:
    """An entry of a monitor's history to be written."""

    monitor: int
    made: float
    state: str
    was: str
    reason: str


@dataclass(frozen=True, slots=True)
class StoredChange:
    """An entry of a monitor's history; the number is never used again."""

    number: int
    topic: TopicName
    made: float
    state: str
    was: str
    reason: str


@dataclass(frozen=True, slots=True)
class Feeds:
    """A user's secret addresses: what they are derived from, and their SHA-256."""

    user: str
    salt: str
    feed: str
    badge: str
    page: str


class MonitorStore:
    """The monitors in a database.  Each method is one transaction, but for `save`."""

    def __init__(self, database: Database) -> None:
        self._database = database

    # -- monitors ---------------------------------------------------------------------------------

    async def load(self, user: str | None = None) -> tuple[StoredMonitor, ...]:
        """Read all monitors, or one user's."""

        def work(connection: Connection) -> tuple[StoredMonitor, ...]:
            conditions = [] if user is None else [table.c.user == user]
            return _select(connection, *conditions)

        return await self._database.read(work)

    async def put(
        self, user: str, topic: TopicName, terms: Terms, alert: TopicName, memory: str
    ) -> StoredMonitor:
        """Add a monitor, or change the terms of the one that the topic has.

        Args:
            user: Whose.
            topic: What is watched.
            terms: What is expected.
            alert: Where alerts go.
            memory: For a new one.

        Raises:
            StoreError: The user has as many as allowed, or is gone.
        """
        values = {
            "every": terms.every,
            "grace": terms.grace,
            "kind": terms.on.value,
            "remind": terms.remind,
            "min_bytes": terms.min_bytes,
            "min_rate": terms.min_rate,
            "alert": str(alert),
        }

        def work(connection: Connection) -> StoredMonitor:
            lock = select(users_table.c.name).where(users_table.c.name == user)
            connection.execute(lock.with_for_update())
            found = connection.execute(update(table).where(_of(user, topic)).values(values))
            if not found.rowcount:
                count = select(func.count()).select_from(table).where(table.c.user == user)
                if connection.execute(count).scalar_one() >= MAX_MONITORS:
                    raise StoreError(
                        f"you have {MAX_MONITORS} monitors, which is as many as there can be:"
                        " 'monitors' lists them, 'monitor rm' ends one"
                    )
                name = {"user": user, "owner": topic.owner, "path": "/".join(topic.path)}
                rest = {"memory": memory, "created": time.time()}
                connection.execute(insert(table).values({**name, **values, **rest}))
            return _select(connection, _of(user, topic))[0]

        try:
            return await self._database.write(work)
        except IntegrityError as error:
            raise StoreError(f"there is no user {quoted(user)} any more") from error

    async def remove(self, user: str, topic: TopicName) -> bool:
        """Remove a monitor with its history, and return whether there was one."""

        def work(connection: Connection) -> bool:
            return bool(connection.execute(delete(table).where(_of(user, topic))).rowcount)

        return await self._database.write(work)

    async def save(self, memories: Mapping[int, str], changes: Sequence[NewChange] = ()) -> None:
        """Store what monitors remember, and entries of their history; none may be there any more.

        Raises:
            StoreUnavailable: The database cannot be used; some may be stored.
        """
        statement = (
            update(table)
            .where(table.c.number == bindparam("which"))
            .values(memory=bindparam("text"))
        )
        # Sorted, so that two servers never wait for each other's rows in PostgreSQL.
        values = [{"which": number, "text": text} for number, text in sorted(memories.items())]

        def work(connection: Connection, first: int) -> None:
            part = values[first : first + _AT_ONCE]
            if part:
                connection.execute(statement, part)
            _write(connection, changes[first : first + _AT_ONCE])

        for first in range(0, max(len(values), len(changes)), _AT_ONCE):
            await self._database.write(partial(work, first=first))

    # -- history ----------------------------------------------------------------------------------

    async def newest(self, user: str, count: int) -> tuple[StoredChange, ...]:
        """The latest changes of a user's monitors, the newest first."""

        def work(connection: Connection) -> tuple[StoredChange, ...]:
            query = (
                select(changes_table, table.c.owner, table.c.path)
                .join(table, table.c.number == changes_table.c.monitor)
                .where(table.c.user == user)
                .order_by(changes_table.c.number.desc())
                .limit(count)
            )
            return tuple(
                StoredChange(
                    row.number,
                    TopicName(row.owner, tuple(row.path.split("/"))),
                    row.made,
                    row.state,
                    row.was,
                    row.reason,
                )
                for row in connection.execute(query)
            )

        return await self._database.read(work)

    async def history(self, monitor: int) -> list[tuple[float, str]]:
        """When a monitor came to which state, oldest first."""

        def work(connection: Connection) -> list[tuple[float, str]]:
            query = (
                select(changes_table.c.made, changes_table.c.state)
                .where(changes_table.c.monitor == monitor)
                .order_by(changes_table.c.number)
            )
            return [(row.made, row.state) for row in connection.execute(query)]

        return await self._database.read(work)

    # -- when a server watched --------------------------------------------------------------------

    async def watched(self) -> list[tuple[float, float]]:
        """The times, oldest first."""

        def work(connection: Connection) -> list[tuple[float, float]]:
            query = select(watches_table).order_by(watches_table.c.number)
            return [(row.began, row.until) for row in connection.execute(query)]

        return await self._database.read(work)

    async def begin_watch(self, now: float) -> int:
        """Note that a server watches from now on, and return the number of that."""

        def work(connection: Connection) -> int:
            old = watches_table.c.until < now - KEPT_SECONDS
            short = watches_table.c.until - watches_table.c.began < SHORT_WATCH
            past = watches_table.c.until < now - SHORT_WATCH  # else it may be another's, just begun
            connection.execute(delete(watches_table).where(or_(old, and_(short, past))))
            newest = select(watches_table.c.number).order_by(watches_table.c.number.desc())
            last = connection.execute(newest.offset(MAX_WATCHES - 1).limit(1)).scalar()
            if last is not None:
                connection.execute(delete(watches_table).where(watches_table.c.number <= last))
            made = connection.execute(insert(watches_table).values(began=now, until=now))
            (number,) = made.inserted_primary_key or (0,)
            return int(number)

        return await self._database.write(work)

    async def keep_watch(self, number: int, now: float) -> None:
        """Note that it still does."""
        statement = update(watches_table).where(watches_table.c.number == number).values(until=now)
        await self._database.write(lambda connection: connection.execute(statement))

    # -- secret addresses -------------------------------------------------------------------------

    async def feeds_of(self, user: str) -> Feeds | None:
        """A user's."""
        return await self._find_feeds(feeds_table.c.user == user)

    async def find_feeds(self, kind: str, digest: str) -> Feeds | None:
        """Look them up by the SHA-256 of one: ``feed``, ``badge`` or ``page``."""
        return await self._find_feeds(feeds_table.c[kind] == digest)

    async def _find_feeds(self, condition: ColumnElement[bool]) -> Feeds | None:
        def work(connection: Connection) -> Feeds | None:
            row = connection.execute(select(feeds_table).where(condition)).one_or_none()
            return Feeds(row.user, row.salt, row.feed, row.badge, row.page) if row else None

        return await self._database.read(work)

    async def put_feeds(self, feeds: Feeds) -> None:
        """Set a user's; those from before lead nowhere any more.

        Raises:
            StoreError: The user is gone.
        """

        def work(connection: Connection) -> None:
            connection.execute(delete(feeds_table).where(feeds_table.c.user == feeds.user))
            connection.execute(
                insert(feeds_table).values(
                    user=feeds.user,
                    salt=feeds.salt,
                    feed=feeds.feed,
                    badge=feeds.badge,
                    page=feeds.page,
                )
            )

        try:
            await self._database.write(work)
        except IntegrityError as error:
            raise StoreError("the addresses were changed at the same moment; try again") from error


def _of(user: str, topic: TopicName) -> ColumnElement[bool]:
    return and_(
        table.c.user == user, table.c.owner == topic.owner, table.c.path == "/".join(topic.path)
    )


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[StoredMonitor, ...]:
    query = (
        select(table, users_table.c.admin)
        .join(users_table, users_table.c.name == table.c.user)
        .where(*conditions)
        .order_by(table.c.user, table.c.owner, table.c.path)
    )
    return tuple(map(_read, connection.execute(query)))


def _read(row: Row[*tuple[Any, ...]]) -> StoredMonitor:
    owner, *path = row.alert.split("/")
    return StoredMonitor(
        row.number,
        row.user,
        row.admin,
        TopicName(row.owner, tuple(row.path.split("/"))),
        Terms(row.every, row.grace, On(row.kind), row.remind, row.min_bytes, row.min_rate),
        TopicName(owner, tuple(path)),
        row.memory,
        row.created,
    )


def _write(connection: Connection, changes: Sequence[NewChange]) -> None:
    """Write entries whose monitors are there, and drop what is too old or too much."""
    query = select(table.c.number).where(table.c.number.in_({one.monitor for one in changes}))
    there = set(connection.execute(query.with_for_update(read=True)).scalars())
    rows = [
        {
            "monitor": one.monitor,
            "made": one.made,
            "state": one.state,
            "was": one.was,
            "reason": one.reason[:MAX_REASON],
        }
        for one in changes
        if one.monitor in there
    ]
    if rows:
        connection.execute(insert(changes_table), rows)
    now = max((one.made for one in changes), default=0.0)
    for monitor in sorted(there):
        _prune(connection, monitor, now - KEPT_SECONDS)


def _prune(connection: Connection, monitor: int, oldest: float) -> None:
    column = changes_table.c
    mine = column.monitor == monitor
    newest = select(column.number).where(mine).order_by(column.number.desc())
    bounds = (
        connection.execute(newest.offset(MAX_CHANGES).limit(1)).scalar(),
        # The last one from before says how it was since.
        connection.execute(newest.where(column.made < oldest).offset(1).limit(1)).scalar(),
    )
    for bound in bounds:
        if bound is not None:
            connection.execute(delete(changes_table).where(mine, column.number <= bound))
