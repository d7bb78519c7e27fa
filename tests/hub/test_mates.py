"""What a worker knows of the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest

from pipe.errors import PipeError
from pipe.hub.channel import Channel, make_pair
from pipe.hub.mates import HubDirectory, HubPeers
from pipe.hub.serve import Hub
from pipe.language.names import TopicName, parse_topic
from pipe.mesh.directory import Home, WorkerId
from pipe.mesh.peers import Peer
from pipe.settings import Settings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

TOPIC: TopicName = parse_topic("alice/news", caller="alice")
FIRST, SECOND = WorkerId("", 1, 10), WorkerId("", 2, 11)


class Pair:
    """A hub and the directories of two workers, over real channels."""

    def __init__(self) -> None:
        hub: Any = Hub(Settings())
        hub._census = SimpleNamespace(busy={FIRST: 0.0, SECOND: 0.9})  # noqa: SLF001
        hub._reception = None  # noqa: SLF001
        self.hub = hub
        self.channels: list[Channel] = []
        self.homes = hub._homes  # noqa: SLF001
        self.first, self.second = self._connect(FIRST), self._connect(SECOND)

    def _connect(self, ident: WorkerId) -> HubDirectory:
        ours, theirs = make_pair()
        worker: Any = SimpleNamespace(ident=ident)
        worker.channel = Channel(
            ours, lambda message, _: self.hub.received(worker, message, None), lambda: None
        )
        channel = Channel(theirs, lambda *_: None, lambda: None)
        self.channels += worker.channel, channel
        return HubDirectory(channel)


@pytest.fixture
async def pair() -> AsyncIterator[Pair]:
    """A hub with two workers."""
    pair = Pair()
    yield pair
    for channel in pair.channels:
        channel.close()


async def test_topic_has_one_home_until_it_closes(pair: Pair) -> None:
    """Both workers are sent to the same one; once all that came is told, it has none."""
    assert await pair.first.find(TOPIC) is None
    assert await pair.second.enter(TOPIC) == Home(FIRST, 1)
    assert await pair.first.enter(TOPIC) == Home(FIRST, 2)
    assert await pair.second.find(TOPIC) == FIRST
    pair.first.arrived(TOPIC, FIRST)
    pair.first.closed(TOPIC)
    assert await pair.first.find(TOPIC) == FIRST
    pair.first.arrived(TOPIC, SECOND)
    pair.first.closed(TOPIC)
    assert await pair.first.find(TOPIC) is None


async def test_join_that_is_not_sent(pair: Pair) -> None:
    """It leaves no home behind."""
    home = await pair.second.enter(TOPIC)
    pair.second.withdraw(TOPIC, home.worker)
    assert await pair.second.find(TOPIC) is None


async def test_joins_of_a_dead_worker(pair: Pair) -> None:
    """Its home tells which have come, so that the rest is not waited for."""
    for _ in range(2):
        await pair.second.enter(TOPIC)
    pair.first.arrived(TOPIC, SECOND)
    arrived = pair.first.arrived_from(SECOND)
    assert arrived == {str(TOPIC): 1}
    assert pair.homes.died(SECOND) == {FIRST}
    pair.homes.settle(FIRST, SECOND, arrived)
    pair.first.closed(TOPIC)
    assert await pair.first.find(TOPIC) is None


async def test_lost_hub() -> None:
    """Nobody can tell where a topic is, which is an error and no answer."""
    ours, theirs = make_pair()
    channel = Channel(ours, lambda *_: None, lambda: None)
    theirs.close()
    with pytest.raises(PipeError, match="hub"):
        await HubDirectory(channel).enter(TOPIC)


async def test_peers_and_their_end() -> None:
    """Who follows hears of each change, and is waited for when one is dead."""
    peers = HubPeers(Peer(FIRST, Path("/run/1")))
    heard: list[object] = []
    release = asyncio.Event()

    async def gone(worker: WorkerId) -> None:
        await release.wait()
        heard.append(worker)

    peers.follow(lambda: heard.append(dict(peers.others)), gone)
    peers.take([[FIRST, "/run/1", False], [SECOND, "/run/2", True]], [*FIRST])
    assert heard == [{SECOND: Peer(SECOND, Path("/run/2"), leaving=True)}]
    burial = asyncio.ensure_future(peers.bury(SECOND))
    await asyncio.sleep(0)
    assert not burial.done()
    release.set()
    await burial
    assert heard[-1] == SECOND
    assert peers.own.worker == peers.first == FIRST
