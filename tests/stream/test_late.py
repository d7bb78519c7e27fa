"""Readers that come late, one law at a time; tests.stream.test_history_machine mixes everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.errors import Outcome
from pipe.language.requests import OnSlow
from pipe.stream.history import Lag
from pipe.stream.ports import Mode
from pipe.stream.ring import PACKED_BYTES
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import NAME, FakeSink, publisher

if TYPE_CHECKING:
    from tests.fakes import FakeSource

LARGE = "x" * (PACKED_BYTES + 1)


def late(
    router: Router, *, bound: int = 10, on_slow: OnSlow = OnSlow.BLOCK, keep_alive: bool = False
) -> FakeSink:
    """A reader from the first byte of the stream on."""
    history = router.history(NAME)
    assert history
    sink = FakeSink(router, bound=bound, confirms=False)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink, on_slow=on_slow, keep_alive=keep_alive)
    sink.member.lag = Lag(history.stream.start, history.stream)
    router.join(sink.member, NAME)
    return sink


@pytest.fixture
def router() -> Router:
    """An empty one."""
    return Router()


@pytest.fixture
def writer(router: Router) -> FakeSource:
    """A publisher that waits for nobody, and keeps a little."""
    return publisher(router, NAME, wants=0, keep=1)


def test_receipt_waits_for_a_laggard(router: Router) -> None:
    """Law 5: a reader that has yet to catch up counts, until its client has confirmed the end."""
    writer = publisher(router, NAME, wants=0, keep=2 * len(LARGE))
    writer.send(LARGE, LARGE)
    reader = late(router)
    writer.end()
    assert not writer.receipts
    reader.drain()
    assert reader.finished == (Outcome.DONE, 0)
    reader.drain()
    assert not writer.receipts
    reader.confirm()
    assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, 0)]
    assert reader.text == 2 * LARGE


def test_laggard_that_leaves_left_early(router: Router) -> None:
    """Law 5: it has not got everything, and the receipt says so."""
    writer = publisher(router, NAME, wants=0, keep=2 * len(LARGE))
    writer.send(LARGE, LARGE)
    reader = late(router)
    writer.end()
    reader.vanish()
    assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, 1)]


def test_ring_does_not_pass_a_laggard(router: Router, writer: FakeSource) -> None:
    """Law 3: the publisher is paused before what the laggard has yet to read would go."""
    writer.send("a")
    reader = late(router, bound=1)
    writer.send(*[LARGE] * 5)
    assert reader.member.clogged
    while reader.pending:
        reader.drain()
        writer.pump()
    assert writer.calls[-1] == "resume"
    assert reader.text == "a" + 5 * LARGE


def test_laggard_that_drops_skips(router: Router, writer: FakeSource) -> None:
    """What the ring lets go is left out and counted; the receipt does not wait for it."""
    writer.send("a")
    reader = late(router, bound=1, on_slow=OnSlow.DROP)
    writer.send(LARGE, LARGE, LARGE)
    writer.end()
    assert not writer.paused
    while reader.pending:
        reader.drain()
    assert reader.finished == (Outcome.DROPPED, 0)
    assert len(reader.client) + reader.member.dropped_bytes == 1 + 3 * len(LARGE)
    reader.confirm()
    assert writer.receipts


def test_laggard_that_asked_for_it_is_cut(router: Router, writer: FakeSource) -> None:
    """One with `disconnect` is cut when the ring would pass it, not when its sink is full."""
    writer.send("a", "b")
    reader = late(router, bound=1, on_slow=OnSlow.DISCONNECT)
    assert reader.cut_for is None
    writer.send(LARGE, LARGE, LARGE)
    assert reader.cut_for is Outcome.SLOW


def test_end_of_the_past(router: Router) -> None:
    """Law 6: a reader of a stream that is over ends as those did that were there."""
    writer = publisher(router, NAME, wants=0, keep=1, linger=1.0, exit_status=3)
    writer.send("hello")
    writer.end()
    reader = late(router)
    reader.drain()
    assert (reader.text, reader.finished) == ("hello", (Outcome.DONE, 3))
    reader.confirm()
    router.let_go(NAME)
    assert NAME not in router


def test_broken_past(router: Router) -> None:
    """One that reads a broken stream late is told so, too."""
    writer = publisher(router, NAME, wants=0, keep=1, linger=1.0)
    writer.send("hello")
    writer.vanish()
    reader = late(router)
    reader.drain()
    assert (reader.text, reader.finished) == ("hello", (Outcome.BROKEN, 0))


def test_streams_are_told_apart(router: Router) -> None:
    """A stream begins with its first publisher and has a name and numbers of its own."""
    names = []
    for text in ("one", "three"):
        writer = publisher(router, NAME, wants=0, keep=100, linger=1.0)
        writer.send(text)
        writer.end()
        history = router.history(NAME)
        assert history
        assert history.kept[1:] == (0, len(text), True, True)
        names.append(history.kept.stream)
    assert len(set(names)) == 2


def test_publisher_without_readers_changes_nothing(router: Router) -> None:
    """One that comes and goes before it has started leaves the stream before as it was."""
    first = publisher(router, NAME, wants=0, keep=100, linger=1.0)
    first.send("one")
    first.end()
    history = router.history(NAME)
    assert history
    before = history.kept
    second = publisher(router, NAME, wants=1)
    assert history.kept != before
    second.vanish()
    assert history.kept == before


def test_what_came_before_has_no_numbers(router: Router) -> None:
    """Where a stream was under way before it was kept, its bytes cannot be numbered."""
    publisher(router, NAME, wants=0).send("unkept")
    publisher(router, NAME, wants=0, keep=100)
    history = router.history(NAME)
    assert history
    assert not history.kept.numbered
