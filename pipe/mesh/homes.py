"""Which topics are at home on this machine, among machines that share a table.

Rules:

- The table decides who gets a topic that nobody has.  What this machine has it answers from memory,
  so a database that is away stops nothing but the opening of topics.
- A machine's topics are buried by another only while that does not see it, and it has not written
  to the table for `BURIED_SECONDS`.  So one that sees all others, or writes, may trust its memory.
- An answer that was lost leaves a topic in doubt, and so does to have neither seen all others nor
  written for `TRUSTED_SECONDS`.  Then memory counts for nothing until the table was asked.
- A topic goes when it is gone at its home and all joins that were sent there have arrived: those
  of this machine are counted here by who asked, those of others in the table.
- A join that was counted and never comes is given up after `JOIN_SECONDS`: who sends one gives up
  sooner, and a link on which nothing comes is lost sooner.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Protocol

from pipe.errors import StoreUnavailable
from pipe.mesh.directory import Home, WorkerId
from pipe.store.homes import HomeRow

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

TRUSTED_SECONDS = 10.0
BURIED_SECONDS = 15.0
"""The first is counted from before the table was asked, by this machine's clock, and the second
from after, by the database's: the difference is for clocks that do not run alike."""

JOIN_SECONDS = 10.0
"""Far longer than a join takes from the table to its home: a link is lost after 3 s of silence."""


class Table(Protocol):
    """What `pipe.store.homes.HomeStore` does."""

    async def claim(self, topic: str, home: HomeRow) -> HomeRow:
        """Find a topic's home, which is this one if it has none; count a join from elsewhere."""

    async def find(self, topic: str) -> HomeRow | None:
        """Return a topic's home."""

    async def release(self, topic: str, home: HomeRow) -> int | None:
        """Remove a topic, unless more joins were sent there."""

    async def withdraw(self, topic: str, home: HomeRow) -> None:
        """A join that was counted is not sent."""

    async def renew(self, node: str) -> None:
        """Note that a machine is there."""

    async def bury(self, home: HomeRow, quiet: float) -> bool:
        """Remove all topics of a worker that is gone, if its machine is quiet."""


class _Entry:
    """A topic that is at home on this machine, or may be."""

    __slots__ = ("arrived", "joins", "sent", "since", "sure", "worker")

    def __init__(self, worker: WorkerId, now: float) -> None:
        self.worker = worker
        self.sure = False
        self.joins: dict[WorkerId, int] = {}
        """Sent by workers of this machine, and not told of."""
        self.arrived = 0
        """From other machines, all told of."""
        self.sent = 0
        """What the table said last of those, and when that was new."""
        self.since = now


class SharedHomes:
    """One machine's share of the directory.

    Args:
        node: the machine.
        table: where all machines look.
        now: seconds of a clock that only goes forward.
        usurped: told of a topic that may run on a worker here and is at home elsewhere now: its
            streams have to end.
    """

    def __init__(
        self,
        node: str,
        table: Table,
        now: Callable[[], float],
        usurped: Callable[[str, WorkerId], None],
    ) -> None:
        self._node = node
        self._table = table
        self._now = now
        self._usurped = usurped
        self._entries: dict[str, _Entry] = {}
        self._dead: set[WorkerId] = set()
        self._unseen = False
        """Whether another machine was out of sight since the table was last written to."""
        self._renewed = now()
        self._locks: dict[str, tuple[asyncio.Lock, list[None]]] = {}

    @property
    def topics(self) -> frozenset[str]:
        """All that are at home here, or may be."""
        return frozenset(self._entries)

    @property
    def trusted(self) -> bool:
        """Whether nobody can have buried this machine meanwhile."""
        return not self._unseen or self._now() - self._renewed <= TRUSTED_SECONDS

    async def enter(self, topic: str, asker: WorkerId, home: WorkerId) -> Home:
        """Count a join, and say where to send it.

        Args:
            topic: which.
            asker: the worker of this machine whose client joins.
            home: the worker of this machine that gets the topic if nobody has it.

        Raises:
            StoreUnavailable: nobody can say now; a topic that is at home here for certain is found
                even then.
        """
        async with _Turn(self._locks, topic):
            entry = self._entries.get(topic)
            if entry is None or not self._trusts(entry):
                found = await self._claim(topic, entry.worker if entry else home)
                if found.node != self._node:
                    return Home(_worker(found), found.joins)
                entry = self._entries[topic]
            entry.joins[asker] = entry.joins.get(asker, 0) + 1
            return Home(entry.worker, sum(entry.joins.values()))

    async def find(self, topic: str) -> WorkerId | None:
        """Return a topic's home, or None if it has none.

        Raises:
            StoreUnavailable: nobody can say now.
        """
        entry = self._entries.get(topic)
        if entry and self._trusts(entry):
            return entry.worker
        found = await self._table.find(topic)
        return _worker(found) if found else None

    async def withdraw(self, topic: str, home: WorkerId, asker: WorkerId) -> None:
        """A join that `enter` has counted is not sent after all."""
        if home.node != self._node:
            try:
                await self._table.withdraw(topic, _row(home))
            except StoreUnavailable:  # its home gives it up
                return
        else:
            await self.closed(topic, home, {asker: 1})

    async def closed(self, topic: str, home: WorkerId, arrived: Mapping[WorkerId, int]) -> None:
        """A topic is gone at its home here.

        Args:
            topic: which.
            home: who tells.
            arrived: the joins that it has had since it told last, by who sent them.
        """
        async with _Turn(self._locks, topic):
            entry = self._entries.get(topic)
            if entry is None or entry.worker != home:
                return
            for asker, count in arrived.items():
                if asker.node != self._node:
                    entry.arrived += count
                elif entry.joins.get(asker, 0) > count:
                    entry.joins[asker] -= count
                else:
                    entry.joins.pop(asker, None)
            await self._release(topic, entry)

    async def died(self, worker: WorkerId) -> None:
        """A worker is gone, of this machine or of another: none of its topics has a home any more.

        One of another machine may have gone because nobody can reach it, and it says the same of
        this one.
        """
        self._dead.add(worker)
        self._unseen |= worker.node != self._node
        for topic, entry in list(self._entries.items()):
            if entry.worker == worker:
                del self._entries[topic]
            else:
                entry.joins.pop(worker, None)
        await self._bury()

    def appeared(self, worker: WorkerId) -> None:
        """A worker is there, perhaps again; of those before it its own machine takes care."""
        self._dead = {one for one in self._dead if one[:2] != worker[:2]}

    async def tend(self, is_open: Callable[[str, WorkerId], bool]) -> None:
        """Make up for what was lost; to be called every few seconds.

        Args:
            is_open: whether a topic exists at its home here now.
        """
        await self._renew()
        await self._bury()
        for topic in list(self._entries):
            async with _Turn(self._locks, topic):
                entry = self._entries.get(topic)
                if entry is None:
                    continue
                if is_open(topic, entry.worker):
                    await self._confirm(topic, entry)
                elif not entry.joins:
                    await self._release(topic, entry, patient=False)

    async def _claim(self, topic: str, worker: WorkerId) -> HomeRow:
        """Ask the table, and remember what is at home here."""
        try:
            found = await self._table.claim(topic, _row(worker))
        except StoreUnavailable:
            if topic not in self._entries:  # perhaps it was written
                self._entries[topic] = _Entry(worker, self._now())
            raise
        entry = self._entries.get(topic)  # its worker may have died meanwhile
        if found.node != self._node:
            if self._entries.pop(topic, None):
                self._usurped(topic, worker)
        else:
            if entry is None or entry.worker != _worker(found):
                entry = self._entries[topic] = _Entry(_worker(found), self._now())
            if found.joins < entry.arrived:  # the row is a new one
                entry.arrived = 0
            entry.sure = True
        return found

    async def _confirm(self, topic: str, entry: _Entry) -> None:
        """Make sure that a topic which exists here is still at home here."""
        entry.since = self._now()
        if self._trusts(entry):
            return
        try:
            await self._claim(topic, entry.worker)
        except StoreUnavailable:
            return

    async def _release(self, topic: str, entry: _Entry, *, patient: bool = True) -> None:
        """Give a topic up, if nobody is on the way to it."""
        if entry.joins:
            return
        late = not patient and self._now() - entry.since > JOIN_SECONDS
        expected = max(entry.arrived, entry.sent) if late else entry.arrived
        try:
            sent = await self._table.release(topic, _row(entry.worker, expected))
        except StoreUnavailable:
            entry.sure = False
            return
        if sent is None:
            if self._entries.get(topic) is entry:  # its worker may have died meanwhile
                del self._entries[topic]
        elif sent != entry.sent:
            entry.sent, entry.since = sent, self._now()

    def _trusts(self, entry: _Entry) -> bool:
        """Return whether nobody can have buried this machine meanwhile."""
        if not self.trusted:
            self._doubt()
        return entry.sure

    def _doubt(self) -> None:
        for entry in self._entries.values():
            entry.sure = False

    async def _renew(self) -> None:
        began = self._now()
        if not self.trusted:
            self._doubt()
        try:
            await self._table.renew(self._node)
        except StoreUnavailable:
            return
        self._renewed = began
        self._unseen = any(worker.node != self._node for worker in self._dead)

    async def _bury(self) -> None:
        for worker in list(self._dead):
            quiet = 0.0 if worker.node == self._node else BURIED_SECONDS
            try:
                gone = await self._table.bury(_row(worker), quiet)
            except StoreUnavailable:
                return
            if gone:
                self._dead.discard(worker)


class _Turn:
    """Lets one at a time work on a topic, and forgets it after the last."""

    def __init__(self, locks: dict[str, tuple[asyncio.Lock, list[None]]], topic: str) -> None:
        self._locks = locks
        self._topic = topic

    async def __aenter__(self) -> None:
        lock, users = self._locks.setdefault(self._topic, (asyncio.Lock(), []))
        users.append(None)
        try:
            await lock.acquire()
        except BaseException:
            self._leave(users)
            raise

    async def __aexit__(self, *_: object) -> None:
        lock, users = self._locks[self._topic]
        lock.release()
        self._leave(users)

    def _leave(self, users: list[None]) -> None:
        users.pop()
        if not users:
            del self._locks[self._topic]


def _row(worker: WorkerId, joins: int = 0) -> HomeRow:
    return HomeRow(worker.node, worker.number, worker.epoch, joins)


def _worker(row: HomeRow) -> WorkerId:
    return WorkerId(row.node, row.number, row.epoch)
