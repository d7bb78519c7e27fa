"""What the laws of a stream ask for, as far as the members themselves can see it.

The model never looks at the router's own fields.  It says who reads what, who is paused, who is
waited for, who has ended and how, and who has a receipt.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import Outcome
from pipe.language.names import Pattern, TopicName
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.ports import Mode
from pipe.stream.router import Router
from tests.fakes import FakeSink, FakeSource

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipe.stream.chunks import Chunk
    from pipe.stream.ports import Receipt
    from pipe.stream.topics import Member

NAMES = [TopicName("alice", ("a",)), TopicName("alice", ("b",)), TopicName("bob", ("a",))]


class Sink(FakeSink):
    """A sink with what the model knows of it."""

    def __init__(self, model: Model, bound: int, *, confirms: bool) -> None:
        super().__init__(model.router, bound=bound, confirms=confirms)
        self._model = model
        self.name: TopicName | None = None
        self.pattern: Pattern | None = None
        self.kept_out: set[TopicName] = set()  # with a pattern: topics that were shut as it came
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
        if not self.shut(name):
            for sink in self.sinks:
                sink.kept_out.discard(name)
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
            and name not in sink.kept_out
        ]

    def topics_of(self, sink: Sink) -> list[TopicName]:
        """The topics that a sink reads."""
        return [name for name in NAMES if sink in self.reading(name)]

    def writing_on(self, name: TopicName) -> Iterator[Source]:
        """The publishers of a topic."""
        return (source for source in self.sources if source.name == name and source.writes)

    def shut(self, name: TopicName) -> bool:
        """Whether a publisher that wants its stream whole is in mid-stream."""
        return any(source.member.whole and source.published for source in self.writing_on(name))

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
