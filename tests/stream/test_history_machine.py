"""Readers that come late, against the laws of a stream: no hole, no repeated byte, no false end.

Publishers write to one topic that keeps its past.  What they have published is one string, and what
a reader has taken must be a part of it that begins where the reader asked to begin.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.errors import Outcome
from pipe.language.requests import OnSlow
from pipe.stream.history import History, Lag
from pipe.stream.ports import Mode
from pipe.stream.ring import PACK_BYTES, PACKED_BYTES
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import NAME, FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.stream.chunks import Chunk

KEEP = 3 * PACKED_BYTES
LARGE = PACKED_BYTES + 1
choices = st.integers(0, 99)


class Source(FakeSource):
    """A publisher that writes down what it publishes."""

    def __init__(self, machine: HistoryMachine, *, synchronous: bool) -> None:
        super().__init__(machine.router, synchronous=synchronous)
        self._machine = machine

    def _publish(self, chunk: Chunk) -> None:
        self._machine.published += chunk.data
        super()._publish(chunk)


class Sink(FakeSink):
    """A reader that knows where it began.

    ``begin`` is an index into all that was published, and ``drops`` says that there may be holes.
    """

    def __init__(self, router: Router, bound: int, begin: int) -> None:
        super().__init__(router, bound=bound)
        self.begin = begin

    @property
    def drops(self) -> bool:
        """Whether it has holes."""
        return self.member.on_slow is OnSlow.DROP


class HistoryMachine(RuleBasedStateMachine):
    """Publishers, and readers that want some of the past."""

    def __init__(self) -> None:
        super().__init__()
        self.lags = False
        self.step: Callable[[], bool] | None = None
        self.router = Router(later=self._later, lingers=lambda _, __: None)
        self.published = bytearray()
        self.sources: list[Source] = []
        self.sinks: list[Sink] = []
        self.away: list[Sink] = []  # those whose place is kept
        self.base = 0  # in `published`, where the history begins

    def _later(self, step: Callable[[], bool]) -> None:
        self.step = step
        if not self.lags:
            self.work(None)

    def work(self, most: int | None) -> None:
        """Take so many steps of what is due, or all."""
        while self.step and (most is None or most > 0):
            if not self.step():
                self.step = None
            most = most and most - 1

    @property
    def history(self) -> History | None:
        """What is kept."""
        return self.router.history(NAME)

    def _there(self) -> list[Sink]:
        return [sink for sink in self.sinks if not sink.gone]

    def _writers(self) -> list[Source]:
        return [source for source in self.sources if not source.gone and not source.at_end]

    # -- coming -----------------------------------------------------------------------------------

    @rule(
        keep=st.sampled_from([1, KEEP]),
        wants=st.integers(0, 1),
        linger=st.sampled_from([0.0, 60.0]),
        status=st.sampled_from([0, 0, 3]),
        synchronous=st.booleans(),
    )
    def publish(self, keep: int, wants: int, linger: float, status: int, synchronous: bool) -> None:
        """A publisher comes."""
        if self.history is None:
            self.base = len(self.published)
        source = Source(self, synchronous=synchronous)
        source.member = Member(
            Mode.PUBLISH, source=source, wants=wants, keep=keep, linger=linger, exit_status=status
        )
        self.sources.append(source)
        self.router.join(source.member, NAME)

    @rule(
        back=st.floats(0, 1),
        bound=st.sampled_from([4, 40, 100_000]),
        keep_alive=st.booleans(),
        on_slow=st.sampled_from([OnSlow.BLOCK, OnSlow.BLOCK, OnSlow.DROP, OnSlow.DISCONNECT]),
        late=st.booleans(),
    )
    def subscribe(
        self, back: float, bound: int, keep_alive: bool, on_slow: OnSlow, late: bool
    ) -> None:
        """A reader comes, late or not."""
        history = self.history
        begin, lag = len(self.published), None
        if history and late:
            position = history.ring.end - round(back * history.ring.size)
            begin, lag = self.base + position, Lag(position, history.stream)
        sink = Sink(self.router, bound, begin)
        sink.member = Member(Mode.SUBSCRIBE, sink=sink, keep_alive=keep_alive, on_slow=on_slow)
        sink.member.lag = lag
        self.sinks.append(sink)
        self.router.join(sink.member, NAME)

    # -- bytes ------------------------------------------------------------------------------------

    @precondition(lambda self: self._writers())
    @rule(choice=choices, lengths=st.lists(st.sampled_from([1, 3, 50, LARGE]), max_size=6))
    def send(self, choice: int, lengths: list[int]) -> None:
        """A client writes, maybe more than it may publish now."""
        writers = self._writers()
        count = len(self.published)
        writers[choice % len(writers)].send(
            *(
                bytes((count + 7 * at + one) % 251 for one in range(size))
                for at, size in enumerate(lengths)
            )
        )

    @rule()
    def pump(self) -> None:
        """Those that are not paused publish what they have."""
        for source in self.sources:
            if not source.gone:
                source.pump()

    @precondition(lambda self: any(sink.pending for sink in self._there()))
    @rule(choice=choices, size=st.none() | st.sampled_from([1, 30, LARGE]))
    def drain(self, choice: int, size: int | None) -> None:
        """A client reads."""
        sinks = [sink for sink in self._there() if sink.pending]
        sinks[choice % len(sinks)].drain(size)

    @precondition(lambda self: self._there())
    @rule(choice=choices, drains=st.booleans())
    def strike_inside_a_write(self, choice: int, drains: bool) -> None:
        """Let a reader go, or read, in the middle of a write."""
        sinks = self._there()
        sink = sinks[choice % len(sinks)]
        sink.on_write = sink.drain if drains else sink.vanish

    # -- what may come later, and going -----------------------------------------------------------

    @rule(lags=st.booleans())
    def lag(self, lags: bool) -> None:
        """The loop is busy from now on, or no more."""
        self.lags = lags
        if not lags:
            self.work(None)

    @precondition(lambda self: self.step is not None)
    @rule(most=st.integers(1, 5))
    def work_a_little(self, most: int) -> None:
        """There is time for some of what is due."""
        self.work(most)

    @precondition(lambda self: self._writers())
    @rule(choice=choices)
    def end(self, choice: int) -> None:
        """A client ends its stream."""
        writers = self._writers()
        writers[choice % len(writers)].end()

    @precondition(lambda self: self._there() or self._writers())
    @rule(choice=choices)
    def vanish(self, choice: int) -> None:
        """A member goes without a word."""
        ports: list[Sink | Source] = [
            *self._there(),
            *(one for one in self.sources if not one.gone),
        ]
        ports[choice % len(ports)].vanish()

    @precondition(lambda self: any(not sink.drops for sink in self._there()))
    @rule(choice=choices)
    def lose(self, choice: int) -> None:
        """The connection of a reader is lost, and its place is kept if that is possible."""
        sinks = [sink for sink in self._there() if sink.member.on_slow is OnSlow.BLOCK]
        sink = sinks[choice % len(sinks)] if sinks else None
        if sink is None or sink.member.keep_alive:
            return
        if self.router.set_aside(sink.member, lambda _: None):
            sink.gone = True
            self.away.append(sink)
        else:
            sink.vanish()

    @precondition(lambda self: self.away)
    @rule(choice=choices, bound=st.sampled_from([4, 40, 100_000]))
    def come_back(self, choice: int, bound: int) -> None:
        """It goes on with the byte that its client has not read, if that was still there."""
        lost = self.away.pop(choice % len(self.away))
        lag = lost.member.lag
        assert lag
        begin = lost.begin + len(lost.client)
        if begin - self.base < lag.position:
            self.router.leave(lost.member)
            return
        sink = Sink(self.router, bound, begin)
        sink.member = Member(Mode.SUBSCRIBE, sink=sink)
        sink.member.lag = Lag(begin - self.base, lag.stream)
        self.sinks.append(sink)
        with self.router.at_once():
            self.router.join(sink.member, NAME)
            self.router.hand_on(lost.member, sink.member)

    @rule()
    def linger_no_more(self) -> None:
        """The time is over."""
        self.router.let_go(NAME)

    # -- what holds after each step ---------------------------------------------------------------

    @invariant()
    def no_hole_and_no_repeated_byte(self) -> None:
        """Laws 1 and 2: what a reader took is what was published from where it began."""
        for sink in self.sinks:
            taken = b"".join(bytes(chunk.data) for chunk in sink.taken)
            if not sink.drops:
                assert self.published[sink.begin : sink.begin + len(taken)] == taken
            assert len(taken) - len(sink.client) == sink.pending

    @invariant()
    def the_ring_is_bounded(self) -> None:
        """It holds its bound, and beyond that what was in flight as a reader held it."""
        history = self.history
        if history:
            surplus = history.ring.size - history.ring.bound
            assert surplus <= PACK_BYTES + LARGE * (3 + len(self.sources))
            for sink in (*self._there(), *self.away):
                if sink.member.lag:
                    assert sink.member.lag.position >= history.ring.start

    @invariant()
    def nobody_waits_for_nothing(self) -> None:
        """Law 3: with all work done, a reader with room is live, and a writer is not held."""
        if self.step:
            return
        for sink in self._there():
            assert sink.clogged or not sink.member.lag
        for source in self._writers():
            held = any(sink.clogged for sink in self._there() if not sink.over)
            held = held or any(sink.member.clogged for sink in self.away)
            members = [sink.member for sink in (*self._there(), *self.away) if not sink.over]
            there = [one for one in members if not History.is_spent(one)]
            missing = source.member.wants and not there
            if not held and not missing:
                assert not source.paused

    @invariant()
    def ends_are_true(self) -> None:
        """Law 6: who ended well without holes has all that was published until the end."""
        for sink in self.sinks:
            if sink.finished and not sink.drops:
                assert sink.finished[0] in {Outcome.DONE, Outcome.BROKEN}

    def teardown(self) -> None:
        """In the end everybody has got everything, and nothing is left."""
        self.lags = False
        self.work(None)
        for lost in self.away:
            self.router.leave(lost.member)
        for _ in range(300):
            for source in self.sources:
                if not source.gone:
                    source.pump()
            busy = [sink for sink in self._there() if sink.pending]
            for sink in busy:
                sink.drain()
            if not busy:
                break
        for sink in self._there():
            assert not sink.member.lag
            if not sink.drops and not sink.over and sink.begin < len(self.published):
                assert self.published[sink.begin :] == sink.client
        everybody: list[Sink | Source] = [*self.sinks, *self.sources]
        for port in everybody:
            port.vanish()
        self.router.let_go(NAME)
        self.work(None)
        assert NAME not in self.router
        assert self.router.kept_bytes == 0


TestHistoryMachine = HistoryMachine.TestCase
TestHistoryMachine.settings = settings(stateful_step_count=40)
