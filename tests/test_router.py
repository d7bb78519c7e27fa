"""The rules of `pipe.router` one by one; `tests.test_router_machine` mixes them all."""

from __future__ import annotations

import pytest

from pipe.chunks import Chunk
from pipe.errors import Outcome
from pipe.members import Member, Mode, Receipt
from pipe.names import Pattern, TopicName
from pipe.requests import Dispatch, OnSlow
from pipe.router import Router
from tests.fakes import BOUND, FakeSink, FakeSource, pipe, publisher, subscriber

NAME = TopicName("alice", ("build",))
OTHER = TopicName("alice", ("test",))
ALL = Pattern("alice", ("*",))
FULL = "x" * BOUND


@pytest.fixture(name="router")
def empty_router() -> Router:
    """An empty router."""
    return Router()


def pattern_reader(router: Router, pattern: Pattern = ALL, *, bound: int = BOUND) -> FakeSink:
    """Join every topic of a pattern."""
    sink = FakeSink(router, bound=bound)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, pattern, lambda _: True)
    return sink


# -- 1. bytes --------------------------------------------------------------------------------------


def test_every_subscriber_gets_every_chunk(router: Router) -> None:
    """A chunk goes to every subscriber: the very object, not a copy."""
    source = publisher(router, NAME, wants=2)
    first, second = subscriber(router, NAME), subscriber(router, NAME)
    source.send("one", "two")
    assert first.taken == second.taken == source.published


def test_publishers_interleave_at_chunks(router: Router) -> None:
    """Chunks of two publishers are neither cut nor joined."""
    sink = subscriber(router, NAME)
    one, two = publisher(router, NAME), publisher(router, NAME)
    one.send("a1")
    two.send("b1")
    one.send("a2")
    assert [bytes(chunk.data) for chunk in sink.taken] == [b"a1", b"b1", b"a2"]


def test_topics_are_apart(router: Router) -> None:
    """What is published on one topic does not reach another."""
    here, there = subscriber(router, NAME), subscriber(router, OTHER)
    publisher(router, NAME).send("here")
    here.drain()
    assert (here.text, there.taken) == ("here", [])


def test_non_blocking_publisher_discards(router: Router) -> None:
    """A publisher that does not wait sends to nobody if nobody is there."""
    source = publisher(router, NAME, wants=0)
    source.send("lost")
    sink = subscriber(router, NAME)
    source.send("kept")
    sink.drain()
    assert sink.text == "kept"


def test_pipe_does_not_hear_itself(router: Router) -> None:
    """A pipe's own chunks go to the others only."""
    (source, own), (_, other) = pipe(router, NAME), pipe(router, NAME)
    source.send("hi")
    assert (len(own.taken), len(other.taken)) == (0, 1)


def test_pipe_with_replay_hears_itself(router: Router) -> None:
    """With replay a pipe's own chunks come back to it, once."""
    source, own = pipe(router, NAME, replay=True)
    source.send("hi")
    assert own.taken == source.published


def test_round_robin_takes_turns(router: Router) -> None:
    """With round robin each chunk goes to one subscriber, and they take turns."""
    source = publisher(router, NAME, wants=3, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME) for _ in range(3)]
    source.send(*"abcdefg")
    for sink in sinks:
        sink.drain()
    assert [sink.text for sink in sinks] == ["adg", "be", "cf"]


@pytest.mark.parametrize(("leaver", "after"), [(0, "CB"), (1, "CA"), (2, "AB")])
def test_round_robin_keeps_the_turn_when_one_leaves(
    router: Router, leaver: int, after: str
) -> None:
    """Whoever leaves, the turn stays with the one who has waited longest."""
    source = publisher(router, NAME, wants=3, dispatch=Dispatch.ROUND_ROBIN)
    sinks = {letter: subscriber(router, NAME) for letter in "ABC"}
    source.send("to A", "to B")
    list(sinks.values())[leaver].vanish()
    for letter in after:
        before = len(sinks[letter].taken)
        source.send("next")
        assert len(sinks[letter].taken) == before + 1


def test_round_robin_passes_over_the_pipe_that_writes(router: Router) -> None:
    """A pipe's chunks are dealt to the others; with replay it takes its own turn too."""
    source, own = pipe(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    source.send(*"abcd")
    for sink in sinks:
        sink.drain()
    assert (own.taken, [sink.text for sink in sinks]) == ([], ["ac", "bd"])


@pytest.mark.parametrize("replay", [False, True])
@pytest.mark.parametrize("batches", [[5], [1, 1, 3], [2, 3], [7, 1, 1, 9]])
def test_dealing_records_equals_publishing_each(replay: bool, batches: list[int]) -> None:
    """Dealt records reach the same readers as one chunk per record, joined to one chunk each."""
    texts: list[list[str]] = []
    for dealt in (True, False):
        router = Router()
        source, own = pipe(router, NAME, dispatch=Dispatch.ROUND_ROBIN, replay=replay)
        sinks = [own, *(subscriber(router, NAME) for _ in range(3))]
        serial = 0
        for size in batches:
            records = [f"{serial + i};".encode() for i in range(size)]
            serial += size
            if dealt:
                router.deal(source.member, records, Chunk)
            else:
                source.send(*records)
        for sink in sinks:
            sink.drain()
        texts.append([sink.text for sink in sinks])
        assert router.statistics().received_bytes[Mode.PIPE] == sum(
            len(f"{i};") for i in range(serial)
        )
    assert texts[0] == texts[1]


def test_dealing_makes_one_chunk_per_reader(router: Router) -> None:
    """Many records cost one chunk per reader that gets any."""
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    router.deal(source.member, [b"%d\n" % i for i in range(9)], Chunk)
    router.deal(source.member, [], Chunk)
    assert [len(sink.taken) for sink in sinks] == [1, 1]
    assert router.statistics().received_chunks == 2


def test_dealing_by_multicast_joins_the_records(router: Router) -> None:
    """Where everybody gets everything, the records go in one chunk."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    router.deal(source.member, [b"a\n", b"b\n"], Chunk)
    assert [bytes(chunk.data) for sink in sinks for chunk in sink.taken] == [b"a\nb\n"] * 2


def test_deal_is_one_fan_out(router: Router) -> None:
    """What a share sets free comes after the last share, or it would clog those yet to be dealt."""
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME, bound=4) for _ in range(2)]
    other = publisher(router, NAME, wants=3, synchronous=True)
    other.send("more")
    sinks[0].on_write = lambda: subscriber(router, NAME)
    router.deal(source.member, [b"a\n", b"b\n"], Chunk)
    for sink in sinks:
        sink.drain()
    assert [sink.text for sink in sinks] == ["a\nmore", "b\nmore"]


# -- 2. order --------------------------------------------------------------------------------------


def test_subscriber_begins_where_it_joins(router: Router) -> None:
    """Who comes later gets what comes later, without a hole."""
    source = publisher(router, NAME)
    early = subscriber(router, NAME)
    source.send("1")
    late = subscriber(router, NAME)
    source.send("2", "3")
    for sink in (early, late):
        sink.drain()
    assert (early.text, late.text) == ("123", "23")


def test_drop_leaves_out_whole_chunks_and_counts_them(router: Router) -> None:
    """A reader that asked for drop loses chunks while it is clogged, and stalls nobody."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, on_slow=OnSlow.DROP)
    source.send(FULL, "lost", "too")
    assert not source.paused
    sink.drain()
    source.send("kept")
    sink.drain()
    assert sink.text == FULL + "kept"
    assert sink.member.dropped_bytes == router.statistics().dropped_bytes == len("lost" + "too")
    source.end()
    assert sink.finished == (Outcome.DROPPED, 0)
    assert sink.exit_status == 75


def test_disconnect_cuts_a_slow_reader_off(router: Router) -> None:
    """A reader that asked for disconnect is cut when it clogs, and gets nothing after that."""
    source = publisher(router, NAME)
    fast, slow = (
        subscriber(router, NAME, bound=10 * BOUND),
        subscriber(router, NAME, on_slow=OnSlow.DISCONNECT, confirms=False),
    )
    source.send("a", FULL, "b")
    assert (slow.cut_for, len(slow.taken), len(fast.taken)) == (Outcome.SLOW, 2, 3)
    assert not source.paused
    source.end()
    slow.vanish()
    fast.drain()
    assert source.receipts == [Receipt(len("a" + FULL + "b"), 2, 1)]


def test_disconnect_is_cut_after_its_own_write(router: Router) -> None:
    """A sink is not cut from inside its own write, and is cut once."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, on_slow=OnSlow.DISCONNECT)
    seen: list[Outcome | None] = []

    def look() -> None:
        router.update(sink.member)
        seen.append(sink.cut_for)

    sink.on_write = look
    source.send(FULL)
    assert (seen, sink.cut_for) == ([None], Outcome.SLOW)


def test_disconnect_that_joins_clogged_is_cut(router: Router) -> None:
    """A reader that is clogged when it joins gets no grace."""
    sink = FakeSink(router)
    sink.clogged = True
    sink.member = Member(Mode.SUBSCRIBE, sink=sink, on_slow=OnSlow.DISCONNECT)
    router.join(sink.member, NAME)
    assert sink.cut_for is Outcome.SLOW


# -- 3. backpressure -------------------------------------------------------------------------------


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


# -- 4. stall --------------------------------------------------------------------------------------


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


# -- 5. drained end --------------------------------------------------------------------------------


def test_receipt_comes_when_the_last_reader_has_left(router: Router) -> None:
    """A publisher is done when every reader's client has confirmed."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME, confirms=False) for _ in range(2)]
    source.send("hello")
    source.end()
    for sink in sinks:
        assert sink.finished == (Outcome.DONE, 0)
        sink.drain()
        assert not source.receipts
        sink.confirm()
    assert source.receipts == [Receipt(5, 2, 0)]


def test_receipt_comes_when_those_that_stay_have_written_all(router: Router) -> None:
    """For a reader that stays, its last byte on the connection is enough."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, keep_alive=True)
    source.send("hello")
    source.end()
    sink.drain(4)
    assert not source.receipts
    sink.drain(1)
    assert source.receipts == [Receipt(5, 1, 0)]
    assert not sink.over


def test_receipt_does_not_wait_for_what_others_publish(router: Router) -> None:
    """A reader that stays and is kept busy by another publisher passes the mark all the same."""
    source = publisher(router, NAME)
    busy = publisher(router, NAME)
    sink = subscriber(router, NAME, bound=1000)
    source.send("hello")
    source.end()
    busy.send("more")
    sink.drain(4)
    busy.send("more")
    assert not source.receipts
    sink.drain(1)
    busy.send("more")
    assert source.receipts == [Receipt(5, 1, 0)]


def test_receipt_comes_when_a_busy_sink_is_free_again(router: Router) -> None:
    """Half drained, with the mark passed: it is seen when the sink tells that it is free."""
    source = publisher(router, NAME)
    busy = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("hello")
    source.end()
    busy.send(FULL)
    sink.drain(BOUND // 2 + 5)
    assert sink.pending
    assert source.receipts == [Receipt(5, 1, 0)]


def test_reader_that_finishes_meanwhile_must_confirm(router: Router) -> None:
    """A reader that stayed and then ends too has to confirm for both publishers."""
    first, last = publisher(router, NAME), publisher(router, NAME)
    sink = subscriber(router, NAME, confirms=False)
    first.send("one")
    first.end()
    last.send("two")
    last.end()
    sink.drain()
    assert (first.receipts, last.receipts) == ([], [])
    sink.confirm()
    assert (first.receipts, last.receipts) == ([Receipt(3, 1, 0)], [Receipt(3, 1, 0)])


def test_empty_publisher_waits_for_no_bytes_of_others(router: Router) -> None:
    """One that sent nothing is done at once where the readers stay."""
    empty, busy = publisher(router, NAME), publisher(router, NAME)
    subscriber(router, NAME)
    busy.send(FULL)
    router.end(empty.member)
    assert empty.receipts == [Receipt(0, 1, 0)]


def test_receipt_without_readers(router: Router) -> None:
    """A publisher that sent to nobody gets its receipt at once."""
    source = publisher(router, NAME, wants=0)
    source.send("hello")
    source.end()
    assert source.receipts == [Receipt(5, 0, 0)]


def test_receipt_counts_those_that_left_early(router: Router) -> None:
    """Gone before the end, or before the last byte was written, is early; gone after is not."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME, confirms=False) for _ in range(3)]
    source.send("hello")
    sinks[0].drain()
    sinks[0].vanish()
    source.end()
    sinks[1].drain(4)
    sinks[1].vanish()
    sinks[2].drain()
    sinks[2].vanish()
    assert source.receipts == [Receipt(5, 3, 2)]


def test_receipt_counts_a_staying_reader_that_breaks(router: Router) -> None:
    """One that would have stayed but vanished before its last byte left early."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, keep_alive=True)
    source.send("hello")
    source.end()
    sink.vanish()
    assert source.receipts == [Receipt(5, 1, 1)]


def test_receipt_counts_late_readers(router: Router) -> None:
    """All readers that it reached count, not only those from the start."""
    source = publisher(router, NAME)
    first = subscriber(router, NAME)
    source.send("a")
    second = subscriber(router, NAME)
    source.send("b")
    for sink in (first, second):
        sink.drain()
    source.end()
    assert source.receipts == [Receipt(2, 2, 0)]


def test_readers_that_leave_inside_finish(router: Router) -> None:
    """Readers with nothing pending may leave at once, and take others along."""
    source = publisher(router, NAME)

    class Dragging(FakeSink):
        def finish(self, outcome: Outcome, exit_status: int) -> None:
            last.vanish()
            super().finish(outcome, exit_status)

    dragging = Dragging(router)
    dragging.member = Member(Mode.SUBSCRIBE, sink=dragging)
    router.join(dragging.member, NAME)
    last = subscriber(router, NAME)
    source.end()
    assert not last.finished
    assert source.receipts == [Receipt(0, 2, 0)]
    assert NAME not in router


def test_end_of_file_reaches_readers_after_the_chunk_that_it_interrupts(router: Router) -> None:
    """An end from inside a fan-out waits until everybody has the chunk."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    sinks[0].on_write = lambda: router.end(source.member)
    router.publish(source.member, Chunk(b"last"))
    for sink in sinks:
        assert sink.finished
        sink.drain()
        assert sink.text == "last"
    assert source.receipts == [Receipt(4, 2, 0)]


def test_publisher_that_breaks_inside_its_own_fan_out(router: Router) -> None:
    """Readers get the whole chunk, and then learn that the stream broke."""
    source, own = pipe(router, NAME, replay=True)
    sink = subscriber(router, NAME)
    own.on_write = own.vanish
    source.send("last")
    sink.drain()
    assert (sink.text, sink.finished) == ("last", (Outcome.BROKEN, 0))


def test_publisher_may_vanish_while_it_waits_for_its_readers(router: Router) -> None:
    """An ended publisher that leaves breaks nothing and gets no receipt."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("hello")
    source.end()
    source.vanish()
    sink.drain()
    assert (sink.finished, source.receipts) == ((Outcome.DONE, 0), [])
    assert NAME not in router
    assert [*source.member.awaits, *sink.member.awaited_by] == []


def test_end_before_the_start_waits(router: Router) -> None:
    """The end of an empty stream waits for a subscriber, as bytes would."""
    source = publisher(router, NAME, exit_status=7)
    router.end(source.member)
    assert not source.receipts
    sink = subscriber(router, NAME)
    assert (sink.finished, source.receipts) == ((Outcome.DONE, 7), [Receipt(0, 1, 0)])
    assert source.waits_heard == [1, 0]
    assert NAME not in router


def test_end_counts_once(router: Router) -> None:
    """A second end does nothing, nor does a chunk after the end."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, keep_alive=True)
    router.end(source.member)
    router.end(source.member)
    router.publish(source.member, Chunk(b"late"))
    router.deal(source.member, [b"late"], Chunk)
    assert (len(source.receipts), sink.taken) == (1, [])


def test_pipe_gets_no_receipt(router: Router) -> None:
    """A pipe whose stdin ends goes on reading."""
    (source, own), (other, _) = pipe(router, NAME), pipe(router, NAME)
    source.end()
    other.send("answer")
    own.drain()
    assert (own.text, source.receipts) == ("answer", [])


# -- 6. ends ---------------------------------------------------------------------------------------


def test_reader_ends_with_the_last_publisher(router: Router) -> None:
    """Not with the first."""
    sources = [publisher(router, NAME) for _ in range(2)]
    sink = subscriber(router, NAME)
    sources[0].end()
    assert not sink.finished
    sources[1].end()
    assert sink.finished == (Outcome.DONE, 0)


def test_reader_waits_for_a_publisher(router: Router) -> None:
    """A reader that nobody has written to stays."""
    sink = subscriber(router, NAME)
    other = subscriber(router, NAME)
    other.vanish()
    assert not sink.over


def test_reader_that_keeps_alive_stays(router: Router) -> None:
    """It reads the next publisher too."""
    sink = subscriber(router, NAME, keep_alive=True)
    for text in ("one", "two"):
        source = publisher(router, NAME)
        source.send(text)
        source.end()
    sink.drain()
    assert (sink.text, sink.over) == ("onetwo", False)


def test_pattern_reader_stays(router: Router) -> None:
    """One on a pattern stays as with keep-alive, and needs no topic."""
    sink = pattern_reader(router)
    for name in (NAME, OTHER):
        source = publisher(router, name)
        source.send(str(name), " ")
        source.end()
        sink.drain()
    assert sink.text == "alice/build alice/test "
    assert not sink.over
    assert list(router.topics()) == []


def test_ended_pipe_is_a_subscriber(router: Router) -> None:
    """It ends with the last publisher; alone it waits for one."""
    source, sink = pipe(router, NAME)
    source.end()
    assert not sink.over
    last = publisher(router, NAME)
    last.end()
    assert sink.finished == (Outcome.DONE, 0)


def test_pipe_that_ends_last_ends_too(router: Router) -> None:
    """Where there was another publisher, nobody is left to wait for."""
    (first, _), (last, sink) = pipe(router, NAME), pipe(router, NAME)
    first.end()
    last.end()
    assert sink.finished == (Outcome.DONE, 0)
    assert NAME not in router


def test_pipe_that_has_not_ended_stays(router: Router) -> None:
    """A pipe goes on when the others have ended."""
    source, sink = pipe(router, NAME)
    publisher(router, NAME).end()
    assert not sink.over
    assert not source.paused


def test_finished_reader_is_no_reader(router: Router) -> None:
    """One that is about to leave counts for no new publisher and gets nothing from it."""
    first = publisher(router, NAME)
    sink = subscriber(router, NAME, confirms=False)
    first.send("one")
    first.end()
    second = publisher(router, NAME)
    assert second.waiting == 1
    sink.drain()
    assert sink.text == "one"


def test_vanished_publisher_breaks_its_readers(router: Router) -> None:
    """A publisher gone without end of file is a broken stream: 74."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("half")
    source.vanish()
    sink.drain()
    assert (sink.text, sink.finished, sink.exit_status) == ("half", (Outcome.BROKEN, 0), 74)


def test_broken_stays_broken(router: Router) -> None:
    """A reader that lost a publisher ends as broken, however well the others end."""
    bad, good = publisher(router, NAME), publisher(router, NAME)
    sink = subscriber(router, NAME)
    bad.vanish()
    late = subscriber(router, NAME)
    good.end()
    assert sink.finished == (Outcome.BROKEN, 0)
    assert late.finished == (Outcome.DONE, 0)


def test_silent_pipe_breaks_nothing(router: Router) -> None:
    """A pipe that never wrote may go as it likes; one that did is missed."""
    (silent, _), (loud, _) = pipe(router, NAME), pipe(router, NAME)
    early = subscriber(router, NAME)
    loud.send("x")
    loud.vanish()
    late = subscriber(router, NAME)
    silent.vanish()
    assert early.finished == (Outcome.BROKEN, 0)
    assert late.finished == (Outcome.DONE, 0)


def test_publisher_that_gives_up_ends_nobody(router: Router) -> None:
    """One that never started breaks no reader, hands on no status, and ends none."""
    source = publisher(router, NAME, wants=2, exit_status=9)
    sink = subscriber(router, NAME)
    source.vanish()
    assert not sink.over
    last = publisher(router, NAME)
    last.end()
    assert sink.finished == (Outcome.DONE, 0)


def test_reader_stays_for_a_publisher_that_waits(router: Router) -> None:
    """A publisher that waits is a publisher: readers stay for it, and end when it gives up."""
    waiting = publisher(router, NAME, wants=2, exit_status=9)
    sink = subscriber(router, NAME)
    publisher(router, NAME, exit_status=3).end()
    assert not sink.over
    waiting.vanish()
    assert sink.finished == (Outcome.DONE, 3)


def test_first_exit_status_that_is_not_zero_wins(router: Router) -> None:
    """A subscriber exits with the first non-zero status that a publisher gave."""
    sources = [publisher(router, NAME, exit_status=status) for status in (0, 4, 5)]
    sink = subscriber(router, NAME)
    for source in sources:
        source.end()
    assert sink.finished == (Outcome.DONE, 4)
    assert sink.exit_status == 4


def test_leaving_ends_nobody_else(router: Router) -> None:
    """Readers and pipes come and go; the others stay."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(3)]
    _, piped = pipe(router, NAME)
    for sink in (sinks[0], piped, sinks[1]):
        sink.vanish()
        source.send("x")
    assert not sinks[2].over
    assert len(sinks[2].taken) == 3


def test_leaving_twice_is_leaving_once(router: Router) -> None:
    """A second leave does nothing."""
    sink = subscriber(router, NAME)
    sink.vanish()
    router.leave(sink.member)
    assert router.statistics().sessions[Mode.SUBSCRIBE] == 0


def test_pipe_that_leaves_is_not_told_anything(router: Router) -> None:
    """A clogged pipe that hears itself is not resumed on its way out."""
    source, own = pipe(router, NAME, replay=True)
    source.send(FULL)
    own.gone = source.gone = True  # the fakes fail at any call from now on
    router.leave(source.member)
    assert NAME not in router


def test_bridge_from_topic_to_topic(router: Router) -> None:
    """A member whose sink feeds another's source fans out inside a fan-out."""
    outlet = publisher(router, OTHER)
    bridge = subscriber(router, NAME)
    near, far = subscriber(router, NAME, bound=1), subscriber(router, OTHER, bound=1)
    source = publisher(router, NAME)
    bridge.on_write = lambda: outlet.send("over")
    source.send("here")
    near.drain()
    far.drain()
    assert (near.text, far.text) == ("here", "over")
    assert (source.paused, outlet.paused) == (False, False)


# -- topics and patterns ---------------------------------------------------------------------------


def test_topic_exists_while_somebody_is_on_it() -> None:
    """The first member opens it, the last closes it, and the owner of the router is told."""
    closed: list[TopicName] = []
    router = Router(closed.append)
    assert NAME not in router
    sinks = [subscriber(router, NAME) for _ in range(2)]
    pattern_reader(router)
    assert NAME in router
    for sink in sinks:
        assert not closed
        sink.vanish()
    assert (NAME in router, closed) == (False, [NAME])
    assert router.members(NAME) == ()


def test_topic_may_open_again_when_it_closes() -> None:
    """The callback of a topic that closes may open it anew."""
    reopened: list[FakeSink] = []

    def reopen(name: TopicName) -> None:
        if not reopened:
            reopened.append(subscriber(router, name))

    router = Router(reopen)
    subscriber(router, NAME).vanish()
    assert router.members(NAME) == (reopened[0].member,)
    reopened[0].vanish()
    assert NAME not in router


def test_pattern_takes_in_topics_now_and_later(router: Router) -> None:
    """A pattern reader reads the topics that match and that it is admitted to, no others."""
    secret, foreign = TopicName("alice", ("secret",)), TopicName("bob", ("build",))
    before = publisher(router, NAME)
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name != secret)
    after = publisher(router, OTHER)
    denied, other = publisher(router, secret), publisher(router, foreign)
    assert [source.waiting for source in (before, after, denied, other)] == [0, 0, 1, 1]
    assert router.members(NAME) == (before.member, sink.member)


def test_pattern_reader_reads_whole_streams_of_a_topic_that_opens(router: Router) -> None:
    """It is on the topic before its first publisher."""
    sink = pattern_reader(router)
    publisher(router, NAME, wants=0).send("first")
    sink.drain()
    assert sink.text == "first"


def test_error_while_admitting_opens_no_topic(router: Router) -> None:
    """If the access rules cannot be asked, the topic does not stay half open."""

    def fail(_: TopicName) -> bool:
        raise ZeroDivisionError

    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, fail)
    with pytest.raises(ZeroDivisionError):
        subscriber(router, NAME)
    assert NAME not in router


def test_review_takes_topics_in_and_out(router: Router) -> None:
    """When the rules of a topic change, readers on patterns come and go; others are left alone."""
    admitted = {NAME}
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name in admitted)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    named = subscriber(router, NAME)
    here.send("1")
    admitted = {OTHER}
    for name in (NAME, OTHER, TopicName("alice", ("none",))):
        router.review(name)
        router.review(name)
    here.send("2")
    there.send("3")
    for reader in (sink, named):
        reader.drain()
    assert (sink.text, named.text) == ("13", "12")
    here.end()
    assert here.receipts == [Receipt(2, 2, 1)]


def test_review_frees_publishers_of_a_clogged_reader(router: Router) -> None:
    """A clogged reader that may read a topic no more holds up nobody there."""
    admitted = {NAME, OTHER}
    sink = FakeSink(router)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink)
    router.join_pattern(sink.member, ALL, lambda name: name in admitted)
    here, there = publisher(router, NAME, wants=0), publisher(router, OTHER, wants=0)
    here.send(FULL)
    admitted = {NAME}
    router.review(OTHER)
    assert (here.paused, there.paused) == (True, False)
    sink.drain()
    assert (here.paused, there.paused) == (False, False)


def test_pattern_reader_that_was_cut_is_nobody_on_a_new_topic(router: Router) -> None:
    """It has not confirmed its end yet, and no publisher takes it for a subscriber."""
    sink = FakeSink(router, confirms=False)
    sink.member = Member(Mode.SUBSCRIBE, sink=sink, on_slow=OnSlow.DISCONNECT)
    router.join_pattern(sink.member, ALL, lambda _: True)
    publisher(router, NAME).send(FULL)
    assert sink.cut_for is Outcome.SLOW

    assert publisher(router, OTHER).waiting == 1


def test_at_once_makes_changes_as_one(router: Router) -> None:
    """Nobody goes on between two changes that belong together."""
    source = publisher(router, NAME, synchronous=True)
    source.send("to both")
    with router.at_once():
        sinks = [subscriber(router, NAME) for _ in range(2)]
        assert source.paused
    assert [sink.taken for sink in sinks] == [source.published] * 2


def test_clogged_since_the_longest_clogged() -> None:
    """A topic tells since when its slowest sink is clogged, by the router's clock."""
    now = 0.0
    router = Router(clock=lambda: now)
    here, there = publisher(router, NAME), publisher(router, OTHER)
    slow, slower = subscriber(router, NAME), pattern_reader(router)
    now = 1.0
    there.send(FULL)
    now = 2.0
    slow.clogged = True
    router.update(slow.member)
    assert [topic.clogged_since for topic in router.topics()] == [1.0, 1.0]
    slower.drain()
    assert [topic.clogged_since for topic in router.topics()] == [2.0, None]
    assert here.paused


# -- looking in ------------------------------------------------------------------------------------


def test_statistics_are_exact(router: Router) -> None:
    """Counters count what happened, of those that are there and of those that left."""
    source = publisher(router, NAME, wants=2)
    reader = subscriber(router, NAME)
    piped, own = pipe(router, NAME)
    source.send("hello", "you")
    piped.send("?")
    reader.drain(6)
    own.drain(2)
    now = router.statistics()
    assert now.topics == 1
    assert now.sessions == {Mode.PUBLISH: 1, Mode.SUBSCRIBE: 1, Mode.PIPE: 1}
    assert now.received_bytes == {Mode.PUBLISH: 8, Mode.SUBSCRIBE: 0, Mode.PIPE: 1}
    assert now.delivered_bytes == {Mode.PUBLISH: 0, Mode.SUBSCRIBE: 6, Mode.PIPE: 2}
    assert (now.received_chunks, now.delivered_chunks) == (3, 5)
    assert now.send_buffer_bytes == 3 + 6
    [topic] = router.topics()
    assert (topic.publishers, topic.subscribers, topic.pipes) == (1, 1, 1)
    assert (topic.received_bytes, topic.delivered_bytes) == (9, 8)

    for member in (reader, own, source):
        member.vanish()
    later = router.statistics()
    assert later.sessions == dict.fromkeys(Mode, 0)
    assert (later.topics, later.send_buffer_bytes) == (0, 0)
    assert later.received_bytes == now.received_bytes
    assert later.delivered_bytes == now.delivered_bytes
    assert later.delivered_chunks == now.delivered_chunks


def test_statistics_stay_exact_when_a_sink_breaks_inside_write(router: Router) -> None:
    """The chunk that broke it was taken and not delivered."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME)
    source.send("good")
    sink.drain()
    sink.on_write = sink.vanish
    source.send("bad")
    assert router.statistics().delivered_bytes[Mode.SUBSCRIBE] == len("good")


def test_statistics_tell_who_waits_and_who_is_clogged(router: Router) -> None:
    """Waiting publishers and clogged sinks are counted once, in all and per topic."""
    source = publisher(router, NAME)
    publisher(router, OTHER, wants=2)
    pattern_reader(router)
    source.send(FULL)
    now = router.statistics()
    assert (now.waiting_publishers, now.clogged_subscribers) == (1, 1)
    assert [(str(t.name), t.waiting, t.clogged, t.subscribers) for t in router.topics()] == [
        ("alice/build", 0, 1, 1),
        ("alice/test", 1, 1, 1),
    ]
