"""Where topics live, among machines that share a database: one row for each, first come.

Each call is one statement, or one transaction of two, so it is done or not; where the answer is
lost it may be either.  So counts are compared and not subtracted: to release twice does no harm.
"""

from __future__ import annotations

import secrets
import time
from typing import TYPE_CHECKING, NamedTuple, Protocol, TypeVar

from sqlalchemy import and_, case, delete, select, text, update
from sqlalchemy.dialects import postgresql, sqlite

from pipe.store.tables import homes as table
from pipe.store.tables import identity as identity_table
from pipe.store.tables import nodes

if TYPE_CHECKING:
    from collections.abc import Callable

    from sqlalchemy import ColumnElement, Connection

T = TypeVar("T")


class Access(Protocol):
    """What it needs of a `pipe.store.database.Database`."""

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read in one transaction."""

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write in one transaction."""


class HomeRow(NamedTuple):
    """A topic's home.

    Attributes:
        node: its machine.
        number: its worker there.
        epoch: that worker's, so that a later one is another.
        joins: how many joins other machines have sent there.
    """

    node: str
    number: int
    epoch: int
    joins: int = 0


class HomeStore:
    """The table of homes."""

    def __init__(self, database: Access) -> None:
        self._database = database

    async def claim(self, topic: str, home: HomeRow) -> HomeRow:
        """Find a topic's home, which is this one if it has none; count a join from elsewhere.

        Args:
            topic: which.
            home: who gets it; if the home is on the same machine, the join is not counted here.

        Raises:
            StoreUnavailable: nobody can say now.
        """

        def work(connection: Connection) -> HomeRow:
            values = {"topic": topic, **home._asdict(), "joins": 0}
            more = table.c.joins + case((table.c.node == home.node, 0), else_=1)
            make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            statement = (
                make(table)
                .values(values)
                .on_conflict_do_update(index_elements=[table.c.topic], set_={"joins": more})
                .returning(table.c.node, table.c.number, table.c.epoch, table.c.joins)
            )
            return HomeRow(*connection.execute(statement).one())

        return await self._database.write(work)

    async def find(self, topic: str) -> HomeRow | None:
        """Return a topic's home.

        Raises:
            StoreUnavailable: nobody can say now.
        """
        return await self._database.read(lambda connection: _find(connection, topic))

    async def release(self, topic: str, home: HomeRow) -> int | None:
        """Remove a topic that is gone at its home, unless more joins were sent there.

        Args:
            topic: which.
            home: whose it is, with the joins that have arrived.

        Returns:
            The joins that were sent, if it stays; None if it is not at home there any more.

        Raises:
            StoreUnavailable: it may be removed or not.
        """

        def work(connection: Connection) -> int | None:
            mine = and_(table.c.topic == topic, _of(home))
            removed = connection.execute(delete(table).where(mine, table.c.joins == home.joins))
            if removed.rowcount:
                return None
            return connection.execute(select(table.c.joins).where(mine)).scalar_one_or_none()

        return await self._database.write(work)

    async def withdraw(self, topic: str, home: HomeRow) -> None:
        """A join from elsewhere that was counted is not sent.

        Raises:
            StoreUnavailable: it may still be counted.
        """
        statement = (
            update(table)
            .where(table.c.topic == topic, _of(home), table.c.joins > 0)
            .values(joins=table.c.joins - 1)
        )
        await self._database.write(lambda connection: connection.execute(statement))

    async def renew(self, node: str) -> None:
        """Note that a machine is there.

        Raises:
            StoreUnavailable: it may be noted or not.
        """

        def work(connection: Connection) -> None:
            make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            seen = _now(connection)
            statement = make(nodes).values(node=node, seen=seen)
            statement = statement.on_conflict_do_update(
                index_elements=[nodes.c.node], set_={"seen": seen}
            )
            connection.execute(statement)

        await self._database.write(work)

    async def bury(self, home: HomeRow, quiet: float) -> bool:
        """Remove all topics of a worker that is gone.

        Args:
            home: the worker.
            quiet: do nothing if its machine was noted within so many seconds.

        Returns:
            Whether they are gone.

        Raises:
            StoreUnavailable: they may still be there.
        """

        def work(connection: Connection) -> bool:
            noted = select(nodes.c.seen).where(nodes.c.node == home.node).with_for_update()
            seen = connection.execute(noted).scalar_one_or_none()
            if seen is not None and _now(connection) - seen < quiet:
                return False
            connection.execute(delete(table).where(_of(home)))
            return True

        return await self._database.write(work)

    async def bury_earlier(self, node: str, epoch: int) -> int:
        """Remove what a machine had before it was started anew, and return how many there were.

        Args:
            node: the machine.
            epoch: the first one since.

        Raises:
            StoreUnavailable: they may still be there.
        """
        statement = delete(table).where(table.c.node == node, table.c.epoch < epoch)
        return await self._database.write(lambda connection: connection.execute(statement).rowcount)

    async def database_id(self) -> str:
        """Return what this database has and no other; the first to ask makes it.

        Raises:
            StoreUnavailable: the database cannot be used.
        """

        def work(connection: Connection) -> str:
            make = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert
            first = make(identity_table).values(number=1, id=secrets.token_hex(16))
            connection.execute(first.on_conflict_do_nothing())
            return str(connection.execute(select(identity_table.c.id)).scalar_one())

        return await self._database.write(work)


def _of(home: HomeRow) -> ColumnElement[bool]:
    return and_(
        table.c.node == home.node, table.c.number == home.number, table.c.epoch == home.epoch
    )


def _now(connection: Connection) -> float:
    """Seconds since 1970 by the one clock that all machines share."""
    if connection.dialect.name != "postgresql":
        return time.time()
    return float(
        connection.execute(text("SELECT extract(epoch FROM clock_timestamp())")).scalar_one()
    )


def _find(connection: Connection, topic: str) -> HomeRow | None:
    columns = table.c.node, table.c.number, table.c.epoch, table.c.joins
    row = connection.execute(select(*columns).where(table.c.topic == topic)).one_or_none()
    return HomeRow(*row) if row else None
