"""What the router does for readers that come late, and for topics that keep their past.

A reader that begins in the past is a *laggard*.  The router hands it what the ring has, step by
step, as its sink takes it; what is published meanwhile only goes into the ring.  Once the laggard
has it all, it reads like everybody else: no byte is left out, none comes twice.  It counts as a
reader from the first step on.

The ring does not pass a laggard.  Before it would, the laggard counts as clogged, so its topic's
publishers are paused (law 3).  One that asked for ``drop`` loses what the ring has to let go
instead, and one that asked for ``disconnect`` is cut off.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, cast

from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.chunks import Chunk
from pipe.stream.history import History, new_id

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.stream.topics import Member, Topic

STEP_BYTES = 256 * 1024
"""What a laggard is handed in one step: a fraction of a millisecond's work."""


class LateReaders(ABC):
    """This part of the router; the abstract methods are the router's own."""

    _clock: Callable[[], float]
    _topics: dict[TopicName, Topic]
    _fanning_out: bool
    speaker: Member | None
    _changed: dict[Topic, None]
    _due: deque[tuple[Callable[[Any], None], Member | Topic]]
    _lingers: Callable[[TopicName, float], None]

    @abstractmethod
    def update(self, reader: Member) -> None:
        """Note that a sink has become clogged, or no longer is."""

    @abstractmethod
    def _settle(self) -> None: ...

    @abstractmethod
    def _after_fan_out(self, action: Callable[[Any], None], subject: Member | Topic) -> None: ...

    @abstractmethod
    def _cut_slow(self, reader: Member) -> None: ...

    @abstractmethod
    def _begin_to_finish(self, reader: Member, topic: Topic) -> None: ...

    @abstractmethod
    def _check_marks(self, reader: Member) -> None: ...

    @abstractmethod
    def _close_if_empty(self, topic: Topic) -> None: ...

    @abstractmethod
    def _release(self, publisher: Member, reader: Member) -> None: ...

    @abstractmethod
    def _remove(self, reader: Member, topic: Topic) -> None: ...

    @abstractmethod
    def leave(self, member: Member) -> None:
        """Remove a member."""

    # -- keeping ----------------------------------------------------------------------------------

    def history(self, name: TopicName) -> History | None:
        """What a topic keeps of its past, if it does."""
        topic = self._topics.get(name)
        return topic.history if topic else None

    def promise(self, name: TopicName) -> str:
        """The identifier of a topic's next stream, for a reader that waits for it.

        Empty if one has begun, or has been kept.
        """
        topic = self._topics.get(name)
        if topic is None or topic.history or topic.starts != topic.swept:
            return ""
        topic.promised = topic.promised or new_id()
        return topic.promised

    @property
    def kept_bytes(self) -> int:
        """Bytes in the rings of all topics; the cost grows with the number of topics."""
        return sum(topic.history.ring.size for topic in self._topics.values() if topic.history)

    def _begin_history(self, topic: Topic, publisher: Member) -> None:
        """Keep the topic's past if its new publisher wants it, and begin a stream."""
        if publisher.keep and topic.history is None:
            fresh = topic.swept == topic.starts
            name = topic.promised if fresh else ""
            topic.history = History(publisher.keep, topic.since, numbered=fresh, name=name)
        history = topic.history
        if history is None:
            return
        history.begin(topic.since)
        if publisher.keep:
            history.ring.bound = max(history.ring.bound, publisher.keep)
            history.linger = publisher.linger
        everybody = (*topic.publishers, publisher)
        if any(one.dispatch is Dispatch.ROUND_ROBIN for one in everybody):
            history.stream.numbered = False  # readers get different bytes

    def _end_stream(self, topic: Topic, history: History) -> None:
        """The last publisher is gone."""
        since = history.stream.since
        status = since.legacy.status if since.legacy else 0
        history.end(broken=topic.breaks > since.breaks, status=status)
        history.lingers = bool(history.linger)
        if history.lingers:
            self._lingers(topic.name, history.linger)

    def let_go(self, name: TopicName) -> None:
        """Let a topic that lingers close as soon as nobody is on it."""
        topic = self._topics.get(name)
        if topic and topic.history:
            topic.history.lingers = False
            self._after_fan_out(self._close_if_empty, topic)

    def _record(self, topic: Topic, history: History, chunk: Chunk) -> None:
        """Put a chunk into the ring, while it goes out to those who are not late."""
        if history.speakers and self.speaker:
            history.speakers.note(history.ring.end, self.speaker.user)
        for one in history.add(chunk.data):
            reader = cast("Member", one)
            if reader.on_slow is OnSlow.DROP:
                self._skip(reader, history)
            elif reader.on_slow is OnSlow.DISCONNECT:
                self._after_fan_out(self._cut_slow, reader)
            elif not reader.clogged:
                self._clog_late(reader, topic)

    def _clog_late(self, reader: Member, topic: Topic) -> None:
        reader.clogged = True
        reader.clogged_since = self._clock()
        topic.clog(reader)
        self._changed[topic] = None

    @staticmethod
    def _skip(reader: Member, history: History) -> None:
        if reader.lag is None:
            return
        skipped = min(history.ring.second, history.goal(reader)) - reader.lag.position
        reader.lag.position += skipped
        reader.dropped_bytes += skipped
        for publisher in reader.awaited_by:
            publisher.awaits[reader] -= skipped

    # -- catching up ------------------------------------------------------------------------------

    def _see_to(self, reader: Member) -> None:
        """Hand a laggard more, in its turn."""
        if reader.lag and not reader.lag.due:
            reader.lag.due = True
            self._due.append((self._catch_up, reader))

    def _catch_up(self, reader: Member) -> None:
        lag, topic = reader.lag, reader.topic
        if lag is None or topic is None or topic.history is None or not reader.joined:
            return
        lag.due = False
        nested, self._fanning_out = self._fanning_out, True
        try:
            self._hand_past(reader, topic.history)
        finally:
            self._fanning_out = nested
        if reader.joined and not reader.finishing and reader.sink:
            self._go_on(reader, topic, topic.history)
        self._settle()

    @staticmethod
    def _hand_past(reader: Member, history: History) -> None:
        sink, lag = reader.sink, reader.lag
        if sink is None or lag is None:
            return
        goal, most = history.goal(reader), lag.position + STEP_BYTES
        while lag.position < min(goal, most) and reader.joined and not sink.clogged:
            chunk = Chunk(history.ring.read(lag.position)[: goal - lag.position])
            lag.position += chunk.size
            reader.accepted_bytes += chunk.size
            reader.accepted_chunks += 1
            sink.write(chunk)

    def _go_on(self, reader: Member, topic: Topic, history: History) -> None:
        """Decide what follows a step: another one, life, or the end."""
        lag = reader.lag
        if lag is None or reader.sink is None:
            return
        history.trim()
        if reader.clogged and not history.holds(reader):
            reader.clogged = False
            reader.clogged_since = None
            topic.unclog(reader)
            self._changed[topic] = None
        if lag.position < history.goal(reader):
            if not reader.sink.clogged:
                self._see_to(reader)
        elif lag.stream.end is not None and not reader.stays:
            self._begin_to_finish(reader, topic)
        elif not reader.sink.clogged:  # the ring has patience with one that is
            self._go_live(reader, topic, history)

    def _go_live(self, reader: Member, topic: Topic, history: History) -> None:
        history.dismiss(reader)
        topic.stale = True
        self.update(reader)
        if reader.awaited_by and reader.sink and reader.joined and not reader.finishing:
            reader.sink.flush()
            self._check_marks(reader)
