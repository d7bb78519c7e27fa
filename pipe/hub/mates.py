"""What a worker knows of the others, through its hub: where topics live, and who there is."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from pipe.errors import StoreUnavailable
from pipe.hub.channel import Lost
from pipe.language.places import Place
from pipe.mesh.directory import Home, WorkerId
from pipe.mesh.peers import Peer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

    from pipe.hub.channel import Channel, Message
    from pipe.language.names import TopicName

_LOST_TEXT = "this worker has lost its hub: try again"


class HubDirectory:
    """A `pipe.mesh.directory.Directory`, which the hub keeps.

    Args:
        channel: to the hub.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self._arrived: dict[str, Counter[WorkerId]] = {}

    async def enter(self, topic: TopicName) -> Home:
        """Find where a session has to go that joins a topic, which gets a home if it has none.

        Raises:
            PipeError: it cannot be known now.
        """
        worker, *counts = await self._ask({"type": "enter", "topic": str(topic)})
        return Home(WorkerId(*worker), *counts)

    async def find(self, topic: TopicName) -> WorkerId | None:
        """Return a topic's home, or None if it has none.

        Raises:
            PipeError: it cannot be known now.
        """
        found = await self._ask({"type": "find", "topic": str(topic)})
        return WorkerId(*found) if found else None

    def arrived(self, topic: TopicName, asker: WorkerId) -> None:
        """A join has come here, where the topic is at home."""
        self._arrived.setdefault(str(topic), Counter())[asker] += 1

    def withdraw(self, topic: TopicName, home: WorkerId) -> None:
        """A join that `enter` has counted is not sent after all."""
        self._channel.send({"type": "withdraw", "topic": str(topic), "home": home})

    def watch(self, topic: TopicName, watched: bool) -> None:
        """Something here needs all that happens on a topic, or no longer."""
        self._channel.send({"type": "watch", "topic": str(topic), "watched": watched})

    def closed(self, topic: TopicName) -> None:
        """A topic that was at home here is gone."""
        joins = self._arrived.pop(str(topic), None)
        if joins is None:
            return  # it is none of those that are used from everywhere
        self._channel.send(
            {
                "type": "closed",
                "topic": str(topic),
                "joins": [[asker, count] for asker, count in joins.items()],
            }
        )

    def arrived_from(self, worker: WorkerId) -> dict[str, int]:
        """The joins of a worker that the hub has not been told of, by topic."""
        return {topic: joins[worker] for topic, joins in self._arrived.items() if worker in joins}

    async def _ask(self, question: Message) -> Any:  # noqa: ANN401 - it is JSON
        try:
            answer = await self._channel.ask(question)
        except Lost:
            raise StoreUnavailable(_LOST_TEXT) from None
        if isinstance(answer, str):  # a reason
            raise StoreUnavailable(answer)
        return answer


class HubPeers:
    """A `pipe.mesh.peers.Peers`, which the hub tells.

    Args:
        own: this worker.
    """

    def __init__(self, own: Peer) -> None:
        self._own = own
        self._others: dict[WorkerId, Peer] = {}
        self._first: WorkerId | None = None
        self._followers: list[tuple[Callable[[], None], Callable[[WorkerId], Awaitable[None]]]] = []

    @property
    def own(self) -> Peer:
        """This worker."""
        return self._own

    @property
    def others(self) -> Mapping[WorkerId, Peer]:
        """All that are ready now."""
        return MappingProxyType(self._others)

    @property
    def first(self) -> WorkerId | None:
        """Who has the duties of one."""
        return self._first

    def follow(
        self,
        changed: Callable[[], None],
        gone: Callable[[WorkerId], Awaitable[None]],
    ) -> None:
        """Be told from now on; see `pipe.mesh.peers.Peers`."""
        self._followers.append((changed, gone))

    def take(self, peers: list[list[Any]], first: list[Any] | None) -> None:
        """The hub tells who is ready, and who has the duties of one.

        Args:
            peers: of each which worker it is, its path or its place, and whether it leaves.
            first: which worker.
        """
        self._first = WorkerId(*first) if first else None
        found = [
            Peer(WorkerId(*worker), Path(at) if isinstance(at, str) else Place(*at), leaving)
            for worker, at, leaving in peers
        ]
        self._others = {one.worker: one for one in found if one.worker != self._own.worker}
        for changed, _ in self._followers:
            changed()

    async def bury(self, worker: WorkerId) -> None:
        """The hub tells that one is dead: return once nothing of it is unread."""
        for _, gone in self._followers:
            await gone(worker)
