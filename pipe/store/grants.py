"""Lasting grants in the database.

Rules:

- A topic has at most one grant for each grantee; a new one replaces the old one.
- A grant goes with its owner, and with the user or key that it was given to: the next holder of
  that name or key inherits nothing.  Only registered users can give or get one.
- Each change leaves an entry in `pipe.store.changes`.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

from sqlalchemy import Connection, and_, delete, func, insert, or_, select
from sqlalchemy.exc import IntegrityError

from pipe.errors import StoreError
from pipe.language.names import EVERYONE, TopicName, is_fingerprint, quoted
from pipe.rights.grants import Grant, Operation
from pipe.store import changes
from pipe.store.tables import grants as table
from pipe.store.tables import users as users_table

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from sqlalchemy import ColumnElement

    from pipe.store.changes import Change, Proviso
    from pipe.store.database import Database

MAX_GRANTS = 1000
"""Grants that one user may give: they stay in memory, about 500 bytes each."""


class GrantStore:
    """The grants in a database.  Each method is one transaction."""

    def __init__(self, database: Database) -> None:
        self._database = database

    async def load(self) -> tuple[tuple[Grant, ...], tuple[Change, ...]]:
        """Read all grants that have not ended.

        Returns:
            The grants, and the latest changes, all of which the grants include.
        """

        def work(connection: Connection) -> tuple[tuple[Grant, ...], tuple[Change, ...]]:
            # In this order, a change in between is read again rather than missed.
            latest = changes.since(connection, changes.last(connection))
            return _select(connection, _holds(time.time())), latest

        return await self._database.read(work)

    async def load_topics(self, topics: Collection[TopicName]) -> dict[TopicName, list[Grant]]:
        """Read the grants of some topics."""

        def work(connection: Connection) -> dict[TopicName, list[Grant]]:
            now = time.time()
            return {topic: list(_select(connection, _of(topic), _holds(now))) for topic in topics}

        return await self._database.read(work)

    async def changes_since(self, number: int) -> tuple[Change, ...]:
        """What was taken away since; see `pipe.store.changes.since`."""
        return await self._database.read(lambda connection: changes.since(connection, number))

    async def put(
        self, grants: Sequence[Grant], proviso: Proviso = lambda _: None
    ) -> tuple[Grant, ...]:
        """Give grants on one topic, all or none.

        Returns:
            All grants that the topic now has.

        Raises:
            StoreError: The owner or a grantee is not a user, or the owner has given too many.
            PipeError: From the proviso.
        """
        topic = grants[0].topic

        def work(connection: Connection) -> tuple[Grant, ...]:
            proviso(connection)
            _require_users(connection, [topic.owner, *(grant.grantee for grant in grants)])
            now = time.time()
            names = [grant.grantee for grant in grants]
            connection.execute(
                delete(table).where(
                    or_(and_(_of(topic), table.c.grantee.in_(names)), table.c.until <= now)
                )
            )
            connection.execute(insert(table), [_row(grant) for grant in grants])
            count = select(func.count()).select_from(table).where(table.c.owner == topic.owner)
            if connection.execute(count).scalar_one() > MAX_GRANTS:
                raise StoreError(
                    f"{topic.owner} has given {MAX_GRANTS} grants, which is as many as there can "
                    "be; take some back with revoke"
                )
            changes.note(connection, changes.Kind.GRANTS, [_subject(topic)])
            return _select(connection, _of(topic))

        try:
            return await self._database.write(work)
        except IntegrityError as error:
            raise StoreError(
                f"the grants on {topic} were changed at the same moment; try again"
            ) from error

    async def remove(
        self,
        topic: TopicName,
        grantees: Collection[str],
        proviso: Proviso = lambda _: None,
    ) -> tuple[set[str], tuple[Grant, ...]]:
        """Withdraw grants on one topic.

        Returns:
            The grantees that had one, and all grants that the topic still has.

        Raises:
            PipeError: From the proviso.
        """

        def work(connection: Connection) -> tuple[set[str], tuple[Grant, ...]]:
            proviso(connection)
            chosen = and_(_of(topic), table.c.grantee.in_(grantees))
            had = {grant.grantee for grant in _select(connection, chosen)}
            connection.execute(delete(table).where(chosen))
            changes.note(connection, changes.Kind.GRANTS, [_subject(topic)] if had else [])
            return had, _select(connection, _of(topic), _holds(time.time()))

        return await self._database.write(work)


def forget(connection: Connection, grantees: Collection[str]) -> None:
    """Remove all grants given by or to removed users and keys."""
    connection.execute(
        delete(table).where(or_(table.c.owner.in_(grantees), table.c.grantee.in_(grantees)))
    )


def _require_users(connection: Connection, who: Sequence[str]) -> None:
    """Check that these are all users, and that nobody removes them meanwhile."""
    names = [name for name in who if name != EVERYONE and not is_fingerprint(name)]
    query = select(users_table.c.name).where(users_table.c.name.in_(names))
    found = connection.execute(query.order_by(users_table.c.name).with_for_update(read=True))
    missing = set(names).difference(found.scalars())
    if missing:
        raise StoreError(
            f"there is no user {quoted(min(missing))}: whoever took that name next would have the "
            "grant"
        )


def _select(connection: Connection, *conditions: ColumnElement[bool]) -> tuple[Grant, ...]:
    rows = connection.execute(select(table).where(*conditions))
    return tuple(
        Grant(
            topic=TopicName(row.owner, tuple(row.path.split("/"))),
            grantee=row.grantee,
            operation=(Operation.READ if row.can_read else Operation.NONE)
            | (Operation.WRITE if row.can_write else Operation.NONE),
            until=row.until,
            granted_by=row.granted_by,
            created=row.created,
        )
        for row in rows
    )


def _of(topic: TopicName) -> ColumnElement[bool]:
    owner, path = _subject(topic)
    return and_(table.c.owner == owner, table.c.path == path)


def _holds(now: float) -> ColumnElement[bool]:
    return or_(table.c.until.is_(None), table.c.until > now)


def _subject(topic: TopicName) -> tuple[str, str]:
    return topic.owner, "/".join(topic.path)


def _row(grant: Grant) -> dict[str, object]:
    owner, path = _subject(grant.topic)
    return {
        "owner": owner,
        "path": path,
        "grantee": grant.grantee,
        "can_read": Operation.READ in grant.operation,
        "can_write": Operation.WRITE in grant.operation,
        "until": grant.until,
        "granted_by": grant.granted_by,
        "created": grant.created,
    }
