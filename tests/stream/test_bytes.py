"""Laws 1 and 2: every reader gets every byte, in order; and how records are dealt out."""

from __future__ import annotations

import pytest

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode, Receipt
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import (
    BOUND,
    FULL,
    NAME,
    OTHER,
    FakeSink,
    pipe,
    publisher,
    subscriber,
)


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


@pytest.mark.parametrize(("leaver", "after"), [(0, "CDB"), (1, "CDA"), (2, "DAB"), (3, "CAB")])
def test_round_robin_keeps_the_turn_when_one_leaves(
    router: Router, leaver: int, after: str
) -> None:
    """Whoever leaves, the turn stays with the one who has waited longest."""
    source = publisher(router, NAME, wants=4, dispatch=Dispatch.ROUND_ROBIN)
    sinks = {letter: subscriber(router, NAME) for letter in "ABCD"}
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
                router.deal(source.member, Chunk(b"".join(records)), b";")
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
    router.deal(source.member, Chunk(b"".join(b"%d\n" % i for i in range(9))), b"\n")
    router.deal(source.member, Chunk(b""), b"\n")
    assert [len(sink.taken) for sink in sinks] == [1, 1]
    assert router.statistics().received_chunks == 2


def test_dealing_by_multicast_joins_the_records(router: Router) -> None:
    """Where everybody gets everything, the records go in one chunk."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME) for _ in range(2)]
    router.deal(source.member, Chunk(b"a\nb\n"), b"\n")
    assert [bytes(chunk.data) for sink in sinks for chunk in sink.taken] == [b"a\nb\n"] * 2


def test_deal_is_one_fan_out(router: Router) -> None:
    """What a share sets free comes after the last share, or it would clog those yet to be dealt."""
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME, bound=4) for _ in range(2)]
    other = publisher(router, NAME, wants=3, synchronous=True)
    other.send("more")
    sinks[0].on_write = lambda: subscriber(router, NAME)
    router.deal(source.member, Chunk(b"a\nb\n"), b"\n")
    for sink in sinks:
        sink.drain()
    assert [sink.text for sink in sinks] == ["a\nmore", "b\nmore"]


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
