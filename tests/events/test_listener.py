"""A reader within the server reads as others do, and keeps nobody waiting."""

from __future__ import annotations

import pytest

from pipe.errors import Outcome
from pipe.events.listener import Listener
from pipe.stream.ports import Receipt
from pipe.stream.router import Router
from tests.fakes import NAME, pipe, publisher, subscriber


@pytest.fixture(name="router")
def empty_router() -> Router:
    """An empty router."""
    return Router()


def test_listener_reads_its_topic_whenever_it_exists(router: Router) -> None:
    """It starts a publisher that waits, gets all of each stream, and keeps no topic open."""
    taken: list[bytes] = []
    ends: list[tuple[int, bool]] = []
    listener = Listener(
        router,
        NAME,
        lambda chunk: taken.append(bytes(chunk.data)),
        lambda status, broken: ends.append((status, broken)),
    )
    listener.start()
    assert NAME not in router
    for status in (0, 3):
        source = publisher(router, NAME, exit_status=status)
        source.send("abc", "de")
        source.end()
        assert source.receipts == [Receipt(5, 1, 0)]
        assert NAME not in router
    assert taken == [b"abc", b"de"] * 2
    assert ends == [(0, False), (3, False)]


def test_end_comes_with_the_last_publisher(router: Router) -> None:
    """Streams that overlap end together, broken if one of them broke off."""
    ends: list[tuple[int, bool]] = []
    listener = Listener(
        router, NAME, lambda _: None, lambda status, broken: ends.append((status, broken))
    )
    listener.start()
    for vanishes in (0, 1, 2):
        sources = [publisher(router, NAME, exit_status=status) for status in (0, 3)]
        for number, source in enumerate(sources):
            assert len(ends) == vanishes
            source.send("a")
            if number == vanishes:
                source.vanish()
            else:
                source.end()
    assert ends == [(3, True), (3, True), (3, False)]


def test_end_comes_with_a_silent_pipe_that_was_there_last(router: Router) -> None:
    """One that has sent nothing ends no stream but that which it has kept open."""
    ends: list[tuple[int, bool]] = []
    listener = Listener(
        router, NAME, lambda _: None, lambda status, broken: ends.append((status, broken))
    )
    listener.start()
    pipe(router, NAME)[0].vanish()
    assert not ends
    for status in (3, 0):
        waits, _ = pipe(router, NAME)
        source = publisher(router, NAME, exit_status=status)
        source.send("a")
        source.end()
        assert NAME in router
        before = len(ends)
        waits.vanish()
        assert ends[before:] == [(status, False)]


def test_listener_that_may_not_read_is_told_nothing(router: Router) -> None:
    """While it is not admitted it is no reader, and it is asked again when the rules change."""
    taken: list[bytes] = []
    ends: list[int] = []
    allowed = False
    listener = Listener(
        router,
        NAME,
        lambda chunk: taken.append(bytes(chunk.data)),
        lambda status, _broken: ends.append(status),
        lambda _: allowed,
    )
    listener.start()
    source = publisher(router, NAME)
    source.send("secret")
    assert source.paused
    source.vanish()
    assert (taken, ends) == ([], [])

    source = publisher(router, NAME)
    allowed = True
    router.review(NAME)
    source.send("shared")
    allowed = False
    router.review(NAME)
    source.send("secret")
    assert taken == [b"shared"]


def test_stopped_listener_reads_no_more(router: Router) -> None:
    """It leaves as any reader does."""
    taken: list[bytes] = []
    listener = Listener(router, NAME, lambda chunk: taken.append(bytes(chunk.data)))
    listener.start()
    sink = subscriber(router, NAME)
    source = publisher(router, NAME)
    source.send("a")
    listener.stop()
    listener.stop()
    source.send("b")
    source.end()
    sink.drain()
    assert taken == [b"a"]
    assert sink.finished == (Outcome.DONE, 0)
    assert source.receipts == [Receipt(2, 2, 1)]
