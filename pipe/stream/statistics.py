"""Figures of one topic as it is now, and of all members, including those that have left."""

from __future__ import annotations

from collections import Counter
from copy import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipe.language.names import TopicName
    from pipe.stream.history import Kept
    from pipe.stream.topics import Begun, Member, Topic


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """One topic at this moment.

    ``subscribers`` includes those on a pattern.  Byte counts cover only the members that joined by
    name, as one on a pattern reads other topics too.  ``clogged_since`` is that of the sink clogged
    for longest, by the router's clock.  ``kept`` is what late
    readers can have, if anything is kept.
    """

    name: TopicName
    publishers: int
    subscribers: int
    pipes: int
    waiting: int
    clogged: int
    clogged_since: float | None
    received_bytes: int
    delivered_bytes: int
    begun: Begun
    kept: Kept | None


def statistics_of(topic: Topic) -> TopicStatistics:
    """Take the figures of a topic now."""
    modes = Counter(member.mode for member in topic.everybody)
    return TopicStatistics(
        name=topic.name,
        publishers=modes[Mode.PUBLISH],
        subscribers=modes[Mode.SUBSCRIBE],
        pipes=modes[Mode.PIPE],
        waiting=sum(member.waiting > 0 for member in topic.waiting),
        clogged=len(topic.clogged),
        clogged_since=min((reader.clogged_since or 0.0 for reader in topic.clogged), default=None),
        received_bytes=sum(member.received_bytes for member in topic.members),
        delivered_bytes=sum(member.written_bytes for member in topic.members),
        begun=topic.begun,
        kept=topic.history.kept if topic.history else None,
    )


@dataclass(frozen=True, slots=True)
class Statistics:
    """All topics at this moment; counters are totals since the start, by mode.

    Bytes count as delivered once written to a connection, chunks once a sink has taken them.
    """

    topics: int
    sessions: dict[Mode, int]
    waiting_publishers: int
    clogged_subscribers: int
    send_buffer_bytes: int
    received_bytes: dict[Mode, int]
    delivered_bytes: dict[Mode, int]
    received_chunks: int
    delivered_chunks: int
    dropped_bytes: int


class Totals:
    """What the members of one mode have moved."""

    __slots__ = (
        "delivered_bytes",
        "delivered_chunks",
        "dropped_bytes",
        "received_bytes",
        "received_chunks",
    )

    def __init__(self) -> None:
        self.received_bytes = 0
        self.received_chunks = 0
        self.delivered_bytes = 0
        self.delivered_chunks = 0
        self.dropped_bytes = 0

    def add(self, member: Member, pending: int) -> None:
        """Add a member's figures; ``pending`` of its bytes are not written yet."""
        self.received_bytes += member.received_bytes
        self.received_chunks += member.received_chunks
        self.delivered_bytes += member.accepted_bytes - pending
        self.delivered_chunks += member.accepted_chunks
        self.dropped_bytes += member.dropped_bytes


class Tally:
    """The counters of all members; those that have left are kept as sums."""

    def __init__(self) -> None:
        self._past = {mode: Totals() for mode in Mode}

    def keep(self, member: Member) -> None:
        """Keep counting what a member has moved after it leaves."""
        self._past[member.mode].add(member, member.sink.pending if member.sink else 0)

    def statistics(self, topics: int, members: Collection[Member]) -> Statistics:
        """Sum up, including the members there now; the cost grows with their number."""
        totals: dict[Mode, Totals] = {}
        sessions: dict[Mode, int] = {}
        unwritten = 0
        for mode, past in self._past.items():
            total = totals[mode] = copy(past)
            of_mode = [member for member in members if member.mode is mode]
            sessions[mode] = sum(not member.internal for member in of_mode)
            for member in of_mode:
                pending = member.sink.pending if member.sink else 0
                unwritten += pending
                total.add(member, pending)
        return Statistics(
            topics=topics,
            sessions=sessions,
            waiting_publishers=sum(member.waiting > 0 for member in members),
            clogged_subscribers=sum(member.clogged for member in members),
            send_buffer_bytes=unwritten,
            received_bytes={mode: total.received_bytes for mode, total in totals.items()},
            delivered_bytes={mode: total.delivered_bytes for mode, total in totals.items()},
            received_chunks=sum(total.received_chunks for total in totals.values()),
            delivered_chunks=sum(total.delivered_chunks for total in totals.values()),
            dropped_bytes=sum(total.dropped_bytes for total in totals.values()),
        )
