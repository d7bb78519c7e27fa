"""Law 4: a clogged reader is told when others wait for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.fakes import (
    BOUND,
    FULL,
    NAME,
    OTHER,
    FakeSink,
    FakeSource,
    pattern_reader,
    pipe,
    publisher,
    subscriber,
)

if TYPE_CHECKING:
    from pipe.stream.router import Router


def test_clogged_sink_is_waited_for_by_a_free_one(router: Router) -> None:
    """It is told when others begin to wait and when it is clogged no more, and not in between."""
    source = publisher(router, NAME)
    slow, fast = subscriber(router, NAME), subscriber(router, NAME)
    source.send(FULL)
    assert (slow.told, fast.told) == ([], [])
    fast.drain()
    subscriber(router, NAME)
    publisher(router, NAME)
    assert slow.told == [True]
    slow.drain()
    assert (slow.told, fast.told) == ([True, False], [])


def test_lone_slow_reader_is_never_waited_for(router: Router) -> None:
    """It has a right to its own pace."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send(FULL)
    assert sink.told == []


def test_nobody_waits_where_nobody_publishes(router: Router) -> None:
    """Without a publisher the others have nothing to wait for; with a new one they have."""
    source = publisher(router, NAME)
    slow, fast = (subscriber(router, NAME, keep_alive=True) for _ in range(2))
    source.send(FULL)
    fast.drain()
    source.vanish()
    assert slow.told == [True, False]
    publisher(router, NAME)
    assert slow.told == [True, False, True]


def test_nobody_waits_when_the_free_one_leaves(router: Router) -> None:
    """Without the others it is a lone reader again."""
    source = publisher(router, NAME)
    slow, fast = subscriber(router, NAME), subscriber(router, NAME)
    source.send(FULL)
    fast.drain()
    fast.vanish()
    assert slow.told == [True, False]


def test_publisher_that_waits_for_subscribers_holds_nobody_up(router: Router) -> None:
    """Others wait for the missing subscribers then, not for the clogged one."""
    other = publisher(router, OTHER)
    slow = pattern_reader(router)
    other.send(FULL)
    fast = subscriber(router, NAME)
    publisher(router, NAME, wants=3)
    assert slow.told == []
    subscriber(router, NAME)
    assert slow.told == [True]
    assert not fast.told


def test_two_pipes_are_lone_readers(router: Router) -> None:
    """Of two pipes each is the other's only reader: neither is cut."""
    (_, slow), (source, _) = pipe(router, NAME), pipe(router, NAME)
    source.send(FULL)
    assert slow.told == []
    pipe(router, NAME)
    assert slow.told == [True]


def test_clogged_writer_is_not_waited_for_by_its_own_readers(router: Router) -> None:
    """A clogged pipe that is the only publisher holds up nobody, as it may write on."""
    (source, own), (other, _) = pipe(router, NAME), pipe(router, NAME, bound=10 * BOUND)
    other.send(FULL)
    other.vanish()
    subscriber(router, NAME)
    assert own.clogged
    assert not source.paused
    assert own.told == []


def test_clogged_writer_is_not_what_holds_itself_up(router: Router) -> None:
    """Of two clogged pipes that the only writer among them must wait for, it is the other one."""
    (source, own), (_, other) = pipe(router, NAME), pipe(router, NAME)
    third = publisher(router, NAME)
    third.send(FULL)
    third.vanish()
    other_source = next(m.source for m in router.members(NAME) if m.sink is other)
    assert isinstance(other_source, FakeSource)
    other_source.end()  # paused: its end of file is not read yet
    router.end(other_source.member)
    subscriber(router, NAME)
    assert source.paused
    assert (own.waited, other.waited) == (False, True)


def test_sink_is_not_waited_for_after_its_end(router: Router) -> None:
    """A reader that is to finish may take its time: nobody has more to wait for."""
    source = publisher(router, NAME)
    slow, fast = subscriber(router, NAME), subscriber(router, NAME, keep_alive=True)
    source.send(FULL)
    fast.drain()
    source.end()
    assert slow.told == [True]  # paused, so its end of file is not read yet
    router.end(source.member)
    assert slow.told == [True, False]
    assert slow.finished


def test_pattern_reader_is_told_once(router: Router) -> None:
    """Waited for in two topics is told as one."""
    sink = pattern_reader(router)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    subscriber(router, NAME)
    subscriber(router, OTHER)
    there.send("x")
    here.send(FULL)
    for reader in router.members(NAME):
        if isinstance(reader.sink, FakeSink) and reader.sink is not sink:
            reader.sink.drain()
    assert sink.told == [True]
    here.vanish()
    assert sink.told == [True]
    there.vanish()
    assert sink.told == [True, False]
