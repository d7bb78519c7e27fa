"""Law 5: a publisher has its receipt when its readers have everything."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.chunks import Chunk
from pipe.stream.ports import Mode, Receipt
from pipe.stream.topics import Member
from tests.fakes import (
    BOUND,
    FULL,
    NAME,
    FakeSink,
    pipe,
    publisher,
    subscriber,
)

if TYPE_CHECKING:
    from pipe.stream.router import Router


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
    """Gone before the end, or without a word that everything is there, is early."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME, confirms=False) for _ in range(4)]
    source.send("hello")
    sinks[0].drain()
    sinks[0].vanish()
    source.end()
    sinks[1].drain(4)
    sinks[1].vanish()
    sinks[2].drain()
    sinks[2].vanish()
    sinks[3].drain()
    sinks[3].confirm()
    assert source.receipts == [Receipt(5, 4, 3)]


@pytest.mark.parametrize(
    ("drained", "cut", "early"), [(4, False, 1), (5, False, 0), (4, True, 1), (5, True, 0)]
)
def test_receipt_counts_a_staying_reader_by_what_was_written(
    router: Router, drained: int, cut: bool, early: int
) -> None:
    """One that would have stayed left early if it vanished or was cut before its last byte."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, keep_alive=True, on_slow=OnSlow.DISCONNECT)
    other = publisher(router, NAME)
    source.send("hello")
    source.end()
    sink.drain(drained)
    if cut:
        other.send(FULL)
        assert sink.cut_for
    sink.vanish()
    assert source.receipts == [Receipt(5, 1, early)]


def test_every_publisher_of_a_reader_that_did_not_confirm_is_told(router: Router) -> None:
    """One that ended while the reader stayed for another waits, and is told, like the last one."""
    first, last = publisher(router, NAME), publisher(router, NAME)
    sink = subscriber(router, NAME, confirms=False)
    first.send("one")
    first.end()
    last.send("two")
    last.end()
    sink.drain()
    sink.vanish()
    assert (first.receipts, last.receipts) == ([Receipt(3, 1, 1)], [Receipt(3, 1, 1)])


def test_receipt_of_streams_dealt_out(router: Router) -> None:
    """Each reader confirms its own part: who does not leaves a hole, and counts as early."""
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME, confirms=False) for _ in range(2)]
    source.send("one", "two")
    source.end()
    for sink in sinks:
        sink.drain()
    sinks[0].confirm()
    sinks[1].vanish()
    assert source.receipts == [Receipt(6, 2, 1)]


def test_receipt_of_a_reader_that_drops(router: Router) -> None:
    """A hole that it asked for does not make it early; to leave without a word does."""
    source = publisher(router, NAME)
    sinks = [subscriber(router, NAME, on_slow=OnSlow.DROP, confirms=False) for _ in range(2)]
    source.send(FULL, "dropped")
    source.end()
    for sink in sinks:
        assert sink.finished == (Outcome.DROPPED, 0)
        sink.drain()
    sinks[0].confirm()
    sinks[1].vanish()
    assert source.receipts == [Receipt(BOUND + 7, 2, 1)]


@pytest.mark.parametrize(
    ("receipt", "undelivered"),
    [
        (Receipt(5, 1, 1), True),
        (Receipt(5, 2, 2), True),
        (Receipt(5, 2, 1), False),
        (Receipt(5, 1, 0), False),
        (Receipt(5, 0, 0), False),
    ],
)
def test_undelivered(receipt: Receipt, undelivered: bool) -> None:
    """A stream is undelivered if there were readers and all left early; to nobody is no failure."""
    assert receipt.undelivered is undelivered


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
    assert source.receipts == [Receipt(0, 2, 1)]
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
    router.deal(source.member, Chunk(b"late\n"), b"\n")
    assert (len(source.receipts), sink.taken) == (1, [])


def test_end_counts_once_while_readers_are_awaited(router: Router) -> None:
    """A second end while a reader has bytes to take brings no second receipt, and no error."""
    source = publisher(router, NAME)
    sink = subscriber(router, NAME, keep_alive=True)
    source.send("hello")
    router.end(source.member)
    router.end(source.member)
    assert source.receipts == []
    sink.drain()
    assert source.receipts == [Receipt(5, 1, 0)]


def test_pipe_gets_no_receipt(router: Router) -> None:
    """A pipe whose stdin ends goes on reading."""
    (source, own), (other, _) = pipe(router, NAME), pipe(router, NAME)
    source.end()
    other.send("answer")
    own.drain()
    assert (own.text, source.receipts) == ("answer", [])
