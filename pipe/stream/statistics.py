"""What all members have moved, those that have left included."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipe.stream.members import Mode

if TYPE_CHECKING:
    from collections.abc import Collection

    from pipe.stream.members import Member


@dataclass(frozen=True, slots=True)
class Statistics:
    """All topics at this moment; counters are totals since the start, per mode.

    Bytes are delivered once they are written to a connection, chunks once a sink has taken them.
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


class Tally:
    """The counters of all members, of which those that have left are kept summed up."""

    def __init__(self) -> None:
        self._past: Counter[tuple[str, Mode]] = Counter()

    def keep(self, member: Member) -> None:
        """A member leaves; what it has moved stays counted."""
        _count(member, self._past)

    def statistics(self, topics: int, members: Collection[Member]) -> Statistics:
        """Sum up, with those who are there now; the cost grows with their number."""
        totals = Counter(self._past)
        for member in members:
            _count(member, totals)
        sessions = Counter(member.mode for member in members)
        return Statistics(
            topics=topics,
            sessions={mode: sessions[mode] for mode in Mode},
            waiting_publishers=sum(member.waiting > 0 for member in members),
            clogged_subscribers=sum(member.clogged for member in members),
            send_buffer_bytes=sum(member.sink.pending for member in members if member.sink),
            received_bytes={mode: totals["received_bytes", mode] for mode in Mode},
            delivered_bytes={mode: totals["delivered_bytes", mode] for mode in Mode},
            received_chunks=sum(totals["received_chunks", mode] for mode in Mode),
            delivered_chunks=sum(totals["delivered_chunks", mode] for mode in Mode),
            dropped_bytes=sum(totals["dropped_bytes", mode] for mode in Mode),
        )


def _count(member: Member, totals: Counter[tuple[str, Mode]]) -> None:
    totals["received_bytes", member.mode] += member.received_bytes
    totals["received_chunks", member.mode] += member.received_chunks
    totals["delivered_bytes", member.mode] += member.written_bytes
    totals["delivered_chunks", member.mode] += member.accepted_chunks
    totals["dropped_bytes", member.mode] += member.dropped_bytes
