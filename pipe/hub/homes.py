"""Which topic is at home in which worker: there is never more than one for a name.

Rules:

- A join that is on its way keeps the topic where it was sent, whatever happens meanwhile.  So joins
  are counted by who asked: as they are sent, and as the home tells that they have arrived, which it
  does when the topic closes.  With none left on its way nor arrived, the topic has no home.
- What a worker had is forgotten when it dies: its topics at once, the joins that it sent once their
  home has told which of them had arrived (`settle`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.mesh.directory import Home

if TYPE_CHECKING:
    from collections.abc import Collection, Mapping

    from pipe.mesh.directory import WorkerId

SLACK = 0.1
"""A worker that uses this much more of a core than the mean still keeps its own topics: moving a
client costs more than it gains."""

FULL = 0.8
"""A worker that uses this much of a core gets no more readers of its topics: their clients stay
where they are, and a chunk crosses once for all of them."""


class _Entry:
    """One topic's home, and the joins that were sent there and that it has not told of, by who."""

    __slots__ = ("joins", "worker")

    def __init__(self, worker: WorkerId) -> None:
        self.worker = worker
        self.joins: dict[WorkerId, int] = {}


class Homes:
    """All of them, by the topic's name as text."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def enter(self, topic: str, asker: WorkerId, busy: Mapping[WorkerId, float]) -> Home:
        """Count a join, and say where to send it.

        Args:
            topic: which; it gets a home if it has none.
            asker: the worker whose client joins.
            busy: the workers that may get one, and how much of a core each uses.
        """
        entry = self._entries.get(topic)
        if entry is None:
            entry = self._entries[topic] = _Entry(choose(asker, busy))
        entry.joins[asker] = entry.joins.get(asker, 0) + 1
        return Home(entry.worker, sum(entry.joins.values()))

    def find(self, topic: str) -> WorkerId | None:
        """Return a topic's home, or None if it has none."""
        entry = self._entries.get(topic)
        return entry.worker if entry else None

    def withdraw(self, topic: str, home: WorkerId, asker: WorkerId) -> None:
        """A join of that worker was never sent."""
        self._arrived(topic, home, {asker: 1})

    def closed(self, topic: str, home: WorkerId, arrived: Mapping[WorkerId, int]) -> None:
        """A topic is gone at its home.

        Args:
            topic: which.
            home: who tells.
            arrived: the joins that it has had since it told last, by who sent them.
        """
        self._arrived(topic, home, arrived)

    def settle(self, home: WorkerId, dead: WorkerId, arrived: Mapping[str, int]) -> None:
        """A home has had all that a dead worker sent it.

        Args:
            home: who tells.
            dead: whose joins these are.
            arrived: those that it has not told of, by topic: the others never come.
        """
        for topic, entry in list(self._entries.items()):
            if entry.worker == home and dead in entry.joins:
                never = entry.joins[dead] - arrived.get(topic, 0)
                self._arrived(topic, home, {dead: never})

    def died(self, worker: WorkerId) -> set[WorkerId]:
        """Forget what was at home in a worker, and return the homes that have to `settle`."""
        self._entries = {
            topic: entry for topic, entry in self._entries.items() if entry.worker != worker
        }
        return {entry.worker for entry in self._entries.values() if worker in entry.joins}

    def _arrived(self, topic: str, home: WorkerId, joins: Mapping[WorkerId, int]) -> None:
        entry = self._entries.get(topic)
        if entry is None or entry.worker != home:
            return
        for asker, count in joins.items():
            left = entry.joins.get(asker, 0) - count
            if left > 0:
                entry.joins[asker] = left
            else:
                entry.joins.pop(asker, None)
        if not entry.joins:
            del self._entries[topic]


class Watched:
    """The topics that webhooks, monitors and the log drain need, by the worker that has these.

    What a dead worker watched counts until another one has taken its place: clients that come back
    at once shall find their topics at home where they will be watched.
    """

    def __init__(self) -> None:
        self._topics: dict[WorkerId, set[str]] = {}

    def __contains__(self, topic: str) -> bool:
        return any(topic in topics for topics in self._topics.values())

    def note(self, worker: WorkerId, topic: str, watched: bool) -> None:
        """A worker begins to watch a topic, or ends that."""
        topics = self._topics.setdefault(worker, set())
        if watched:
            topics.add(topic)
        else:
            topics.discard(topic)

    def keep(self, workers: Collection[WorkerId]) -> None:
        """Forget what others watched than these, as one of these does now."""
        self._topics = {one: topics for one, topics in self._topics.items() if one in workers}


def with_crowd(home: Home, asker: WorkerId, busy: Mapping[WorkerId, float]) -> Home:
    """Add whether a home has too much to do for another reader, while the asker has less."""
    used = busy.get(home.worker, 0.0)
    return home._replace(crowded=used >= FULL and busy.get(asker, used) < used)


def choose(asker: WorkerId, busy: Mapping[WorkerId, float]) -> WorkerId:
    """The asker if it is no busier than the mean, else the idlest; the asker if there is nobody."""
    if not busy:
        return asker
    if asker in busy and busy[asker] <= sum(busy.values()) / len(busy) + SLACK:
        return asker
    return min(busy, key=lambda worker: (busy[worker], worker))
