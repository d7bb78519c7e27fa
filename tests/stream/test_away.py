"""Readers whose client is away: their place is kept, and another reader goes on there."""

from __future__ import annotations

import pytest

from pipe.errors import Outcome
from pipe.stream.history import ON_ITS_WAY_BYTES, Lag
from pipe.stream.ports import Mode
from pipe.stream.ring import PACKED_BYTES
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import NAME, FakeSink, publisher, subscriber

LARGE = "x" * (PACKED_BYTES + 1)


class Away:
    """A reader that was set aside, and what was told of it."""

    def __init__(self, router: Router, sink: FakeSink) -> None:
        self.router = router
        self.member = sink.member
        self.told: list[bool] = []
        self.held = router.set_aside(sink.member, self.told.append)

    def heir(self, offset: int, *, bound: int = 1 << 20) -> FakeSink:
        """Another reader that goes on in its place."""
        lag = self.member.lag
        assert lag
        sink = FakeSink(self.router, bound=bound, confirms=False)
        sink.member = Member(Mode.SUBSCRIBE, sink=sink)
        sink.member.lag = Lag(lag.stream.start + offset, lag.stream)
        with self.router.at_once():
            self.router.join(sink.member, NAME)
            self.router.hand_on(self.member, sink.member)
        return sink


@pytest.fixture
def router() -> Router:
    """An empty one."""
    return Router()


def test_reader_goes_on_where_it_was(router: Router) -> None:
    """It gets what was on its way, and what comes; for the publisher it is one reader."""
    writer = publisher(router, NAME, keep=1 << 20)
    reader = subscriber(router, NAME)
    writer.send("one", "two")
    reader.drain(3)
    away = Away(router, reader)
    writer.send("three")
    assert not writer.paused
    heir = away.heir(3)
    writer.send("four")
    writer.end()
    heir.drain()
    heir.confirm()
    assert (reader.text, heir.text) == ("one", "twothreefour")
    assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, 0)]
    assert not away.member.joined
    assert NAME not in router


def test_publisher_stops_before_the_ring_passes_it(router: Router) -> None:
    """Law 3: the byte that its client may lack stays, however much could be published."""
    writer = publisher(router, NAME, keep=1)
    reader = subscriber(router, NAME, bound=1 << 20)
    writer.send("a")
    away = Away(router, reader)
    writer.send(*[LARGE] * 5)
    assert writer.paused
    assert away.member.clogged
    heir = away.heir(0)
    while heir.pending or writer.queue:
        heir.drain()
        writer.pump()
    assert heir.text == "a" + 5 * LARGE


def test_publisher_that_has_ended_waits_for_it(router: Router) -> None:
    """Law 5: there is no receipt before the reader is back and has it all, or is given up."""
    for gives_up in (False, True):
        writer = publisher(router, NAME, keep=1 << 20)
        away = Away(router, subscriber(router, NAME))
        writer.send("all")
        writer.end()
        assert not writer.receipts
        if gives_up:
            router.leave(away.member)
        else:
            heir = away.heir(0)
            heir.drain()
            assert heir.finished == (Outcome.DONE, 0)
            assert not writer.receipts
            heir.confirm()
        assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, gives_up)]


def test_reader_lost_after_the_end(router: Router) -> None:
    """One that was told of the end, and has not confirmed it, goes on as well."""
    writer = publisher(router, NAME, keep=1 << 20, exit_status=3)
    reader = subscriber(router, NAME, confirms=False)
    writer.send("hello")
    writer.end()
    assert reader.finished
    away = Away(router, reader)
    heir = away.heir(2)
    assert not writer.receipts
    heir.drain()
    assert (heir.text, heir.finished) == ("llo", (Outcome.DONE, 3))
    heir.confirm()
    assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, 0)]


def test_reader_lost_while_late(router: Router) -> None:
    """One that was catching up keeps its place, too."""
    writer = publisher(router, NAME, wants=0, keep=1 << 20)
    writer.send("hello")
    history = router.history(NAME)
    assert history
    reader = FakeSink(router, bound=1)
    reader.member = Member(Mode.SUBSCRIBE, sink=reader)
    reader.member.lag = Lag(0, history.stream)
    router.join(reader.member, NAME)
    away = Away(router, reader)
    writer.end()
    heir = away.heir(0)
    heir.drain()
    assert (heir.text, heir.finished) == ("hello", (Outcome.DONE, 0))
    heir.confirm()
    assert [(one.subscribers, one.left_early) for one in writer.receipts] == [(1, 0)]


def test_next_stream_does_not_take_the_place(router: Router) -> None:
    """It goes on in its own stream, and ends with that."""
    first = publisher(router, NAME, keep=1 << 20)
    away = Away(router, subscriber(router, NAME))
    first.send("first")
    first.end()
    second = publisher(router, NAME, wants=0, keep=1)
    second.send("second")
    heir = away.heir(0)
    heir.drain()
    assert (heir.text, heir.finished) == ("first", (Outcome.DONE, 0))
    heir.confirm()
    assert first.receipts


def test_next_stream_is_not_for_it(router: Router) -> None:
    """A publisher that comes later waits for another reader, and its receipt tells of that one."""
    first = publisher(router, NAME, keep=1 << 20)
    away = Away(router, subscriber(router, NAME))
    first.send("first")
    first.end()
    second = publisher(router, NAME)
    second.send("second")
    assert second.waiting == 1
    reader = subscriber(router, NAME)
    assert not second.waiting
    second.end()
    reader.drain()
    assert reader.text == "second"
    assert [(one.subscribers, one.left_early) for one in second.receipts] == [(1, 0)]
    assert not first.receipts
    router.leave(away.member)
    assert [(one.subscribers, one.left_early) for one in first.receipts] == [(1, 1)]


def test_others_who_wait_are_told_of(router: Router) -> None:
    """Law 4 holds for one that is away: whoever holds it hears that others wait."""
    writer = publisher(router, NAME, keep=1)
    reader, _ = subscriber(router, NAME), subscriber(router, NAME, bound=1 << 20)
    writer.send("a")
    away = Away(router, reader)
    writer.send(*[LARGE] * 5)
    assert away.told == [True]
    router.leave(away.member)
    assert not writer.paused


def test_nothing_to_hold(router: Router) -> None:
    """Where nothing is kept, nobody could go on."""
    publisher(router, NAME)
    assert not Away(router, subscriber(router, NAME)).held


def test_bytes_without_numbers(router: Router) -> None:
    """Nor where a stream was kept too late to be numbered."""
    publisher(router, NAME, wants=0).send("unkept")
    publisher(router, NAME, wants=0, keep=100)
    assert not Away(router, subscriber(router, NAME)).held


def test_who_came_back_before_the_loss_was_noticed(router: Router) -> None:
    """A reader of the same user that has begun where this one was is no reason to hold both."""
    writer = publisher(router, NAME, wants=0, keep=1 << 20)
    readers = [subscriber(router, NAME) for _ in range(3)]
    writer.send("hello")
    history = router.history(NAME)
    assert history
    back = FakeSink(router)
    back.member = Member(Mode.SUBSCRIBE, sink=back)
    back.member.lag, back.member.began = Lag(2, history.stream), 2
    router.join(back.member, NAME)
    assert [Away(router, reader).held for reader in readers] == [False, True, True]


def test_place_is_no_older_than_what_is_on_its_way(router: Router) -> None:
    """It is so much before what the reader was handed, and no more."""
    piece = "x" * (ON_ITS_WAY_BYTES // 2)
    writer = publisher(router, NAME, keep=4 * ON_ITS_WAY_BYTES)
    reader = subscriber(router, NAME, bound=1 << 40)
    writer.send(*[piece] * 5)
    reader.drain()
    away = Away(router, reader)
    assert away.member.lag
    assert away.member.lag.position == 5 * len(piece) - ON_ITS_WAY_BYTES


@pytest.mark.parametrize("late", [False, True])
def test_place_is_before_what_was_never_written(router: Router, late: bool) -> None:
    """What its sink took when it could write no more was not even on its way to the client."""
    piece = "x" * (ON_ITS_WAY_BYTES // 2)
    writer = publisher(router, NAME, wants=0, keep=10 * ON_ITS_WAY_BYTES)
    reader = subscriber(router, NAME, bound=1 << 40)
    writer.send(*[piece] * 4)
    reader.drain(3 * len(piece))
    history = router.history(NAME)
    assert history
    if late:
        back = FakeSink(router)
        back.member = Member(Mode.SUBSCRIBE, sink=back)
        back.member.lag, back.member.began = Lag(len(piece), history.stream), len(piece)
        router.join(back.member, NAME)
    writer.send(*[piece] * 4)
    away = Away(router, reader)
    assert away.held is not late
    if not late:
        assert away.member.lag
        assert away.member.lag.position == 3 * len(piece) - ON_ITS_WAY_BYTES


def test_next_stream_has_the_name_that_was_promised(router: Router) -> None:
    """Who waits for a stream knows it before it comes; without a past there is none."""
    subscriber(router, NAME)
    name = router.promise(NAME)
    assert name == router.promise(NAME)
    publisher(router, NAME, keep=1)
    history = router.history(NAME)
    assert history
    assert history.stream.name == name
    assert not router.promise(NAME)
