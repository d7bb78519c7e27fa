"""The router against the laws of a stream, with members that do anything at any time.

After each step the model (`tests.stream.model`) says what the laws of docs/architecture.md ask for.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.language.names import Pattern, TopicName
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.ports import Mode
from pipe.stream.topics import Member
from tests.fakes import topics
from tests.stream.model import NAMES, Model, Sink, Source

if TYPE_CHECKING:
    from collections.abc import Callable

PATTERNS = [Pattern("alice", ("*",)), Pattern("*", ("a",)), Pattern("*", ("**",))]

names = st.sampled_from([NAMES[0], *NAMES])  # most meet on one topic
bounds = st.sampled_from([1, 4, 20])
sizes = st.integers(1, 9)
choices = st.integers(0, 99)
dispatches = st.sampled_from(Dispatch)
policies = st.sampled_from([OnSlow.BLOCK, OnSlow.BLOCK, OnSlow.DROP, OnSlow.DISCONNECT])


class RouterMachine(RuleBasedStateMachine):
    """Members come, write, read, stop reading and go."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.serial = 0

    # -- who is there -----------------------------------------------------------------------------

    def _sinks(self, accept: Callable[[Sink], bool] = lambda _: True) -> list[Sink]:
        return [sink for sink in self.model.sinks if not sink.gone and accept(sink)]

    def _sources(self, accept: Callable[[Source], bool] = lambda _: True) -> list[Source]:
        return [source for source in self.model.sources if not source.gone and accept(source)]

    def _present(self) -> list[Member]:
        ports = [port for port in self.model.ports if not port.gone]
        return list(dict.fromkeys(port.member for port in ports))

    def _vanish(self, member: Member) -> None:
        """A pipe's two ports are gone together."""
        sinks = [sink for sink in self.model.sinks if sink.member is member]
        for source in [source for source in self.model.sources if source.member is member]:
            for sink in sinks:
                sink.gone = True
            source.vanish()
        for sink in sinks:
            sink.vanish()

    # -- coming -----------------------------------------------------------------------------------

    @rule(
        name=names,
        wants=st.integers(0, 2),
        dispatch=dispatches,
        exit_status=st.sampled_from([0, 0, 3, 4]),
        synchronous=st.booleans(),
        whole=st.booleans(),
    )
    def publish(
        self,
        name: TopicName,
        wants: int,
        dispatch: Dispatch,
        exit_status: int,
        synchronous: bool,
        whole: bool,
    ) -> None:
        """A publisher joins."""
        source = Source(self.model, name, synchronous=synchronous)
        source.member = Member(
            Mode.PUBLISH,
            source=source,
            wants=wants,
            whole=whole,
            dispatch=dispatch,
            exit_status=exit_status,
        )
        self.model.sources.append(source)
        self.model.router.join(source.member, name)

    @rule(
        name=names,
        bound=bounds,
        keep_alive=st.booleans(),
        on_slow=policies,
        confirms=st.booleans(),
    )
    def subscribe(
        self, name: TopicName, bound: int, keep_alive: bool, on_slow: OnSlow, confirms: bool
    ) -> None:
        """A subscriber joins."""
        sink = Sink(self.model, bound, confirms=confirms)
        sink.member = Member(Mode.SUBSCRIBE, sink=sink, keep_alive=keep_alive, on_slow=on_slow)
        sink.name = name
        self.model.sinks.append(sink)
        self.model.router.join(sink.member, name)

    @rule(wanted=st.sampled_from([*PATTERNS, *NAMES]), bound=bounds, on_slow=policies)
    def stand_by(self, wanted: Pattern | TopicName, bound: int, on_slow: OnSlow) -> None:
        """A subscriber reads all topics of a pattern, or one topic, whenever they exist."""
        sink = Sink(self.model, bound, confirms=True)
        sink.member = Member(Mode.SUBSCRIBE, sink=sink, on_slow=on_slow)
        sink.pattern = wanted if isinstance(wanted, Pattern) else Pattern(wanted.owner, wanted.path)
        sink.kept_out = {name for name in NAMES if self.model.shut(name)}
        self.model.sinks.append(sink)
        if isinstance(wanted, TopicName):
            self.model.router.follow(sink.member, wanted, lambda _: True)
        else:
            self.model.router.join_pattern(sink.member, wanted, lambda _: True)

    @rule(
        name=names,
        bound=bounds,
        replay=st.booleans(),
        dispatch=dispatches,
        on_slow=policies,
        synchronous=st.booleans(),
    )
    def pipe(
        self,
        name: TopicName,
        bound: int,
        replay: bool,
        dispatch: Dispatch,
        on_slow: OnSlow,
        synchronous: bool,
    ) -> None:
        """A pipe joins; its client answers the end only when it is asked to."""
        source = Source(self.model, name, synchronous=synchronous)
        sink = Sink(self.model, bound, confirms=False)
        sink.name = name
        source.member = sink.member = Member(
            Mode.PIPE, source=source, sink=sink, replay=replay, dispatch=dispatch, on_slow=on_slow
        )
        self.model.sources.append(source)
        self.model.sinks.append(sink)
        self.model.router.join(sink.member, name)

    # -- bytes ------------------------------------------------------------------------------------

    @precondition(lambda self: self._sources(lambda source: not source.at_end))
    @rule(choice=choices, lengths=st.lists(sizes, min_size=1, max_size=4))
    def send(self, choice: int, lengths: list[int]) -> None:
        """A client writes, maybe more than it may publish now."""
        sources = self._sources(lambda source: not source.at_end)
        pieces = []
        for length in lengths:
            self.serial += 1
            pieces.append(f"{self.serial:0{length}}")
        sources[choice % len(sources)].send(*pieces)

    @precondition(lambda self: self._sources(lambda source: bool(source.queue)))
    @rule()
    def pump(self) -> None:
        """Those that are not paused publish what they have."""
        for source in self._sources():
            source.pump()

    @precondition(lambda self: self._sinks(lambda sink: sink.pending > 0))
    @rule(choice=choices, size=st.none() | sizes)
    def drain(self, choice: int, size: int | None) -> None:
        """A client reads."""
        sinks = self._sinks(lambda sink: sink.pending > 0)
        sinks[choice % len(sinks)].drain(size)

    @precondition(lambda self: self._sinks(lambda sink: sink.reads))
    @rule(choice=choices, victim=choices)
    def break_inside_a_write(self, choice: int, victim: int) -> None:
        """Let a member vanish in the middle of a fan-out: the reader itself or any other."""
        sinks = self._sinks(lambda sink: sink.reads)

        def strike() -> None:
            members = self._present()
            self._vanish(members[victim % len(members)])

        sinks[choice % len(sinks)].on_write = strike

    @precondition(lambda self: self._sinks(lambda sink: sink.reads))
    @rule(choice=choices)
    def drain_inside_a_write(self, choice: int) -> None:
        """Let a sink clog and be free again, all within one write."""
        sinks = self._sinks(lambda sink: sink.reads)
        sink = sinks[choice % len(sinks)]
        sink.on_write = sink.drain

    # -- what may come later ----------------------------------------------------------------------

    @rule(lags=st.booleans())
    def lag(self, lags: bool) -> None:
        """The loop is busy from now on, or no more."""
        self.model.lags = lags
        if not lags:
            self.model.work()

    @precondition(lambda self: self.model.step is not None)
    @rule(most=st.integers(1, 5))
    def work(self, most: int) -> None:
        """There is time for some of what is due."""
        self.model.work(most)

    # -- going ------------------------------------------------------------------------------------

    @precondition(lambda self: self._sources(lambda source: not source.at_end))
    @rule(choice=choices)
    def end(self, choice: int) -> None:
        """A client ends its stream, once what it wrote is published."""
        sources = self._sources(lambda source: not source.at_end)
        sources[choice % len(sources)].end()

    @precondition(lambda self: bool(self._present()))
    @rule(choice=choices)
    def vanish(self, choice: int) -> None:
        """A member goes without a word."""
        members = self._present()
        self._vanish(members[choice % len(members)])

    @precondition(lambda self: self._sinks(lambda sink: sink.over and not sink.pending))
    @rule(choice=choices)
    def confirm(self, choice: int) -> None:
        """A client answers the end of its session."""
        sinks = self._sinks(lambda sink: sink.over and not sink.pending)
        sink = sinks[choice % len(sinks)]
        sink.member.confirmed = sink.finished is not None
        self._vanish(sink.member)

    # -- what holds after each step ---------------------------------------------------------------

    @invariant()
    def order(self) -> None:
        """Law 2: each publisher's chunks come in order; without a hole where nobody drops."""
        for sink in self.model.sinks:
            for source in self.model.sources:
                position = {chunk: index for index, chunk in enumerate(source.published)}
                run = [position[chunk] for chunk in sink.taken if chunk in position]
                assert all(earlier < later for earlier, later in pairwise(run))
                whole = (
                    sink.member.on_slow is not OnSlow.DROP
                    and source.member.dispatch is Dispatch.MULTICAST
                )
                if run and whole:
                    assert run[-1] - run[0] + 1 == len(run), "a hole"

    @invariant()
    def bytes_are_the_same(self) -> None:
        """Law 1: what the client has read is what was taken, and no more."""
        for sink in self.model.sinks:
            taken = b"".join(bytes(chunk.data) for chunk in sink.taken)
            assert taken.startswith(sink.client)
            assert len(taken) - len(sink.client) == sink.pending
            assert sink.member.dropped_bytes == sink.dropped

    @invariant()
    def backpressure(self) -> None:
        """Law 3: a publisher is paused for these reasons and no others."""
        for name in NAMES:
            for source in self.model.writing_on(name):
                missing = self.model.missing(source)
                stops = bool(missing or self.model.holding(source))
                assert source.paused or not stops
                if not self.model.step:
                    assert source.waiting == missing
                    assert source.paused == stops
                if not source.member.started:
                    assert missing or self.model.step
                else:
                    for sink in self.model.reading(name):
                        sink.served |= sink is not self.model.sink_of(source)

    @invariant()
    def stall(self) -> None:
        """Law 4: each clogged sink knows whether others wait for it."""
        for sink in self._sinks():
            assert sink.holds or not sink.waited
            if not self.model.step:
                assert sink.waited == (sink.reads and self.model.waited_for(sink))

    @invariant()
    def receipts(self) -> None:
        """Law 5: a publisher whose readers are all done has its receipt."""
        self.model.note_progress()
        for source in self.model.sources:
            if source.member.mode is Mode.PIPE:
                assert not source.receipts
            elif source.over and not source.gone and not self.model.step:
                assert any(not sink.gone and (sink.over or sink.pending) for sink in source.awaits)

    @invariant()
    def ends(self) -> None:
        """Law 6: a reader has ended if its last publisher has; `Sink.finish` sees to only then."""
        for sink in self._sinks(lambda sink: sink.reads and sink.name is not None):
            assert sink.name
            if sink.served and not sink.stays:
                assert list(self.model.writing_on(sink.name))
        if not self.model.step:
            assert all(sink.over for sink in self._sinks(lambda sink: sink.ending is not None))

    @invariant()
    def membership(self) -> None:
        """A topic is there while somebody is on it; nobody is kept who has left."""
        model, router = self.model, self.model.router
        for name in NAMES:
            named = model.named(name)
            readers = {sink.member for sink in model.reading(name)}
            assert (name in router) == bool(named)
            assert set(router.members(name)) == named | readers
        for port in model.ports:
            if port.gone:
                member = port.member
                assert not member.joined
                kept = [member.topic, *member.topics, *member.waited_in]
                assert [*kept, *member.awaits, *member.awaited_by] == [None]

    @invariant()
    def statistics(self) -> None:
        """What operators see is what happened."""
        model = self.model
        now = model.router.statistics()
        present = self._present()
        for mode in Mode:
            sinks = [sink for sink in model.sinks if sink.member.mode is mode]
            sources = [source for source in model.sources if source.member.mode is mode]
            sent = sum(chunk.size for source in sources for chunk in source.published)
            assert now.received_bytes[mode] == sent
            assert now.delivered_bytes[mode] == sum(len(sink.client) for sink in sinks)
            assert now.sessions[mode] == sum(member.mode is mode for member in present)
        assert now.topics == sum(bool(model.named(name)) for name in NAMES)
        assert now.received_chunks == sum(len(source.published) for source in model.sources)
        assert now.delivered_chunks == sum(len(sink.taken) for sink in model.sinks)
        assert now.dropped_bytes == sum(sink.dropped for sink in model.sinks)
        assert now.clogged_subscribers == sum(sink.holds for sink in model.sinks)
        assert now.waiting_publishers == sum(source.waiting > 0 for source in self._sources())
        assert now.send_buffer_bytes == sum(sink.pending for sink in self._sinks())
        clogged = {topic.name: topic.clogged for topic in topics(model.router)}
        for name, count in clogged.items():
            assert count == sum(sink.holds for sink in model.reading(name))

    def teardown(self) -> None:
        """When all have left nothing is left of them."""
        for member in self._present():
            self._vanish(member)
        self.model.work()
        now = self.model.router.statistics()
        assert (now.topics, sum(now.sessions.values()), now.send_buffer_bytes) == (0, 0, 0)


TestRouterMachine = RouterMachine.TestCase
TestRouterMachine.settings = settings(stateful_step_count=50)
