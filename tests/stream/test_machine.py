"""The router against the laws of a stream, with members that do anything at any time.

A model that knows only what the members themselves see, never the router's own fields, says after
each step what the laws of docs/architecture.md ask for: who reads what, who is paused, who is
waited for, who has ended and how, who has a receipt.
"""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

import hypothesis.strategies as st
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipe.errors import Outcome
from pipe.language.names import Pattern, TopicName
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.ports import Mode
from pipe.stream.router import Router
from pipe.stream.topics import Member
from tests.fakes import FakeSink, FakeSource, topics

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Receipt

NAMES = [TopicName("alice", ("a",)), TopicName("alice", ("b",)), TopicName("bob", ("a",))]
PATTERNS = [Pattern("alice", ("*",)), Pattern("*", ("a",)), Pattern("*", ("**",))]

names = st.sampled_from([NAMES[0], *NAMES])  # most meet on one topic
bounds = st.sampled_from([1, 4, 20])
sizes = st.integers(1, 9)
choices = st.integers(0, 99)
dispatches = st.sampled_from(Dispatch)
policies = st.sampled_from([OnSlow.BLOCK, OnSlow.BLOCK, OnSlow.DROP, OnSlow.DISCONNECT])


class Sink(FakeSink):
    """A sink with what the model knows of it."""

    def __init__(self, model: Model, bound: int, *, confirms: bool) -> None:
        super().__init__(model.router, bound=bound, confirms=confirms)
        self._model = model
        self.name: TopicName | None = None
        self.pattern: Pattern | None = None
        self.waits_for: list[Source] = []  # with a pattern: streams that must be over first
        self.served = False
        self.broken = False
        self.inherited = 0
        self.dropped = 0
        self.ending: tuple[Outcome, int] | None = None  # once its last publisher is gone
        self.has: set[Chunk] = set()

    @property
    def reads(self) -> bool:
        """Whether it is still on its topics."""
        return not (self.gone or self.over or self.ending)

    @property
    def holds(self) -> bool:
        """Whether publishers must wait for it."""
        return self.reads and self.clogged and self.member.on_slow is OnSlow.BLOCK

    @property
    def stays(self) -> bool:
        """Whether it outlives the last publisher of its topic."""
        own = self._model.source_of(self)
        writes = own is not None and not own.over
        return self.member.keep_alive or self.pattern is not None or writes

    def write(self, chunk: Chunk) -> None:
        """Rule 1: a chunk comes once."""
        assert chunk not in self.has, "written twice"
        self.has.add(chunk)
        super().write(chunk)

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """Rule 6: only with the last publisher, and with the outcome that its publishers gave."""
        assert (outcome, exit_status) == self.ending
        self._model.note_progress()
        super().finish(outcome, exit_status)

    def cut(self, outcome: Outcome) -> None:
        """Only one that asked for it is cut by the router."""
        assert self.member.on_slow is OnSlow.DISCONNECT
        assert outcome is Outcome.SLOW
        super().cut(outcome)

    def _notice(self) -> None:
        self._model.note_progress()
        super()._notice()


class Source(FakeSource):
    """A source with what the model knows of it."""

    def __init__(self, model: Model, name: TopicName, *, synchronous: bool) -> None:
        super().__init__(model.router, synchronous=synchronous)
        self._model = model
        self.name = name
        self.awaits: dict[Sink, int] = {}  # after the end: bytes that each reader must have written
        self.served: dict[Sink, bool] = {}  # those that are done, and whether they have everything
        self.early_before = 0  # readers that had left before the end
        self.over = False

    @property
    def writes(self) -> bool:
        """Whether it is a publisher of its topic."""
        return not (self.gone or self.over)

    def _publish(self, chunk: Chunk) -> None:
        """Rules 1 and 2: everybody who reads the topic at this moment gets the chunk."""
        model, member = self._model, self.member
        own = model.sink_of(self)
        readers = [sink for sink in model.reading(self.name) if sink is not own or member.replay]
        for sink in model.reading(self.name):
            sink.served |= sink is not own
        dropping = {sink for sink in readers if sink.clogged and sink.member.on_slow is OnSlow.DROP}
        before = {sink: sink.member.dropped_bytes - sink.dropped for sink in readers}
        super()._publish(chunk)  # may let others publish, and those drop too

        reached = {sink for sink in model.sinks if chunk in sink.has}
        missed = {
            sink for sink in readers if sink.member.dropped_bytes - sink.dropped > before[sink]
        }
        assert reached <= set(readers), "reached somebody who is not on the topic"
        assert missed <= dropping, "dropped for somebody who had room or did not ask for it"
        for sink in missed:
            sink.dropped += chunk.size
        if member.dispatch is Dispatch.ROUND_ROBIN:
            assert len(reached) + len(missed) <= 1
            if not any(sink.gone for sink in readers):
                assert len(reached) + len(missed) == bool(readers)
        else:
            left_out = set(readers) - reached - missed
            assert all(sink.gone for sink in left_out), "left somebody out"

    def _end(self) -> None:
        """Rule 5: from now on its readers decide when it gets its receipt."""
        model = self._model
        self.over = True
        own = model.sink_of(self)
        readers = [sink for sink in model.reading(self.name) if sink is not own]
        for sink in readers:
            sink.served = True
            sink.inherited = sink.inherited or self.member.exit_status
        model.note_end(self.name)
        for sink in readers:
            self.awaits[sink] = sink.member.accepted_bytes if self.published else 0
        model.note_progress()  # a reader that has it all now may be cut before the receipt comes
        topic = self.member.topic
        assert topic
        self.early_before = self.member.left_early + topic.departures
        super()._end()

    def vanish(self) -> None:
        """Without an end of file, its readers' stream is broken."""
        member = self.member
        silent = member.mode is Mode.PIPE and not self.published
        if self.writes and member.started:
            own = self._model.sink_of(self)
            for sink in self._model.reading(self.name):
                if sink is not own:
                    sink.served = True
                    sink.broken |= not silent
                    sink.inherited = sink.inherited or member.exit_status
        self.over |= self.writes
        self._model.note_end(self.name)
        super().vanish()

    def finish(self, receipt: Receipt) -> None:
        """One receipt, and not before each reader is done."""
        assert not self.receipts, "two receipts"
        assert self.over, "a receipt before the end"
        self._model.note_progress()
        undone = [sink for sink in self.awaits if sink not in self.served]
        assert not undone, "a receipt before all is read"
        assert receipt.sent_bytes == sum(chunk.size for chunk in self.published)
        early = sum(not served for served in self.served.values())
        assert receipt.left_early == self.early_before + early
        assert receipt.left_early <= receipt.subscribers
        super().finish(receipt)


class Model:
    """The members, and what can be said of them without asking the router."""

    def __init__(self) -> None:
        self.closed: list[TopicName] = []
        self.router = Router(self.closed.append, later=self._later)
        self.lags = False  # then what may come later does come later
        self.step: Callable[[], bool] | None = None
        self.sinks: list[Sink] = []
        self.sources: list[Source] = []

    def _later(self, step: Callable[[], bool]) -> None:
        assert self.step is None, "asked for twice"
        self.step = step
        if not self.lags:
            self.work()

    def work(self, most: int | None = None) -> None:
        """Let so many steps be taken of what is due, or all."""
        while self.step and (most is None or most > 0):
            if not self.step():
                self.step = None
            most = most and most - 1

    def note_end(self, name: TopicName) -> None:
        """Remember who ends, and how, if a topic's last publisher is gone."""
        self.note_progress()
        if list(self.writing_on(name)):
            return
        for sink in self.reading(name):
            if sink.served and not sink.stays:
                outcome = Outcome.DROPPED if sink.dropped else Outcome.DONE
                sink.ending = Outcome.BROKEN if sink.broken else outcome, sink.inherited

    @property
    def ports(self) -> list[Sink | Source]:
        """Everybody who ever was there."""
        return [*self.sinks, *self.sources]

    def source_of(self, sink: Sink) -> Source | None:
        """The writing side of a pipe."""
        return next((other for other in self.sources if other.member is sink.member), None)

    def sink_of(self, source: Source) -> Sink | None:
        """The reading side of a pipe."""
        return next((other for other in self.sinks if other.member is source.member), None)

    def named(self, name: TopicName) -> set[Member]:
        """The members that joined a topic by its name and have not left."""
        return {port.member for port in self.ports if port.name == name and not port.gone}

    def reading(self, name: TopicName) -> list[Sink]:
        """Those that get what is published on a topic."""
        if not self.named(name):
            return []
        return [
            sink
            for sink in self.sinks
            if sink.reads
            and (sink.name == name or (sink.pattern and sink.pattern.matches(name)))
            and not any(source.name == name and source.writes for source in sink.waits_for)
        ]

    def topics_of(self, sink: Sink) -> list[TopicName]:
        """The topics that a sink reads."""
        return [name for name in NAMES if sink in self.reading(name)]

    def writing_on(self, name: TopicName) -> Iterator[Source]:
        """The publishers of a topic."""
        return (source for source in self.sources if source.name == name and source.writes)

    def missing(self, source: Source) -> int:
        """How many readers a publisher waits for."""
        own = self.sink_of(source)
        readers = sum(sink is not own for sink in self.reading(source.name))
        wants = source.member.wants
        return max(0, (min(wants, 1) if source.member.started else wants) - readers)

    def holding(self, source: Source) -> list[Sink]:
        """The clogged sinks that a publisher must wait for."""
        own = self.sink_of(source)
        return [
            sink
            for sink in self.reading(source.name)
            if sink.holds and (sink is not own or source.member.replay)
        ]

    def waited_for(self, sink: Sink) -> bool:
        """Law 4: a publisher pauses for this sink whose chunks another, free one would get."""
        return any(
            sink in self.holding(source)
            and not self.missing(source)
            and any(
                not other.holds and (other is not self.sink_of(source) or source.member.replay)
                for other in self.reading(name)
            )
            for name in self.topics_of(sink)
            for source in self.writing_on(name)
        )

    def note_progress(self) -> None:
        """Remember which readers are done with which publishers, and whether they have it all.

        One that stays has it with its last byte, any other once it has confirmed.
        """
        for source in self.sources:
            for sink, mark in source.awaits.items():
                ends = sink.over or sink.ending is not None
                written = len(sink.client) >= mark
                if sink.gone or (written and not ends):
                    served = sink.member.confirmed if ends else written
                    source.served.setdefault(sink, served)


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
        sink.waits_for = [
            source for source in self.model.sources if source.member.whole and source.published
        ]
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
