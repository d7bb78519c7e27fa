"""Topics, fan-out and backpressure: the heart of `pipe`, as a synchronous state machine.

No asyncio, no SSH, no clock.  A session joins a topic as a `Member` and gives the router its two
ports: a `Source` that can be paused, a `Sink` that can be written to (`pipe.stream.members`).  What
reaches the router are calls: `Router.publish` (a chunk came), `Router.end` (end of file),
`Router.leave` (gone), and from sinks `Router.update` (clogged or not) and `Router.flushed`
(nothing pending).

The rules that it keeps (their numbers are those of the laws in docs/architecture.md):

1. A chunk goes to every subscriber of the topic as it came, or with ``round_robin`` to one in turn.
2. Each subscriber sees each publisher's chunks in order and without a hole, from where it joined.
   Only one that asked for ``drop`` misses whole chunks, and they are counted.
3. A publisher is paused while a sink of its topic is clogged (its own does not count, unless it
   asked to hear itself), or while it blocks and too few sinks are there: fewer than it wants until
   it has started, none afterwards.  A paused source publishes nothing, so nothing is queued here.
   While the router is held, all publishers are paused; readers go on.
4. A clogged sink is told when others begin to wait for it, and when they no longer do: when a
   publisher is paused for its sake whose chunks a free sink would get.  It keeps the time itself.
5. A publisher that ended is done when each of its readers has left after its last byte or, where
   the reader stays, has written its last byte to the connection.  One that has not started yet
   ends when it has: its end of file waits with it.
6. A reader that does not stay is finished when the topic's last publisher is gone and one has been
   there that had started.  A member that leaves ends nobody else's session.

While a publisher that wants its stream whole is in mid-stream, no reader begins.  One on a pattern
begins when that stream is over; a session that joins by name asks first (`Router.begun`).

A sink's ``write`` may clog or break it, and so call back into the router in the middle of a
fan-out.  Such calls only mark what changed; the fan-out works on a snapshot of the readers, and
what was marked is settled after it.  No source goes on while any fan-out is under way.  A source
that goes on may publish from inside ``resume``: what that clogs pauses its publishers at once, and
everything else waits for the one loop of `Router._settle`, so that calls never nest deeper for
having more members.
"""

from __future__ import annotations

from collections import deque
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.members import Mode, Receipt
from pipe.stream.statistics import Tally
from pipe.stream.topics import Begun, Topic

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from pipe.language.names import Pattern, TopicName
    from pipe.stream.chunks import Chunk
    from pipe.stream.members import Member
    from pipe.stream.statistics import Statistics
    from pipe.stream.topics import TopicStatistics


class Router:
    """All topics of one server.

    Args:
        closed: called with a topic's name when its last member has left.
        clock: seconds, by which it notes since when a sink is clogged; it decides nothing.
    """

    def __init__(
        self,
        closed: Callable[[TopicName], None] = lambda _: None,
        clock: Callable[[], float] = lambda: 0.0,
    ) -> None:
        self._closed = closed
        self._clock = clock
        self._topics: dict[TopicName, Topic] = {}
        self._members: dict[Member, None] = {}
        self._patterns: dict[Member, tuple[Pattern, Callable[[TopicName], bool]]] = {}
        self._tally = Tally()
        self.held = False
        self._fanning_out = False
        self._settling = False
        self._changed: dict[Topic, None] = {}
        self._postponed: deque[tuple[Callable[[Any], None], Member | Topic]] = deque()

    # -- coming and going -----------------------------------------------------------------------

    def join(self, member: Member, name: TopicName) -> None:
        """Put a new member on a topic, which begins to exist if it did not."""
        topic = self._topics.get(name) or self._open(name)
        self._members[member] = None
        member.joined = True
        member.topic = topic
        topic.members[member] = None
        if member.sink:
            self._attach(topic, member)
        if member.source:
            topic.publishers[member] = None
            self._changed[topic] = None
        self.update(member)
        self._settle()

    def join_pattern(
        self, member: Member, pattern: Pattern, admits: Callable[[TopicName], bool]
    ) -> None:
        """Let a subscriber read what matches, now and later, where ``admits`` says yes."""
        names = [
            name
            for name, topic in self._topics.items()
            if pattern.matches(name) and admits(name) and not topic.shut
        ]
        self._members[member] = None
        self._patterns[member] = (pattern, admits)
        member.joined = True
        member.keep_alive = True
        for name in names:
            self._attach(self._topics[name], member)
        self.update(member)
        self._settle()

    def leave(self, member: Member) -> None:
        """Take a member off; calling it again does nothing.

        One that has not ended its stream leaves it broken for its readers.
        """
        if not member.joined:
            return
        member.joined = False
        self._tally.keep(member)
        del self._members[member]
        self._patterns.pop(member, None)
        self._after_fan_out(self._take_off, member)

    def review(self, name: TopicName) -> None:
        """Ask again which readers on patterns may read a topic: its rules have changed."""
        topic = self._topics.get(name)
        if topic:
            self._after_fan_out(self._review, topic)

    @contextmanager
    def at_once(self) -> Iterator[None]:
        """Make several changes as one: nothing is published until all of them are made."""
        nested, self._fanning_out = self._fanning_out, True
        try:
            yield
        finally:
            self._fanning_out = nested
            self._settle()

    def _review(self, topic: Topic) -> None:
        if self._topics.get(topic.name) is not topic:
            return
        for reader, (pattern, admits) in list(self._patterns.items()):
            may_read = pattern.matches(topic.name) and admits(topic.name)
            if may_read == (topic in reader.topics):
                continue
            if may_read:
                if not topic.shut:
                    self._attach(topic, reader)
            else:
                for publisher in topic.publishers:
                    publisher.left_early += publisher.started
                self._remove(reader, topic)

    def _open(self, name: TopicName) -> Topic:
        readers = [
            reader
            for reader, (pattern, admits) in self._patterns.items()
            if pattern.matches(name) and admits(name)
        ]
        topic = self._topics[name] = Topic(name)
        self._attach(topic, *readers)
        return topic

    def _attach(self, topic: Topic, *readers: Member) -> None:
        topic.sinks = (*topic.sinks, *readers)
        for reader in readers:
            reader.topics[topic] = None
            if reader.clogged:
                topic.clogged[reader] = None
            for publisher in topic.publishers:
                if publisher.started:
                    reader.served = True
                    publisher.reached += 1
        self._changed[topic] = None

    def _detach(self, reader: Member) -> None:
        """Take a reader off all that it reads: what is published from now on is not for it."""
        for topic in list(reader.topics):
            for publisher in topic.publishers:
                publisher.left_early += publisher.started and publisher is not reader
            self._remove(reader, topic)

    def _remove(self, reader: Member, topic: Topic) -> None:
        topic.take_off(reader)
        self._forget_place(reader, topic)

    def _forget_place(self, reader: Member, topic: Topic) -> None:
        topic.clogged.pop(reader, None)
        del reader.topics[topic]
        self._waits_no_more(reader, topic)
        self._changed[topic] = None

    def _take_off(self, member: Member) -> None:
        # First what the member is part of, then what others are told: that may call back.
        topic, member.topic = member.topic, None
        finished: list[Member] = []
        self._detach(member)
        for reader in member.awaits:
            del reader.awaited_by[member]
        member.awaits.clear()
        if topic:
            del topic.members[member]
            if member.source and not member.ended:
                finished = self._stop_publishing(member, topic, broken=member.started)

        for reader in finished:
            self._finish_reader(reader)
        for publisher, mark in [(other, other.awaits[member]) for other in member.awaited_by]:
            publisher.left_early += member.deaf or member.written_bytes < mark
            self._release(publisher, member)
        if topic:
            self._close_if_empty(topic)

    def _close_if_empty(self, topic: Topic) -> None:
        if topic.members or self._topics.get(topic.name) is not topic:
            return
        readers, topic.sinks = topic.sinks, ()
        for reader in readers:  # on patterns: they stay, the topic goes
            self._forget_place(reader, topic)
        del self._topics[topic.name]
        self._changed.pop(topic, None)
        self._closed(topic.name)

    # -- bytes ----------------------------------------------------------------------------------

    def publish(self, member: Member, chunk: Chunk) -> None:
        """Hand a publisher's chunk to the readers of its topic.  Not to be called while paused."""
        topic = member.topic
        if topic is None or member.ended:
            return
        member.received_bytes += chunk.size
        member.received_chunks += 1
        nested, self._fanning_out = self._fanning_out, True
        try:
            if member.dispatch is Dispatch.MULTICAST:
                skipped = None if member.replay else member
                for reader in topic.sinks:
                    if reader is not skipped:
                        self._hand(reader, chunk)
            else:
                chosen = topic.take_turn(member)
                if chosen:
                    self._hand(chosen, chunk)
        finally:
            self._fanning_out = nested
            if self._changed or self._postponed:
                self._settle()

    def deal(self, member: Member, records: list[bytes], make: Callable[[bytes], Chunk]) -> None:
        """Publish whole records: all in one chunk, or dealt out in turn and joined per reader.

        Dealing record i to reader i mod n and joining what each gets is, for every reader, the same
        stream as one chunk per record, for a fraction of the packets.
        """
        topic = member.topic
        if topic is None or member.ended or not records:
            return
        readers = topic.turns(member) if member.dispatch is Dispatch.ROUND_ROBIN else []
        if len(readers) <= 1:
            self.publish(member, make(b"".join(records)))
            return
        last = readers[(len(records) - 1) % len(readers)]
        topic.turn = topic.sinks.index(last) + 1
        nested, self._fanning_out = self._fanning_out, True
        try:
            for first, reader in enumerate(readers[: len(records)]):
                chunk = make(b"".join(records[first :: len(readers)]))
                member.received_bytes += chunk.size
                member.received_chunks += 1
                self._hand(reader, chunk)
        finally:
            self._fanning_out = nested
            self._settle()

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
        """A publisher's end of file: all that it published before is its whole stream."""
        if not member.joined or member.ended or not member.source:
            return
        if not member.started:
            member.end_held = True
            return
        member.ended = True
        self._after_fan_out(self._drain, member)

    def _drain(self, member: Member) -> None:
        topic = member.topic
        if topic is None:
            return
        readers = [reader for reader in topic.sinks if reader is not member]
        finished = self._stop_publishing(member, topic, broken=False)
        if member.mode is Mode.PUBLISH:  # a pipe is a subscriber now, and gets no receipt
            for reader in readers:
                late = reader.written_bytes < reader.accepted_bytes and member.received_bytes > 0
                if late or reader in finished:
                    member.awaits[reader] = reader.accepted_bytes
                    reader.awaited_by[member] = None
            if not member.awaits:
                self._give_receipt(member)
        for reader in finished:
            self._finish_reader(reader)
        for reader in list(member.awaits):
            if reader in member.awaits and not reader.finishing and reader.sink:
                reader.sink.flush()

    def _stop_publishing(self, member: Member, topic: Topic, *, broken: bool) -> list[Member]:
        """Take a publisher's stream off its topic; return the readers that are to finish now."""
        member.ended = True
        del topic.publishers[member]
        self._changed[topic] = None
        if member.whole and self._patterns:
            self._postponed.append((self._review, topic))  # for those that had to wait for the end
        silent_pipe = member.mode is Mode.PIPE and not member.received_bytes
        for reader in topic.sinks:
            if reader is member:
                continue
            reader.broken |= broken and not silent_pipe
            if member.started:
                reader.inherited_status = reader.inherited_status or member.exit_status
        if topic.publishers:
            return []
        return [reader for reader in topic.sinks if reader.served and not reader.stays]

    def _finish_reader(self, reader: Member) -> None:
        if not reader.joined or reader.finishing or reader.sink is None:
            return
        reader.finishing = True
        reader.clogged = False
        for topic in list(reader.topics):
            self._remove(reader, topic)
        reader.sink.finish(reader.outcome, reader.inherited_status)

    def _cut_slow(self, reader: Member) -> None:
        if not reader.joined or reader.finishing or reader.sink is None:
            return
        reader.finishing = True
        self._patterns.pop(reader, None)
        self._detach(reader)
        reader.sink.cut(Outcome.SLOW)

    def flushed(self, reader: Member) -> None:
        """A sink has written all that it took to its connection."""
        self._check_marks(reader)

    def _check_marks(self, reader: Member) -> None:
        if reader.finishing or not reader.joined:
            return  # only its leaving will do now
        written = reader.written_bytes
        for publisher in list(reader.awaited_by):
            if publisher.awaits.get(reader, written + 1) <= written:
                self._release(publisher, reader)

    def _release(self, publisher: Member, reader: Member) -> None:
        if reader in publisher.awaits:
            del publisher.awaits[reader]
            del reader.awaited_by[publisher]
            if not publisher.awaits:
                self._give_receipt(publisher)

    @staticmethod
    def _give_receipt(publisher: Member) -> None:
        if publisher.joined and publisher.source:
            publisher.source.finish(
                Receipt(publisher.received_bytes, publisher.reached, publisher.left_early)
            )

    # -- backpressure ---------------------------------------------------------------------------

    def update(self, reader: Member) -> None:
        """A sink has become clogged, or is clogged no more."""
        if not reader.joined or reader.finishing or reader.sink is None:
            return
        clogged = reader.sink.clogged
        if reader.on_slow is OnSlow.DISCONNECT and clogged:
            self._after_fan_out(self._cut_slow, reader)
        if reader.on_slow is not OnSlow.BLOCK or clogged == reader.clogged:
            return
        reader.clogged = clogged
        reader.clogged_since = self._clock() if clogged else None
        for topic in list(reader.topics):
            self._changed[topic] = None
            if clogged:
                topic.clogged[reader] = None
            else:
                del topic.clogged[reader]
                self._waits_no_more(reader, topic)
        if reader.awaited_by:
            self._check_marks(reader)
        self._settle()

    def hold(self, *, held: bool) -> None:
        """Pause all publishers, those that come later too; or undo it."""
        self.held = held
        self._changed.update(dict.fromkeys(self._topics.values()))
        self._settle()

    def _after_fan_out(self, action: Callable[[Any], None], subject: Member | Topic) -> None:
        self._postponed.append((action, subject))
        self._settle()

    def _settle(self) -> None:
        """Bring all that changed to what the rules say, unless a fan-out is under way.

        A call from inside a publisher's ``resume`` pauses those that must be, and leaves the rest
        to the call that is already at work.
        """
        if self._fanning_out:
            return
        while self._postponed:
            action, subject = self._postponed.popleft()
            action(subject)
        for topic in list(self._changed):
            for publisher in list(topic.publishers):
                if self._must_pause(publisher, topic):
                    self._pause(publisher)
        if self._settling:
            return
        self._settling = True
        try:
            while self._changed:
                topic = next(iter(self._changed))
                del self._changed[topic]
                for publisher in list(topic.publishers):
                    self._settle_publisher(publisher, topic)
                self._settle_stall(topic)
        finally:
            self._settling = False

    def _settle_publisher(self, member: Member, topic: Topic) -> None:
        if member not in topic.publishers or member.source is None:
            return
        readers = topic.readers_of(member)
        if not member.started and readers >= member.wants:
            member.started = True
            member.reached += readers
            for reader in topic.sinks:
                reader.served |= reader is not member
        missing = max(0, self._missing(member, topic))
        if missing != member.waiting:
            member.waiting = missing
            member.source.waits(missing)
        if member.started and member.end_held:
            self.end(member)
        if member not in topic.publishers:
            return
        if self._must_pause(member, topic):
            self._pause(member)
        elif member.paused:
            # To the end of the line: what it publishes may clog a sink before the next can go on.
            topic.publishers[member] = topic.publishers.pop(member)
            member.paused = False
            member.source.resume()

    @staticmethod
    def _missing(member: Member, topic: Topic) -> int:
        readers = topic.readers_of(member)
        return min(member.wants, 1) - readers if member.started else member.wants - readers

    def _must_pause(self, member: Member, topic: Topic) -> bool:
        own = member in topic.clogged and not member.replay
        if self.held or len(topic.clogged) > own or not member.started:
            return True
        return self._missing(member, topic) > 0

    @staticmethod
    def _pause(member: Member) -> None:
        if member.source and not member.paused:
            member.paused = True
            member.source.pause()

    def _settle_stall(self, topic: Topic) -> None:
        """Tell each clogged sink whether others wait for it."""
        if not topic.clogged:
            return
        held = [publisher for publisher in topic.publishers if topic.holds_up(publisher)]
        for reader in list(topic.clogged):
            if any(publisher is not reader or publisher.replay for publisher in held):
                self._waits_now(reader, topic)
            else:
                self._waits_no_more(reader, topic)

    @staticmethod
    def _waits_now(reader: Member, topic: Topic) -> None:
        waited = bool(reader.waited_in)
        reader.waited_in[topic] = None
        if not waited and reader.sink:
            reader.sink.waited_for(True)

    @staticmethod
    def _waits_no_more(reader: Member, topic: Topic) -> None:
        if topic not in reader.waited_in:
            return
        del reader.waited_in[topic]
        if not reader.waited_in and reader.joined and reader.sink:
            reader.sink.waited_for(False)

    # -- looking in -----------------------------------------------------------------------------

    def members(self, name: TopicName) -> tuple[Member, ...]:
        """Everybody on a topic, patterns included; empty where it does not exist."""
        topic = self._topics.get(name)
        return topic.everybody if topic else ()

    def __contains__(self, name: TopicName) -> bool:
        return name in self._topics

    def begun(self, name: TopicName) -> Begun:
        """How far the streams on a topic are; it need not exist."""
        topic = self._topics.get(name)
        return topic.begun if topic else Begun()

    def names(self) -> tuple[TopicName, ...]:
        """Every topic's name, in the order in which they were opened."""
        return tuple(self._topics)

    def topic(self, name: TopicName) -> TopicStatistics | None:
        """One topic, if it exists."""
        topic = self._topics.get(name)
        return topic.statistics() if topic else None

    def statistics(self) -> Statistics:
        """All topics summed up; the cost grows with the number of members."""
        return self._tally.statistics(len(self._topics), self._members)
