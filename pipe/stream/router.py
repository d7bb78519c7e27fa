"""Topics, fan-out and backpressure: the heart of `pipe`, as a synchronous state machine.

No asyncio, no SSH, no clock.  A session joins a topic as a `Member` and gives the router its two
ports: a `Source` to pause and a `Sink` to write to (`pipe.stream.ports`).  Sessions then call
`Router.publish` (a chunk came), `Router.end` (end of file) and `Router.leave` (gone); sinks call
`Router.update` (clogged or not) and `Router.flushed` (nothing pending).

The router keeps these rules, numbered like the laws in docs/architecture.md:

1. A chunk goes unchanged to every subscriber of the topic, or with ``round_robin`` to one in turn.
2. From where it joined, a subscriber sees each publisher's chunks in order and without a gap.
   Only one that asked for ``drop`` misses whole chunks, and they are counted.
3. A publisher is paused while a sink of its topic is clogged (its own does not count, unless it
   asked to hear itself), or while it blocks and has too few sinks: fewer than it wants until it
   has started, none afterwards.  A paused source publishes nothing, so nothing is queued here.
   While the router is held, all publishers are paused and readers go on.
4. The router tells a clogged sink when others start and stop waiting for it.  They wait when it
   holds up a publisher whose chunks a free sink would get.  The sink keeps the time itself.
5. A publisher that ended is done when each of its readers has left or, if the reader stays, has
   written its last byte to the connection.  A finished reader that leaves has everything if
   `Member.confirmed` is set; otherwise it left early, whatever was written.  If a publisher ends
   before it has started, its end of file waits until it starts.
6. A reader that does not stay is finished when the topic's last publisher is gone, if one of them
   had started.  A member that leaves ends nobody else's session.

While a publisher that wants its stream whole is in mid-stream, no reader begins.  A reader on a
pattern begins when that stream is over; a session that joins by name asks first (`Router.begun`).

A sink's ``write`` may clog or break it, and so call the router in the middle of a fan-out.  Such
calls only mark what changed; the fan-out works on a snapshot of the readers, and the router settles
what was marked afterwards.  No source resumes during a fan-out.

What must hold at once is done at once, and touches only members whose state it changes: a join, a
leave, and the pauses of rule 3, each paid for by an earlier resume.  Everything else is done one
member at a time, over as many turns as it takes, so that a crowd keeps nobody waiting: resumes,
counts of missing readers, news for clogged sinks, ends and receipts.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.away import AwayReaders
from pipe.stream.chunks import deal_out
from pipe.stream.flow import Flow
from pipe.stream.history import Legacy
from pipe.stream.ports import Mode, Receipt
from pipe.stream.standing import Standing
from pipe.stream.topics import Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from typing import TypeAlias

    from pipe.language.names import Pattern, TopicName
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member

    Step: TypeAlias = Callable[[], bool]


def take_all(step: Step) -> None:
    """Take all steps now."""
    while step():
        pass


class Router(Flow, AwayReaders):
    """All topics of one server.

    Args:
        closed: called with a topic's name when its last member has left.
        clock: seconds; notes since when a sink has been clogged, and decides nothing.
        later: calls a step repeatedly, now or in later turns of an event loop, until the step
            returns False.
        lingers: called with a topic's name and seconds when its last publisher has left: call
            `let_go` after that time.
    """

    def __init__(
        self,
        closed: Callable[[TopicName], None] = lambda _: None,
        clock: Callable[[], float] = lambda: 0.0,
        later: Callable[[Step], None] = take_all,
        lingers: Callable[[TopicName, float], None] = lambda _, __: None,
    ) -> None:
        super().__init__()
        self._closed = closed
        self._clock = clock
        self._later = later
        self._lingers = lingers
        self._standing = Standing()
        self.held = False
        self._fanning_out = False
        self.speaker: Member | None = None
        """Whose chunk is handed out now, for a sink that wants to know."""
        self._changed: dict[Topic, None] = {}
        self._postponed: deque[tuple[Callable[[Any], None], Member | Topic]] = deque()
        self._due: deque[tuple[Callable[[Any], None], Member | Topic]] = deque()
        self._at_work = False  # on what is due, or scheduled to be

    # -- coming and going -----------------------------------------------------------------------

    def join(self, member: Member, name: TopicName) -> None:
        """Put a new member on a topic, and create the topic if it does not exist."""
        topic = self._topics.get(name) or self._open(name)
        self._members[member] = None
        member.joined = True
        member.topic = topic
        topic.members[member] = None
        if member.sink:
            self._attach(topic, member)
            self._see_to(member)
        if member.source:
            self._begin_history(topic, member)
            topic.add(member)
            self._changed[topic] = None
        self.update(member)
        self._settle()

    def join_pattern(
        self, member: Member, pattern: Pattern, admits: Callable[[TopicName], bool]
    ) -> None:
        """Let a subscriber read the topics that match, now and later, if ``admits`` allows them."""
        names = [name for name in self._topics if pattern.matches(name)]
        self._standing.add(member, pattern, admits)
        self._attend_all(member, names, admits)

    def follow(self, member: Member, name: TopicName, admits: Callable[[TopicName], bool]) -> None:
        """Let a subscriber read one topic whenever it exists, without keeping it open."""
        self._standing.add(member, name, admits)
        self._attend_all(member, [name] if name in self._topics else [], admits)

    def _attend_all(
        self, member: Member, names: list[TopicName], admits: Callable[[TopicName], bool]
    ) -> None:
        """Put a standing reader on those topics that exist now."""
        self._members[member] = None
        member.joined = True
        member.keep_alive = True
        for name in names:
            topic = self._topics[name]
            if not topic.shut and admits(name):
                self._attach(topic, member)
        self.update(member)
        self._settle()

    def leave(self, member: Member) -> None:
        """Remove a member; if its stream has not ended, readers see it broken.  Idempotent."""
        if not member.joined:
            return
        member.joined = False
        self._tally.keep(member)
        del self._members[member]
        self._standing.remove(member)
        self._after_fan_out(self._take_off, member)

    def review(self, name: TopicName) -> None:
        """Check again which readers on patterns may read a topic, after its rules changed."""
        topic = self._topics.get(name)
        if topic:
            self._after_fan_out(self._review, topic)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Make several changes as one: publish nothing until all of them are made."""
        nested, self._fanning_out = self._fanning_out, True
        try:
            yield
        finally:
            self._fanning_out = nested
            self._settle()

    def _review(self, topic: Topic) -> None:
        if self._topics.get(topic.name) is not topic:
            return
        for reader, admits in self._standing.readers_of(topic.name):
            may_read = admits(topic.name)
            if may_read == (topic in reader.topics):
                continue
            if may_read:
                if not topic.shut:
                    self._attach(topic, reader)
            else:
                topic.departures += 1
                self._remove(reader, topic)

    def _open(self, name: TopicName) -> Topic:
        readers = [reader for reader, admits in self._standing.readers_of(name) if admits(name)]
        topic = self._topics[name] = Topic(name)
        topic.watchers = self._watchers.get(name)
        self._attach(topic, *readers)
        return topic

    def _attach(self, topic: Topic, *readers: Member) -> None:
        for reader in readers:
            reader.topics[topic] = None
            topic.attach(reader)
        self._changed[topic] = None

    def _detach(self, reader: Member) -> None:
        """Detach a reader from all its topics: it gets nothing published from now on."""
        for topic in list(reader.topics):
            topic.departures += not (topic.history and topic.history.is_spent(reader))
            self._remove(reader, topic)

    def _remove(self, reader: Member, topic: Topic) -> None:
        del reader.topics[topic]
        topic.detach(reader)
        self._changed[topic] = None

    def _take_off(self, member: Member) -> None:
        # Update our own state before telling others, as they may call back.
        topic, member.topic = member.topic, None
        self._detach(member)
        for reader in member.awaits:
            del reader.awaited_by[member]
        member.awaits.clear()
        if topic:
            del topic.members[member]
            if member in topic.publishers:
                self._stop_publishing(member, topic, broken=member.started and not member.ended)

        written = member.written_bytes
        for publisher in list(member.awaited_by):
            served = member.confirmed if member.finishing else written >= publisher.awaits[member]
            publisher.left_early += not served
            self._release(publisher, member)
        if topic:
            self._close_if_empty(topic)

    def _close_if_empty(self, topic: Topic) -> None:
        if topic.members or self._topics.get(topic.name) is not topic:
            return
        if topic.history and topic.history.lingers:
            return
        for reader in list(topic.readers):  # on patterns: they outlive the topic
            self._remove(reader, topic)
        del self._topics[topic.name]
        self._changed.pop(topic, None)
        self._closed(topic.name)

    # -- bytes ----------------------------------------------------------------------------------

    def publish(self, member: Member, chunk: Chunk) -> None:
        """Hand a publisher's chunk to the readers of its topic.  Never call this while paused."""
        topic = member.topic
        if topic is None or member.ended:
            return
        topic.sent_bytes += chunk.size
        if member.mode is Mode.PUBLISH:
            topic.stream_bytes += chunk.size
        member.received_bytes += chunk.size
        member.received_chunks += 1
        if topic.watchers:
            for watcher in topic.watchers:
                watcher.published(chunk.size)
        nested, self._fanning_out = self._fanning_out, True
        spoke, self.speaker = self.speaker, member
        try:
            if member.dispatch is Dispatch.MULTICAST:
                skipped = None if member.replay else member
                if topic.history is not None:
                    self._record(topic, topic.history, chunk)
                if topic.stale:
                    topic.refresh()
                for reader in topic.sinks:
                    if reader is not skipped:
                        self._hand(reader, chunk)
            else:
                chosen = topic.take_turn(member)
                if chosen:
                    self._hand(chosen, chunk)
        finally:
            self.speaker = spoke
            self._fanning_out = nested
            if self._changed or self._postponed or self._due:
                self._settle()

    def deal(self, member: Member, records: Chunk, separator: bytes) -> int:
        """Publish whole records: all in one chunk, or dealt out in turn (`deal_out`).

        Returns:
            How many records had to be split apart.
        """
        topic = member.topic
        if topic is None or member.ended or not records.size:
            return 0
        readers = topic.turns(member) if member.dispatch is Dispatch.ROUND_ROBIN else []
        if len(readers) <= 1:
            self.publish(member, records)
            return 0
        topic.sent_bytes += records.size
        if member.mode is Mode.PUBLISH:
            topic.stream_bytes += records.size
        member.received_bytes += records.size
        for watcher in topic.watchers or ():
            watcher.published(records.size)
        chunks, count = deal_out(records, separator, len(readers))
        topic.turn = topic.sinks.index(readers[(count - 1) % len(readers)]) + 1
        nested, self._fanning_out = self._fanning_out, True
        spoke, self.speaker = self.speaker, member
        try:
            for reader, chunk in zip(readers, chunks, strict=False):  # some readers may get none
                member.received_chunks += 1
                self._hand(reader, chunk)
        finally:
            self.speaker = spoke
            self._fanning_out = nested
            self._settle()
        return count

    def _hand(self, reader: Member, chunk: Chunk) -> None:
        sink = reader.sink
        if sink is None or not reader.joined or reader.finishing:
            return
        if reader.on_slow is OnSlow.DROP and sink.clogged:
            reader.dropped_bytes += chunk.size
            return
        reader.accepted_bytes += chunk.size
        reader.accepted_chunks += 1
        sink.write(chunk)
        if reader.awaited_by:
            self._check_marks(reader)

    # -- ends -----------------------------------------------------------------------------------

    def end(self, member: Member) -> None:
        """Take a publisher's end of file: what it has published is its whole stream."""
        if not member.joined or member.ended or not member.source:
            return
        if not member.started:
            member.end_held = True
            return
        member.ended = True
        self._after_fan_out(self._drain, member)

    def _drain(self, member: Member) -> None:
        topic = member.topic
        if topic is None or member not in topic.publishers:
            return
        readers = list(topic.readers)
        finishing = self._stop_publishing(member, topic, broken=False)
        if member.mode is not Mode.PUBLISH:  # a pipe is a subscriber now, and gets no receipt
            return
        if member.received_bytes or finishing:
            for reader in readers:
                mark = reader.accepted_bytes
                if reader.lag and topic.history:
                    if reader.lag.stream is not topic.history.stream and not reader.stays:
                        continue  # it reads an earlier stream to its end
                    mark += topic.history.behind(reader)
                late = member.received_bytes > 0 and reader.written_bytes < mark
                if late or reader.finishing:
                    member.awaits[reader] = mark
                    reader.awaited_by[member] = None
        if not member.awaits:
            self._due.append((self._give_receipt, member))
        for reader in list(member.awaits):
            if reader in member.awaits and not reader.finishing and reader.sink:
                reader.sink.flush()

    def _stop_publishing(self, member: Member, topic: Topic, *, broken: bool) -> bool:
        """Remove a publisher's stream from its topic, and return whether readers end with it."""
        member.ended = True
        topic.remove(member)
        self._changed[topic] = None
        if member.whole and self._standing:
            self._postponed.append((self._review, topic))  # readers had to wait for the end
        silent_pipe = member.mode is Mode.PIPE and not member.received_bytes
        topic.breaks += broken and not silent_pipe
        if topic.watchers and member.started:
            self._tell_watchers(topic, member, broken, silent_pipe)
        if member.started:
            topic.finish(member)
            if member.exit_status:
                topic.legacy.status = member.exit_status
                topic.legacy = Legacy()
        if member in topic.readers and not member.stays:
            topic.mortals[member] = None
        if topic.publishers:
            return False
        if topic.swept == topic.starts:
            if topic.history:
                topic.history.take_back()
            return False
        topic.swept = topic.starts
        if topic.history:
            self._end_stream(topic, topic.history)
        finishing = [
            reader for reader in topic.mortals if not reader.lag and topic.has_served(reader)
        ]
        for reader in finishing:
            self._begin_to_finish(reader, topic)
        return bool(finishing)

    def _tell_watchers(self, topic: Topic, member: Member, broken: bool, silent_pipe: bool) -> None:
        for watcher in list(topic.watchers or ()):
            if not silent_pipe:
                watcher.ended(member.exit_status, broken)
            elif not topic.publishers:
                watcher.idle()

    def _begin_to_finish(self, reader: Member, topic: Topic) -> None:
        """Note that a reader gets nothing more; it is told in its turn."""
        since = reader.since
        reader.finishing = True
        reader.clogged = False
        if topic.history:
            reader.ending = topic.history.end_for(reader)
        if reader.lag:
            reader.broken = reader.lag.stream.broken
            reader.inherited_status = reader.lag.stream.status
        else:
            reader.broken = topic.breaks > since.breaks
            reader.inherited_status = since.legacy.status if since.legacy else 0
        self._remove(reader, topic)
        self._due.append((self._finish_reader, reader))

    @staticmethod
    def _finish_reader(reader: Member) -> None:
        if reader.joined and reader.sink:
            reader.sink.finish(reader.outcome, reader.inherited_status)

    def _cut_slow(self, reader: Member) -> None:
        if not reader.joined or reader.finishing or reader.sink is None:
            return
        reader.finishing = True
        self._standing.remove(reader)
        self._detach(reader)
        reader.sink.cut(Outcome.SLOW)

    def flushed(self, reader: Member) -> None:
        """Note that a sink has written everything that it took to its connection."""
        self._check_marks(reader)

    def _check_marks(self, reader: Member) -> None:
        if reader.finishing or not reader.joined or reader.lag:
            return  # from here on only its leaving counts; a laggard has it all once it is live
        written = reader.written_bytes
        while reader.awaited_by:
            publisher = next(iter(reader.awaited_by))  # in the order of their marks
            if publisher.awaits[reader] > written:
                break
            self._release(publisher, reader)
        self._settle()

    def _release(self, publisher: Member, reader: Member) -> None:
        del publisher.awaits[reader]
        del reader.awaited_by[publisher]
        if not publisher.awaits:
            self._due.append((self._give_receipt, publisher))

    @staticmethod
    def _give_receipt(publisher: Member) -> None:
        if publisher.joined and publisher.source:
            publisher.source.finish(
                Receipt(publisher.received_bytes, publisher.reached, publisher.left_early)
            )

    # -- backpressure ---------------------------------------------------------------------------

    def update(self, reader: Member) -> None:
        """Note that a sink has become clogged, or no longer is."""
        if not reader.joined or reader.finishing or reader.sink is None:
            return
        clogged = reader.sink.clogged
        if reader.lag:
            if not clogged:
                self._see_to(reader)
                self._settle()
            return
        if reader.on_slow is OnSlow.DISCONNECT and clogged:
            self._after_fan_out(self._cut_slow, reader)
        if reader.on_slow is not OnSlow.BLOCK or clogged == reader.clogged:
            return
        reader.clogged = clogged
        reader.clogged_since = self._clock() if clogged else None
        for topic in list(reader.topics):
            self._changed[topic] = None
            if clogged:
                topic.clog(reader)
            else:
                topic.unclog(reader)
        if reader.awaited_by:
            self._check_marks(reader)
        self._settle()

    def hold(self, *, held: bool) -> None:
        """Pause all publishers, later ones too, or let them go on."""
        self.held = held
        self._changed.update(dict.fromkeys(self._topics.values()))
        self._settle()

    def _after_fan_out(self, action: Callable[[Any], None], subject: Member | Topic) -> None:
        self._postponed.append((action, subject))
        self._settle()

    def _settle(self) -> None:
        """Apply the rules to everything that changed, unless a fan-out is under way."""
        if self._fanning_out:
            return
        while self._postponed:
            action, subject = self._postponed.popleft()
            action(subject)
        while self._changed:
            topic = next(iter(self._changed))
            del self._changed[topic]
            self._review_flow(topic)
        if self._due and not self._at_work:
            self._at_work = True
            self._later(self._work)

    def _work(self) -> bool:
        """Do one thing that is due, and return whether there is more."""
        self._at_work = False
        if self._fanning_out or not self._due:
            return False  # `_settle` schedules it again
        self._at_work = True
        action, subject = self._due.popleft()
        try:
            action(subject)
            self._settle()
        finally:
            self._at_work = bool(self._due)
        return self._at_work
