"""Crowds on one topic: what one member does costs no more for them, and all hear of it in turn."""

from __future__ import annotations

import gc
import sys
from typing import TYPE_CHECKING

import pytest

from pipe.errors import Outcome
from pipe.language.requests import Dispatch
from pipe.stream.ports import Mode, Receipt
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import FULL, NAME, FakeSink, FakeSource, publisher, subscriber

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import FrameType

CROWD = 2000


class Turns:
    """Keeps what is due until the test has the time for it."""

    def __init__(self) -> None:
        self.step: Callable[[], bool] | None = None

    def later(self, step: Callable[[], bool]) -> None:
        """Remember it."""
        assert self.step is None
        self.step = step

    def take(self, most: int = sys.maxsize) -> int:
        """Take so many steps, or all; how many there were."""
        count = 0
        while self.step and count < most:
            count += 1
            if not self.step():
                self.step = None
        return count


@pytest.fixture(name="turns")
def no_time() -> Turns:
    """Turns that have no time until the test says so."""
    return Turns()


def count_calls(action: Callable[[], object]) -> int:
    """How many functions and methods are called for this, whatever they are written in."""
    count = 0

    def note(_frame: FrameType, event: str, _arg: object) -> None:
        nonlocal count
        count += event in {"call", "c_call"}

    gc.disable()  # others have it call them
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(None)
        gc.enable()
    return count


def with_crowd(size: int) -> Router:
    """A topic that so many write to without waiting, and so many read."""
    router = Router()
    for _ in range(size):
        publisher(router, NAME, wants=0)
        subscriber(router, NAME, keep_alive=True)
    return router


def reader_comes(router: Router) -> Callable[[], object]:
    """A reader joins."""
    return lambda: subscriber(router, NAME)


def reader_goes(router: Router) -> Callable[[], object]:
    """A reader leaves."""
    return subscriber(router, NAME).vanish


def writer_comes(router: Router) -> Callable[[], object]:
    """A publisher joins."""
    return lambda: publisher(router, NAME)


def writer_goes(router: Router) -> Callable[[], object]:
    """A publisher leaves without an end of file."""
    return publisher(router, NAME).vanish


def writer_ends(router: Router) -> Callable[[], object]:
    """A publisher ends that has sent nothing."""
    return publisher(router, NAME, exit_status=3).end


@pytest.mark.parametrize(
    "prepare", [reader_comes, reader_goes, writer_comes, writer_goes, writer_ends]
)
def test_coming_and_going_cost_the_same_in_any_crowd(
    prepare: Callable[[Router], Callable[[], object]],
) -> None:
    """A member that comes or goes costs the same calls among 4,000 others as among four."""
    few, many = (count_calls(prepare(with_crowd(size))) for size in (2, CROWD))
    assert many == few


def test_crowd_that_waits_is_told_one_by_one(turns: Turns) -> None:
    """The reader that they wait for joins at once; they go on in as many turns as it takes."""
    router = Router(later=turns.later)
    sources = [publisher(router, NAME) for _ in range(CROWD)]
    turns.take()
    subscriber(router, NAME)
    assert all(source.paused for source in sources)
    gone_on = 0
    while turns.step:
        turns.take(1)
        now = sum(not source.paused for source in sources)
        assert now - gone_on <= 1
        gone_on = now
    assert gone_on == CROWD


def test_clogged_sink_stops_all_at_once(turns: Turns) -> None:
    """Rule 3 waits for no turn: nobody publishes into a topic that is clogged."""
    router = Router(later=turns.later)
    sink = subscriber(router, NAME)
    sources = [publisher(router, NAME) for _ in range(CROWD)]
    turns.take()
    assert not any(source.paused for source in sources)
    sources[0].send(FULL)
    assert all(source.paused for source in sources)
    sink.drain()
    assert all(source.paused for source in sources), "there is no time to let them go on"
    turns.take()
    assert not any(source.paused for source in sources)


def test_last_reader_that_goes_stops_all_who_wait_for_one(turns: Turns) -> None:
    """What they publish would reach nobody; those that do not wait go on."""
    router = Router(later=turns.later)
    sink = subscriber(router, NAME)
    waiting = [publisher(router, NAME) for _ in range(10)]
    other = publisher(router, NAME, wants=0)
    turns.take()
    sink.vanish()
    assert all(source.paused for source in waiting)
    assert not other.paused
    turns.take()
    assert [source.waits_heard for source in waiting] == [[1]] * 10


def test_those_that_were_let_go_on_stop_again_alone(turns: Turns) -> None:
    """A sink that clogs again stops those that went on meanwhile, and looks at no others."""
    router = Router(later=turns.later)
    sink = subscriber(router, NAME)
    sources = [publisher(router, NAME) for _ in range(CROWD)]
    turns.take()
    sources[0].send(FULL)
    sink.drain()
    turns.take(10)
    running = [source for source in sources if not source.paused]
    calls = count_calls(lambda: running[0].send(FULL))
    assert 0 < len(running) <= 10
    assert all(source.paused for source in sources)
    assert calls < 1000


def test_readers_end_one_by_one(turns: Turns) -> None:
    """All end with the last publisher, as it left them then, and are told in their turns."""
    router = Router(later=turns.later)
    sinks = [subscriber(router, NAME, confirms=False) for _ in range(CROWD)]
    source = publisher(router, NAME, exit_status=3)
    turns.take()
    source.send("bytes")
    source.vanish()
    late = publisher(router, NAME, exit_status=4)
    finished = 0
    while turns.step:
        turns.take(1)
        now = sum(sink.finished is not None for sink in sinks)
        assert now - finished <= 1
        finished = now
    assert {sink.finished for sink in sinks} == {(Outcome.BROKEN, 3)}
    assert late.waiting == 1, "they were none of the next one's readers"


def test_receipts_come_one_by_one(turns: Turns) -> None:
    """Many publishers that wait for one reader's last byte get their receipts in turn."""
    router = Router(later=turns.later)
    sink = subscriber(router, NAME, keep_alive=True, bound=10 * CROWD)
    sources = [publisher(router, NAME) for _ in range(CROWD)]
    turns.take()
    for source in sources:
        source.send("x")
        source.end()
    turns.take()
    assert not any(source.receipts for source in sources)
    sink.drain()
    given = 0
    while turns.step:
        turns.take(1)
        now = sum(bool(source.receipts) for source in sources)
        assert now - given <= 1
        given = now
    assert all(source.receipts == [Receipt(1, 1, 0)] for source in sources)


def test_what_a_reader_owes_is_looked_up_from_the_oldest(turns: Turns) -> None:
    """A chunk for a reader whose last bytes many wait for costs no look at each of them."""
    router = Router(later=turns.later)
    sink = subscriber(router, NAME, keep_alive=True, bound=10 * CROWD)
    other = publisher(router, NAME)
    turns.take()
    for _ in range(CROWD):
        source = publisher(router, NAME)
        turns.take()
        source.send("x")
        source.end()
    assert len(sink.member.awaited_by) == CROWD
    assert count_calls(lambda: other.send("y")) < 100


def test_clogged_readers_hear_one_by_one_that_others_wait(turns: Turns) -> None:
    """Law 4: a free reader among many clogged ones has all of them told, in turn."""
    router = Router(later=turns.later)
    sinks = [subscriber(router, NAME) for _ in range(CROWD)]
    source = publisher(router, NAME)
    turns.take()
    source.send(FULL)
    turns.take()
    assert not any(sink.waited for sink in sinks)
    free = subscriber(router, NAME)
    told = 0
    while turns.step:
        turns.take(1)
        now = sum(sink.waited for sink in sinks)
        assert now - told <= 1
        told = now
    assert told == CROWD
    free.vanish()
    turns.take()
    assert not any(sink.waited for sink in sinks)


def test_receipt_counts_those_that_came_and_went(router: Router) -> None:
    """Readers before the start count, and those during it; those after the end do not."""
    gone = subscriber(router, NAME)
    gone.vanish()
    early = subscriber(router, NAME)
    source = publisher(router, NAME, wants=2)
    stays = subscriber(router, NAME, keep_alive=True)
    subscriber(router, NAME).vanish()
    early.vanish()
    source.send("x")
    source.end()
    subscriber(router, NAME).vanish()
    stays.drain()
    assert source.receipts == [Receipt(1, 3, 2)]


def test_turn_survives_those_that_come_and_go(router: Router) -> None:
    """Round robin goes on with the next in line, whoever comes or goes between two chunks."""
    source = publisher(router, NAME, dispatch=Dispatch.ROUND_ROBIN)
    sinks = [subscriber(router, NAME) for _ in range(4)]
    source.send("a", "b")
    sinks[0].vanish()
    sinks.append(subscriber(router, NAME))
    subscriber(router, NAME).vanish()
    source.send("c", "d", "e", "f")
    for sink in sinks[1:]:
        sink.drain()
    assert [sink.text for sink in sinks[1:]] == ["bf", "c", "d", "e"]


def test_status_is_that_of_the_first_that_ended_since(router: Router) -> None:
    """A reader has nothing to do with those that ended before it came."""
    lasting = publisher(router, NAME)
    first = subscriber(router, NAME)
    publisher(router, NAME, exit_status=3).end()
    publisher(router, NAME).end()
    second = subscriber(router, NAME)
    publisher(router, NAME, exit_status=4).end()
    third = subscriber(router, NAME)
    lasting.end()
    assert [sink.exit_status for sink in (first, second, third)] == [3, 4, 0]


def test_member_that_goes_before_its_turn_is_left_alone(turns: Turns) -> None:
    """What was due for somebody who has left is not done: the fakes would complain."""
    router = Router(later=turns.later)
    sinks = [subscriber(router, NAME) for _ in range(3)]
    sources = [publisher(router, NAME) for _ in range(3)]
    turns.take()
    sources[0].send("x")
    for source in sources:
        source.end()
    for leaver in (sinks[0], sources[1]):
        leaver.vanish()
    turns.take()
    assert sinks[1].finished == (Outcome.DONE, 0)


def test_pipe_among_many_is_held_by_others_alone(turns: Turns) -> None:
    """A pipe goes on while its own sink is the only clogged one, and stops with the next."""
    router = Router(later=turns.later)
    source = FakeSource(router)
    own = FakeSink(router)
    source.member = own.member = Member(Mode.PIPE, source=source, sink=own)
    router.join(source.member, NAME)
    other = publisher(router, NAME)
    sink = subscriber(router, NAME)
    turns.take()
    other.send(FULL)
    sink.drain()
    turns.take()
    assert (source.paused, other.paused) == (False, True)
    source.send(FULL)
    assert source.paused
    sink.drain()
    turns.take()
    assert (source.paused, other.paused) == (False, True)
