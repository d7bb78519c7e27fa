"""A topic while somebody is on it: who reads, who publishes, whose turn it is."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from pipe.stream.members import Mode

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.stream.members import Member


class Begun(NamedTuple):
    """How far the streams on a topic are: what a reader that joins now does not get.

    ``stream_bytes`` are those that each `pub` there has sent so far, ``pipe_bytes`` those of each
    `pipe` that still writes.  ``shut``: nobody may begin to read, as one that is in mid-stream
    wants its stream whole for everybody.
    """

    stream_bytes: int = 0
    pipe_bytes: int = 0
    shut: bool = False


class Topic:
    """One topic; the router alone changes it.

    ``sinks`` is a tuple, replaced and never changed, so that a fan-out can iterate while members
    come and go.  ``clogged`` holds those of them for which publishers wait, ``turn`` is the
    position of the one whose turn it is.
    """

    __slots__ = ("clogged", "members", "name", "publishers", "sinks", "turn")

    def __init__(self, name: TopicName) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self.publishers: dict[Member, None] = {}
        self.sinks: tuple[Member, ...] = ()
        self.clogged: dict[Member, None] = {}
        self.turn = 0

    @property
    def everybody(self) -> tuple[Member, ...]:
        """All that are on it by name or by a pattern."""
        return tuple(dict.fromkeys((*self.members, *self.sinks)))

    @property
    def begun(self) -> Begun:
        """How far its streams are."""
        sent = {Mode.PUBLISH: 0, Mode.PIPE: 0}
        for member in self.publishers:
            sent[member.mode] += member.received_bytes
        return Begun(sent[Mode.PUBLISH], sent[Mode.PIPE], self.shut)

    @property
    def shut(self) -> bool:
        """Whether somebody is in mid-stream whose readers must all be there from its beginning."""
        return any(member.whole and member.received_bytes for member in self.publishers)

    def readers_of(self, publisher: Member) -> int:
        """How many read it, not counting the publisher itself."""
        return len(self.sinks) - (self in publisher.topics)

    def holds_up(self, publisher: Member) -> bool:
        """Whether clogged sinks pause a publisher while a free one would get its chunks."""
        deaf = self in publisher.topics and not publisher.clogged and not publisher.replay
        free = len(self.sinks) - len(self.clogged) - deaf
        return publisher.started and publisher.paused and not publisher.waiting and free > 0

    def take_off(self, reader: Member) -> None:
        """A reader is here no more; whose turn it is stays as it is."""
        position = self.sinks.index(reader)
        self.sinks = self.sinks[:position] + self.sinks[position + 1 :]
        self.turn -= position < self.turn

    def take_turn(self, publisher: Member) -> Member | None:
        """The reader whose turn it is; the publisher itself is passed over unless it replays."""
        for _ in range(len(self.sinks)):
            self.turn %= len(self.sinks)
            reader = self.sinks[self.turn]
            self.turn += 1
            if reader.joined and (reader is not publisher or publisher.replay):
                return reader
        return None

    def turns(self, publisher: Member) -> list[Member]:
        """All readers that may get a publisher's chunks, in the order of their turns."""
        sinks = self.sinks[self.turn :] + self.sinks[: self.turn]
        return [one for one in sinks if one.joined and (one is not publisher or publisher.replay)]

    def statistics(self) -> TopicStatistics:
        """What is to be seen of it now."""
        modes = Counter(member.mode for member in self.everybody)
        return TopicStatistics(
            name=self.name,
            publishers=modes[Mode.PUBLISH],
            subscribers=modes[Mode.SUBSCRIBE],
            pipes=modes[Mode.PIPE],
            waiting=sum(member.waiting > 0 for member in self.publishers),
            clogged=len(self.clogged),
            clogged_since=min(
                (reader.clogged_since or 0.0 for reader in self.clogged), default=None
            ),
            received_bytes=sum(member.received_bytes for member in self.members),
            delivered_bytes=sum(member.written_bytes for member in self.members),
            begun=self.begun,
        )


@dataclass(frozen=True, slots=True)
class TopicStatistics:
    """One topic at this moment.

    Subscribers on a pattern are counted; byte counts are of the members that are on it now by name,
    as one on a pattern reads other topics too.  ``clogged_since`` is of the sink that has been
    clogged for longest, by the router's clock.
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
