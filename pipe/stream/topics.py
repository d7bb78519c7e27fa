"""Topics and their members, as the router sees them.

A `Member` is a session: its ports, its wishes, its counters.  A `Topic` knows who reads, who
publishes and whose turn it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.stream.ports import Sink, Source


class Begun(NamedTuple):
    """How far the streams on a topic are: what a reader that joins now does not get.

    ``stream_bytes`` are those that each `pub` there has sent so far, ``pipe_bytes`` those of each
    `pipe` that still writes.  ``shut``: nobody may begin to read, as one that is in mid-stream
    wants its stream whole for everybody.
    """

    stream_bytes: int = 0
    pipe_bytes: int = 0
    shut: bool = False


class Hurry(NamedTuple):
    """Whether others wait for a topic's clogged sinks, and for which of them nobody does."""

    waits: bool = False
    spared: Member | None = None


NO_HURRY = Hurry()


class Legacy:
    """The exit status that the next publisher to end with one leaves to whoever reads by then.

    Each reader holds the one of the moment at which it came.  Once it has been filled the topic
    has a new one, so the first status after a reader came is found in one step.
    """

    __slots__ = ("status",)

    def __init__(self) -> None:
        self.status = 0


class Since(NamedTuple):
    """What a topic had counted when a reader came to it."""

    starts: int
    breaks: int
    legacy: Legacy | None


NOT_YET = Since(0, 0, None)


class Member:
    """One session as the router sees it: its ports, its wishes and its counters.

    Args:
        mode: what it does.
        source: the writing side, for a publisher or pipe.
        sink: the reading side, for a subscriber or pipe.
        wants: how many subscribers it waits for before it starts; 0: it never waits.
        whole: whether nobody may begin to read it in mid-stream.
        dispatch: how its chunks are dealt out.
        replay: whether its own chunks come back to it.
        keep_alive: whether it stays when the last publisher has ended.
        on_slow: what happens when it falls behind.
        exit_status: what its subscribers exit with when it ends.
    """

    __slots__ = (
        "accepted_bytes",
        "accepted_chunks",
        "awaited_by",
        "awaits",
        "broken",
        "clogged",
        "clogged_since",
        "confirmed",
        "dispatch",
        "dropped_bytes",
        "end_held",
        "ended",
        "exit_status",
        "finishing",
        "group",
        "inherited_status",
        "joined",
        "keep_alive",
        "left_early",
        "mode",
        "on_slow",
        "paused",
        "reached",
        "received_bytes",
        "received_chunks",
        "replay",
        "since",
        "sink",
        "source",
        "started",
        "topic",
        "topics",
        "waited_in",
        "waiting",
        "wants",
        "whole",
    )

    def __init__(
        self,
        mode: Mode,
        *,
        source: Source | None = None,
        sink: Sink | None = None,
        wants: int = 0,
        whole: bool = False,
        dispatch: Dispatch = Dispatch.MULTICAST,
        replay: bool = False,
        keep_alive: bool = False,
        on_slow: OnSlow = OnSlow.BLOCK,
        exit_status: int = 0,
    ) -> None:
        self.mode = mode
        self.source = source
        self.sink = sink
        self.wants = wants
        self.whole = whole
        self.dispatch = dispatch
        self.replay = replay
        self.keep_alive = keep_alive
        self.on_slow = on_slow
        self.exit_status = exit_status

        self.joined = False
        self.topic: Topic | None = None  # that it joined by name
        self.topics: dict[Topic, None] = {}  # where it reads now: as many as its pattern matches

        # As a publisher.
        self.started = False
        self.end_held = False  # its end of file came before it started
        self.ended = False
        self.paused = True  # a source starts paused
        self.group: dict[Member, None] | None = None  # of its topic, while it publishes
        self.waiting = 0
        self.reached = 0  # this and the next count from another zero until it has ended
        self.left_early = 0
        self.received_bytes = 0
        self.received_chunks = 0
        self.awaits: dict[Member, int] = {}  # after its end: reader -> bytes it must have written

        # As a reader.
        self.clogged = False
        self.clogged_since: float | None = None  # by the router's clock
        self.since = NOT_YET
        self.finishing = False
        self.confirmed = False  # its client has everything up to the end, and said so
        self.broken = False  # this and the next are known once it is finishing
        self.inherited_status = 0
        self.accepted_bytes = 0
        self.accepted_chunks = 0
        self.dropped_bytes = 0
        self.awaited_by: dict[Member, None] = {}
        self.waited_in: dict[Topic, None] = {}  # while clogged: where other sinks wait for it

    @property
    def written_bytes(self) -> int:
        """Bytes that its sink has written to the connection."""
        return self.accepted_bytes - (self.sink.pending if self.sink else 0)

    @property
    def stays(self) -> bool:
        """Whether it goes on when the topic's last publisher is gone."""
        return self.keep_alive or (self.source is not None and not self.ended)

    @property
    def outcome(self) -> Outcome:
        """How its reading ends, if it ends now."""
        if self.broken:
            return Outcome.BROKEN
        return Outcome.DROPPED if self.dropped_bytes else Outcome.DONE


class Topic:
    """One topic; the router alone changes it.

    Nothing here is a list to be searched when somebody comes or goes.  What happens to all readers
    or all publishers is counted, and whoever it concerns compares the counts with those that it
    found when it came.

    ``sinks`` is a tuple of the readers for a fan-out, which can go on while members come and go;
    where it is ``stale``, `refresh` makes it anew.  ``turn`` is the position in it of the one
    whose turn it is.

    A publisher is in one of three groups: ``waiting`` for readers, ``stopped`` by a clogged sink,
    or ``running``; one that has ended is in none.  ``blocking`` has those of the running ones that
    must stop when no reader is left.
    """

    __slots__ = (
        "arrivals",
        "attended",
        "blocking",
        "breaks",
        "clogged",
        "departures",
        "hurry",
        "legacy",
        "members",
        "mortals",
        "name",
        "publishers",
        "readers",
        "recount",
        "running",
        "sent_bytes",
        "sinks",
        "stale",
        "started",
        "starts",
        "stopped",
        "stream_bytes",
        "swept",
        "turn",
        "unsettled",
        "untold",
        "waiting",
        "wholes",
    )

    def __init__(self, name: TopicName) -> None:
        self.name = name
        self.members: dict[Member, None] = {}

        self.readers: dict[Member, None] = {}
        self.mortals: dict[Member, None] = {}  # readers that do not outlive the last publisher
        self.clogged: dict[Member, None] = {}  # readers for which publishers wait
        self.sinks: tuple[Member, ...] = ()
        self.stale = False
        self.turn = 0

        self.publishers: dict[Member, None] = {}
        self.waiting: dict[Member, None] = {}
        self.stopped: dict[Member, None] = {}
        self.running: dict[Member, None] = {}
        self.blocking: dict[Member, None] = {}
        self.wholes: dict[Member, None] = {}  # those that want their stream whole for everybody
        self.started = 0  # publishers that are there and have started
        self.sent_bytes = 0  # what those that are there have published
        self.stream_bytes = 0  # and of that, what is not of pipes

        # What has happened so far.
        self.arrivals = 0  # of readers
        self.departures = 0  # of readers, before their end
        self.starts = 0  # of publishers
        self.swept = 0  # how many of them there had been when the last publisher went
        self.breaks = 0  # publishers that went without an end of file
        self.legacy = Legacy()

        # What is to be done, one by one.
        self.attended = False  # whether it is due
        self.unsettled: dict[Member, None] = {}  # publishers to be looked at
        self.recount = False  # then all that wait: the number of readers has changed
        self.hurry = NO_HURRY
        self.untold: dict[Member, None] = {}  # clogged readers to be told of it

    @property
    def everybody(self) -> tuple[Member, ...]:
        """All that are on it by name or by a pattern."""
        return tuple(dict.fromkeys((*self.members, *self.readers)))

    # -- readers ----------------------------------------------------------------------------------

    def attach(self, reader: Member) -> None:
        """A reader comes."""
        self.readers[reader] = None
        self.stale = True
        self.arrivals += 1
        reader.since = Since(self.starts - (self.started > 0), self.breaks, self.legacy)
        if not reader.stays:
            self.mortals[reader] = None
        if reader.clogged:
            self.clog(reader)
        if self.waiting:
            self.recount = True

    def detach(self, reader: Member) -> None:
        """A reader is here no more; whose turn it is stays as it is."""
        del self.readers[reader]
        self.stale = True
        self.mortals.pop(reader, None)
        self.unclog(reader)
        if self.waiting or not self.readers:
            self.recount = True

    def clog(self, reader: Member) -> None:
        """Publishers have to wait for a reader."""
        self.clogged[reader] = self.untold[reader] = None

    def unclog(self, reader: Member) -> None:
        """They need to no more."""
        self.clogged.pop(reader, None)
        self.untold.pop(reader, None)
        self._waits_no_more(reader)

    def has_served(self, reader: Member) -> bool:
        """Whether a publisher, other than the reader itself, has started or run while it was here.

        For a reader that joined this topic by name.
        """
        return self.starts - reader.started > reader.since.starts

    def refresh(self) -> None:
        """Make ``sinks`` anew; those whose turn has been are still those before ``turn``."""
        if self.turn:
            self.turn = sum(reader in self.readers for reader in self.sinks[: self.turn])
        self.sinks = tuple(self.readers)
        self.stale = False

    # -- publishers -------------------------------------------------------------------------------

    @property
    def begun(self) -> Begun:
        """How far its streams are."""
        return Begun(self.stream_bytes, self.sent_bytes - self.stream_bytes, self.shut)

    @property
    def shut(self) -> bool:
        """Whether somebody is in mid-stream whose readers must all be there from its beginning."""
        return any(publisher.received_bytes for publisher in self.wholes)

    def add(self, publisher: Member) -> None:
        """A publisher comes."""
        self.publishers[publisher] = self.unsettled[publisher] = None
        self.move(publisher, self.waiting)
        if publisher.whole:
            self.wholes[publisher] = None

    def remove(self, publisher: Member) -> None:
        """A publisher's stream is over."""
        self.move(publisher, None)
        del self.publishers[publisher]
        self.wholes.pop(publisher, None)
        self.sent_bytes -= publisher.received_bytes
        if publisher.mode is Mode.PUBLISH:
            self.stream_bytes -= publisher.received_bytes

    def readers_of(self, publisher: Member) -> int:
        """How many read it, not counting the publisher itself."""
        return len(self.readers) - (publisher in self.readers)

    def missing(self, publisher: Member) -> int:
        """How many readers a publisher has to wait for; none if that is not above 0."""
        wants = min(publisher.wants, 1) if publisher.started else publisher.wants
        return wants - self.readers_of(publisher)

    def start(self, publisher: Member) -> None:
        """A publisher has its readers: it counts from here those that come and those that go."""
        publisher.started = True
        publisher.reached = self.readers_of(publisher) - self.arrivals
        publisher.left_early = -self.departures
        self.started += 1
        self.starts += 1

    def finish(self, publisher: Member) -> None:
        """A publisher that had started is gone, and has counted."""
        publisher.reached += self.arrivals
        publisher.left_early += self.departures
        self.started -= 1

    def move(self, publisher: Member, group: dict[Member, None] | None) -> None:
        """Put a publisher into another group, at its end, or into none."""
        if publisher.group is not None:
            publisher.group.pop(publisher, None)
        self.blocking.pop(publisher, None)
        publisher.group = group
        if group is not None:
            group[publisher] = None
            if group is self.running and publisher.wants:
                self.blocking[publisher] = None

    def must_stop(self, publisher: Member, *, held: bool) -> bool:
        """Whether a publisher may publish nothing; ``held``: nobody may."""
        own = publisher in self.clogged and not publisher.replay
        if held or len(self.clogged) > own or not publisher.started:
            return True
        return self.missing(publisher) > 0

    def stop_if_due(self, publisher: Member, *, held: bool) -> bool:
        """Stop a publisher if it must stop; whether it must."""
        due = self.must_stop(publisher, held=held)
        if due:
            self.stop(publisher)
        return due

    def stop(self, publisher: Member) -> None:
        """Have a publisher publish nothing, and put it with those that have its reason."""
        waits = not publisher.started or self.missing(publisher) > 0
        group = self.waiting if waits else self.stopped
        if publisher.group is not group:
            self.move(publisher, group)
        if publisher.source and not publisher.paused:
            publisher.paused = True
            publisher.source.pause()

    def let_go_on(self, publisher: Member) -> None:
        """Have a publisher go on; it may publish at once."""
        self.move(publisher, self.running)
        publisher.paused = False
        if publisher.source:
            publisher.source.resume()

    def next_unsettled(self) -> Member | None:
        """A publisher for which the number of readers may have changed something."""
        if not self.unsettled and self.recount:
            self.recount = False
            self.unsettled = self.waiting | ({} if self.readers else self.stopped)
        if not self.unsettled:
            return None
        publisher = next(iter(self.unsettled))
        del self.unsettled[publisher]
        return publisher

    def next_to_go_on(self, *, held: bool) -> Member | None:
        """A publisher that no clogged sink stops any more, the one stopped for longest first."""
        if self.stopped and not held:
            if not self.clogged:
                return next(iter(self.stopped))
            if len(self.clogged) == 1:
                reader = next(iter(self.clogged))
                if reader in self.stopped and not reader.replay:
                    return reader  # it is held up by itself alone
        return None

    # -- law 4 ------------------------------------------------------------------------------------

    def judge_hurry(self) -> Hurry:
        """Whether publishers are stopped for clogged sinks whose chunks a free sink would get."""
        free = len(self.readers) - len(self.clogged)
        if not self.clogged or not free or not self.stopped:
            return NO_HURRY
        held = None
        for publisher in self.stopped:
            deaf = publisher in self.readers and not publisher.clogged and not publisher.replay
            if free - deaf <= 0:
                continue
            if held or publisher.replay or publisher not in self.clogged:
                return Hurry(waits=True)
            held = publisher
        return Hurry(waits=held is not None, spared=held)

    def tell(self, reader: Member) -> None:
        """Tell a clogged reader whether others wait for it, if that is news."""
        if not self.hurry.waits or reader is self.hurry.spared:
            self._waits_no_more(reader)
        else:
            waited = bool(reader.waited_in)
            reader.waited_in[self] = None
            if not waited and reader.sink:
                reader.sink.waited_for(True)

    def _waits_no_more(self, reader: Member) -> None:
        if self in reader.waited_in:
            del reader.waited_in[self]
            if not reader.waited_in and reader.joined and reader.sink:
                reader.sink.waited_for(False)

    # -- turns ------------------------------------------------------------------------------------

    def take_turn(self, publisher: Member) -> Member | None:
        """The reader whose turn it is; the publisher itself is passed over unless it replays."""
        if self.stale:
            self.refresh()
        for _ in range(len(self.sinks)):
            self.turn %= len(self.sinks)
            reader = self.sinks[self.turn]
            self.turn += 1
            if reader.joined and (reader is not publisher or publisher.replay):
                return reader
        return None

    def turns(self, publisher: Member) -> list[Member]:
        """All readers that may get a publisher's chunks, in the order of their turns."""
        if self.stale:
            self.refresh()
        sinks = self.sinks[self.turn :] + self.sinks[: self.turn]
        return [one for one in sinks if one.joined and (one is not publisher or publisher.replay)]
