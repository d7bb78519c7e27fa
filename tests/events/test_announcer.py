"""Announcements reach who reads now, or the first who comes while they are held."""

from __future__ import annotations

import asyncio

import pytest

from pipe.errors import Outcome
from pipe.events.announcer import MAX_BYTES, MAX_OWNER_BYTES, MAX_WAITING, Announcer
from pipe.language.names import TopicName
from pipe.stream.router import Router
from tests.fakes import FULL, NAME, OTHER, pattern_reader, publisher, subscriber

LINE = b'{"event":"push"}\n'


@pytest.fixture(name="router")
def empty_router() -> Router:
    """An empty router."""
    return Router()


@pytest.fixture(name="announcer")
def announcer_of(router: Router) -> Announcer:
    """An announcer on it."""
    return Announcer(router)


def test_readers_of_now_get_it_and_end(router: Router, announcer: Announcer) -> None:
    """It is a whole stream: readers end with it, those on patterns stay, and nothing is left."""
    sink, standing = subscriber(router, NAME), pattern_reader(router)
    assert announcer.announce(NAME, LINE)
    sink.drain()
    standing.drain()
    assert sink.client == standing.client == LINE
    assert sink.finished == (Outcome.DONE, 0)
    assert NAME not in router


def test_nobody_gets_it_later(router: Router, announcer: Announcer) -> None:
    """Without a hold it waits for nobody."""
    assert announcer.announce(NAME, LINE)
    assert NAME not in router


async def test_held_one_waits_for_the_first_reader(router: Router, announcer: Announcer) -> None:
    """With a hold the first reader to come gets it, and all of those that wait for it."""
    for _ in range(3):
        assert announcer.announce(NAME, LINE, hold=60)
    sink = subscriber(router, NAME)
    sink.drain()
    assert sink.client == 3 * LINE
    assert NAME not in router


async def test_held_one_gives_up(router: Router, announcer: Announcer) -> None:
    """When the time is over it goes, and makes room for others."""
    closed = asyncio.Event()
    router = Router(lambda _: closed.set())
    announcer = Announcer(router)
    for _ in range(MAX_WAITING):
        assert announcer.announce(NAME, LINE, hold=0.001)
    assert not announcer.announce(NAME, LINE, hold=0.001)
    await asyncio.wait_for(closed.wait(), 30)
    assert announcer.announce(NAME, LINE)


def test_what_waits_is_bounded(router: Router, announcer: Announcer) -> None:
    """So many wait for one topic, and so many bytes in all; more are dropped."""
    clogged = subscriber(router, NAME, keep_alive=True)
    other = subscriber(router, OTHER, keep_alive=True)
    for name in (NAME, OTHER):
        publisher(router, name).send(FULL)
    for _ in range(MAX_WAITING):
        assert announcer.announce(NAME, LINE)
    assert not announcer.announce(NAME, LINE)
    half = MAX_OWNER_BYTES // 2
    assert announcer.announce(OTHER, bytes(half))
    assert not announcer.announce(OTHER, bytes(half))
    clogged.bound = other.bound = 4 * MAX_BYTES
    clogged.drain()
    other.drain()
    clogged.drain()
    other.drain()
    assert clogged.client == FULL.encode() + MAX_WAITING * LINE
    assert announcer.announce(OTHER, bytes(half))


async def test_nobody_takes_all_the_room(router: Router, announcer: Announcer) -> None:
    """What waits in one user's space is bounded for itself, and all of it together."""
    large = bytes(MAX_OWNER_BYTES - 8192)
    for number in range(MAX_BYTES // MAX_OWNER_BYTES):
        name = TopicName(f"user{number}", ("build",))
        assert announcer.announce(name, large, hold=60)
        assert not announcer.announce(name, large, hold=60)
    assert not announcer.announce(NAME, large, hold=60)
    subscriber(router, TopicName("user0", ("build",)))
    assert announcer.announce(NAME, LINE, hold=60)


async def test_who_may_is_asked_when_it_is_sent(router: Router, announcer: Announcer) -> None:
    """One that was held is sent only if it still may be, and the reader knows that it was not."""
    asked: list[int] = []

    def admit(readers: int) -> bool:
        asked.append(readers)
        return False

    assert announcer.announce(NAME, LINE, 60, admit)
    assert asked == []
    sink = subscriber(router, NAME)
    assert asked == [1]
    assert not sink.taken
    assert sink.finished == (Outcome.BROKEN, 0)
    assert NAME not in router


def test_readers_are_told(router: Router, announcer: Announcer) -> None:
    """Without a hold it is asked at once, with all who read: also those on patterns."""
    asked: list[int] = []

    def admit(readers: int) -> bool:
        asked.append(readers)
        return True

    assert announcer.announce(NAME, LINE, admit=admit)
    subscriber(router, NAME)
    pattern_reader(router)
    assert announcer.announce(NAME, LINE, admit=admit)
    assert asked == [0, 2]
