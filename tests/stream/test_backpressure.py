"""Law 3: who is paused, for whom, and until when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
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


def test_clogged_sink_pauses_all_publishers(router: Router) -> None:
    """While one sink is clogged nobody publishes; then all go on."""
    sinks = [subscriber(router, NAME) for _ in range(2)]
    sources = [publisher(router, NAME) for _ in range(3)]
    sinks[1].bound = 1
    sources[0].send("clog", "later")
    assert all(source.paused for source in sources)
    assert [len(sink.taken) for sink in sinks] == [1, 1]
    sinks[1].drain()
    assert not any(source.paused for source in sources)


def test_all_clogged_sinks_must_be_free(router: Router) -> None:
    """One free sink of two clogged ones is not enough."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    source.send(FULL)
    sinks[0].drain()
    assert source.paused
    sinks[1].drain()
    assert not source.paused


def test_sink_that_joins_clogged_pauses(router: Router) -> None:
    """A sink may be clogged from the start."""
    source = publisher(router, NAME, wants=0)
    sink = FakeSink(router)
    sink.clogged = True
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join(sink.member, NAME)
    assert source.paused
    sink.drain()
    assert not source.paused


def test_clogged_sink_that_leaves_pauses_nobody(router: Router) -> None:
    """A clogged sink no longer counts when it has left."""
    source = publisher(router, NAME)
    slow, fast = subscriber(router, NAME), subscriber(router, NAME, bound=10 * BOUND)
    source.send(FULL)
    slow.vanish()
    assert source.calls == ["resume", "pause", "resume"]
    source.send("on")
    assert len(fast.taken) == 2


def test_own_clogged_sink_does_not_pause(router: Router) -> None:
    """A pipe that does not read may write on; the others may not."""
    (source, own), (other, _) = pipe(router, NAME), pipe(router, NAME, bound=10 * BOUND)
    other.send(FULL)
    assert own.clogged
    assert (source.paused, other.paused) == (False, True)


def test_own_clogged_sink_pauses_with_replay(router: Router) -> None:
    """A pipe that hears itself must read what it writes."""
    source, own = pipe(router, NAME, replay=True)
    source.send(FULL, "later")
    assert source.paused
    own.drain()
    source.pump()
    own.drain()
    assert own.text == FULL + "later"


def test_publisher_waits_for_a_subscriber(router: Router) -> None:
    """A publisher that blocks starts when a subscriber is there."""
    source = publisher(router, NAME)
    source.send("kept")
    assert source.paused
    sink = subscriber(router, NAME)
    source.pump()
    sink.drain()
    assert sink.text == "kept"
    assert source.waits_heard == [1, 0]


def test_publisher_waits_for_as_many_as_it_wants(router: Router) -> None:
    """With min-subs it hears how many are missing, in both directions, until all are there."""
    source = publisher(router, NAME, wants=3)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    sinks[0].vanish()
    assert source.paused
    subscriber(router, NAME)
    subscriber(router, NAME)
    assert source.waits_heard == [3, 2, 1, 2, 1, 0]
    assert not source.paused


def test_min_subs_counts_once(router: Router) -> None:
    """Once it has started, one subscriber is enough; with none it waits for one."""
    source = publisher(router, NAME, wants=2)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    sinks[0].vanish()
    assert source.calls == ["resume"]
    sinks[1].vanish()
    assert source.calls == ["resume", "pause"]
    assert source.waits_heard == [2, 1, 0, 1]
    assert not sinks[1].finished
    subscriber(router, NAME)
    assert source.calls == ["resume", "pause", "resume"]


def test_publisher_with_enough_subscribers_never_waits(router: Router) -> None:
    """It is not told to wait if it need not."""
    subscriber(router, NAME)
    assert publisher(router, NAME).waits_heard == []


def test_pipe_never_waits(router: Router) -> None:
    """A pipe starts alone, and is a subscriber for others."""
    source, _ = pipe(router, NAME)
    assert not source.paused
    assert not publisher(router, NAME).paused


def test_chunk_is_not_lost_when_the_last_reader_leaves_inside_a_fan_out(router: Router) -> None:
    """The publisher is paused before its next chunk, which the next reader gets."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    sink.on_write = sink.vanish
    source.send("gone", "kept")
    assert source.paused
    late = subscriber(router, NAME)
    source.pump()
    late.drain()
    assert late.text == "kept"


def test_chunk_is_not_lost_when_the_reader_leaves_while_told(router: Router) -> None:
    """A publisher whose reader leaves while it hears that one is there waits again."""

    class Teller(FakeSource):
        def waits(self, missing: int) -> None:
            super().waits(missing)
            if not missing:
                sink.vanish()

    source = Teller(router, synchronous=True)
    source.member = Member(Mode.PUBLISH, source=source, wants=1)
    router.join(source.member, NAME)
    source.send("kept")
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join(sink.member, NAME)
    assert (source.paused, source.published, source.waits_heard) == (True, [], [1, 0, 1])


def test_publisher_that_leaves_while_another_is_told_is_told_nothing(router: Router) -> None:
    """Who leaves while a publisher hears that a reader is there is neither told nor resumed."""

    class Teller(FakeSource):
        def waits(self, missing: int) -> None:
            super().waits(missing)
            if not missing:
                other.vanish()

    source = Teller(router)
    source.member = Member(Mode.PUBLISH, source=source, wants=1)
    router.join(source.member, NAME)
    other = publisher(router, NAME)
    subscriber(router, NAME)
    assert (source.paused, source.waits_heard) == (False, [1, 0])
    assert (other.paused, other.waits_heard) == (True, [1])


def test_publishing_inside_resume_stops_at_a_clogged_sink(router: Router) -> None:
    """A source that publishes from inside resume is paused in there, as soon as a sink clogs."""
    source = publisher(router, NAME, synchronous=True)
    source.send(*[FULL] * 3)
    sink = subscriber(router, NAME)
    assert len(sink.taken) == 1
    sink.drain()
    assert len(sink.taken) == 2


def test_publishers_are_resumed_in_turn(router: Router) -> None:
    """One that always clogs the sink at once does not keep the others out."""
    sources = [publisher(router, NAME, synchronous=True) for _ in range(3)]
    for letter, source in zip("abc", sources, strict=True):
        source.send(*[letter * BOUND] * 4)
    sink = subscriber(router, NAME)
    for _ in range(6):
        sink.drain()
    assert sink.text == "".join(letter * BOUND for letter in "abcabc")


def test_thousand_publishers_do_not_nest(router: Router) -> None:
    """Resuming one from inside another's turn would end in a RecursionError."""
    sources = [publisher(router, NAME, synchronous=True) for _ in range(1000)]
    for source in sources:
        source.send("x")
    sink = subscriber(router, NAME, bound=10_000)
    assert len(sink.taken) == len(sources)


def test_pattern_reader_pauses_every_topic_that_it_reads(router: Router) -> None:
    """Clogged in one topic is clogged in all, and free in all."""
    sink = pattern_reader(router)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    here.send(FULL)
    assert (here.paused, there.paused) == (True, True)
    sink.drain()
    assert (here.paused, there.paused) == (False, False)


def test_clogged_pattern_reader_pauses_a_new_topic(router: Router) -> None:
    """A topic that opens while its pattern reader is clogged starts paused."""
    sink = pattern_reader(router)
    publisher(router, NAME).send(FULL)
    late = publisher(router, OTHER)
    assert late.paused
    sink.drain()
    assert not late.paused


def test_no_source_goes_on_inside_a_fan_out(router: Router) -> None:
    """A reader of two topics that clogs and breaks in one lets the other go on only afterwards.

    Otherwise the other's chunk would clog a sink that the fan-out has yet to reach.
    """
    breaking, shared = pattern_reader(router, bound=1), pattern_reader(router, bound=1)
    here, there = publisher(router, NAME), publisher(router, OTHER, synchronous=True)
    there.queue.append(Chunk(b"two"))  # there when it is resumed, and not before
    breaking.on_write = breaking.vanish
    here.send("one")
    shared.drain()
    shared.drain()
    assert shared.text == "onetwo"


def test_fan_out_goes_on_when_a_sink_breaks(router: Router) -> None:
    """A sink that breaks inside write costs no other sink a byte."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(3)]
    sinks[0].on_write = sinks[1].vanish
    source.send("a", "b")
    assert [len(sink.taken) for sink in sinks] == [2, 0, 2]
    assert len(router.members(NAME)) == 3


def test_sink_that_clogs_and_frees_inside_write(router: Router) -> None:
    """What a sink takes back within its write changes nothing."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    sink.on_write = sink.drain
    source.send(FULL)
    assert source.calls == ["resume"]


def test_error_in_a_sink_does_not_stop_the_router(router: Router) -> None:
    """A sink that raises, which none may, leaves the router able to work."""

    def fail() -> None:
        raise ZeroDivisionError

    source = publisher(router, NAME)
    broken, sink = subscriber(router, NAME), subscriber(router, NAME)
    broken.on_write = fail
    with pytest.raises(ZeroDivisionError):
        router.publish(source.member, Chunk(b"a"))
    sink.clogged = True
    router.update(sink.member)
    assert source.paused
