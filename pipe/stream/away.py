"""Readers whose client is away: their place is kept, until another session goes on from there.

Such a reader is a laggard (`pipe.stream.late`) that takes nothing.  It stands at the first byte
that its client may not have, so the ring does not pass that byte: publishers are paused before (law
3).  It still counts as a reader, and a publisher that has ended waits for it (law 5).
"""

from __future__ import annotations

from itertools import dropwhile, islice
from typing import TYPE_CHECKING

from pipe.stream.history import ON_ITS_WAY_BYTES, Lag
from pipe.stream.late import LateReaders

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.errors import Outcome
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member


class Away:
    """The sink of a reader whose client is away.

    Args:
        waited_for: called when other readers begin and cease to wait for it.
    """

    clogged = True
    pending = 0

    def __init__(self, waited_for: Callable[[bool], None]) -> None:
        self._waited_for = waited_for

    def write(self, chunk: Chunk) -> None:
        """It is clogged: nothing comes."""

    def flush(self) -> None:
        """It never has everything."""

    def finish(self, outcome: Outcome, exit_status: int) -> None:
        """It never comes to the end."""

    def cut(self, outcome: Outcome) -> None:
        """Nobody is there to be cut off."""

    def waited_for(self, others: bool) -> None:
        """Pass it on."""
        self._waited_for(others)


class AwayReaders(LateReaders):
    """This part of the router."""

    def set_aside(self, reader: Member, waited_for: Callable[[bool], None]) -> bool:
        """Keep the place of a reader whose client is gone, and return whether that is so.

        Without a past, or without numbers for its bytes, nobody could go on from there.  If a
        reader of the same user has begun at a byte that this one may lack, it has gone on already.

        Args:
            reader: reads one topic by name, and asked neither to drop nor to be cut off.
            waited_for: called when other readers begin and cease to wait for it.
        """
        topic, sink = reader.topic, reader.sink
        history = topic.history if topic else None
        if topic is None or history is None or sink is None or not reader.joined:
            return False
        handed = reader.ending or reader.lag or Lag(history.ring.end, history.stream)
        stream = handed.stream
        if not stream.numbered or (reader.finishing and reader.ending is None):
            return False
        # A sink that could write no more may have taken much until its loss was noticed.
        written = handed.position - sink.pending
        lacks = max(stream.start, written - ON_ITS_WAY_BYTES)
        later = dropwhile(lambda one: one is not reader, topic.members)
        for other in islice(later, 1, None):
            begin = other.began if other.user == reader.user else None
            if begin is not None and lacks <= begin <= handed.position:
                other.began = None
                return False
        kept = min(max(history.ring.start, lacks), handed.position)
        self._make_room(reader, Lag(kept, stream, away=True), handed)
        reader.sink = Away(waited_for)
        self._changed[topic] = None
        self._settle()
        return True

    def _make_room(self, reader: Member, lag: Lag, handed: Lag) -> None:
        topic, sink = reader.topic, reader.sink
        if topic is None or topic.history is None or sink is None:
            return
        lost = sink.pending
        reader.accepted_bytes -= lost
        for publisher in reader.awaited_by:
            publisher.awaits[reader] += handed.position - lag.position - lost
        if reader.finishing:
            reader.finishing, reader.ending = False, None
            reader.topics[topic] = topic.readers[reader] = None
            topic.mortals[reader] = None
        else:
            topic.unclog(reader)
            topic.history.dismiss(reader)
        reader.clogged, reader.clogged_since = False, None
        reader.lag = lag
        topic.history.admit(reader)
        topic.stale = True
        if topic.history.holds(reader):
            self._clog_late(reader, topic)

    def hand_on(self, absent: Member, heir: Member) -> None:
        """Let a late reader that has just joined go on in place of one whose client is away.

        For publishers the two are one reader.  Call this within `at_once`, with the join.
        """
        topic, place, begin = absent.topic, absent.lag, heir.lag
        if topic is None or place is None or begin is None or heir.topic is not topic:
            return
        for publisher in list(absent.awaited_by):
            mark = publisher.awaits[absent] - absent.accepted_bytes
            mark += place.position - begin.position
            if mark > 0:
                publisher.awaits[heir] = mark
                heir.awaited_by[publisher] = None
            self._release(publisher, absent)
        heir.began = absent.began
        topic.arrivals -= 1
        self._remove(absent, topic)
        self.leave(absent)
