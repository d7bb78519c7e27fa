"""Topics and their members, as the router sees them.

A `Member` is a session: its ports, options and counters.  A `Topic` knows who reads, who publishes
and whose turn it is.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from pipe.errors import Outcome
from pipe.language.requests import Dispatch, OnSlow
from pipe.stream.history import NOT_YET, Legacy, Since
from pipe.stream.ports import Mode

if TYPE_CHECKING:
    from pipe.language.names import TopicName
    from pipe.stream.history import History, Lag
    from pipe.stream.ports import Sink, Source, Watcher


class Begun(NamedTuple):
    """How far the streams on a topic are: what a reader that joins now misses.

    ``stream_bytes`` counts what every `pub` there has sent so far, ``pipe_bytes`` the same for each
    `pipe` that still writes.  ``shut`` means that nobody may begin to read: a publisher that wants
    its stream whole for everybody is in mid-stream.
    """

    stream_bytes: int = 0
    pipe_bytes: int = 0
    shut: bool = False


class Hurry(NamedTuple):
    """Whether others wait for a topic's clogged sinks, and the one sink nobody waits for."""

    waits: bool = False
    spared: Member | None = None


NO_HURRY = Hurry()


class Member:
    """One session as the router sees it: its ports, options and counters.

    Args:
        mode: what it does.
        source: the writing side, for a publisher or pipe.
        sink: the reading side, for a subscriber or pipe.
        wants: how many subscribers it waits for before it starts; with 0 it never waits.
        whole: whether readers must be there from the beginning of its stream.
        dispatch: how its chunks are dealt out.
        replay: whether its own chunks come back to it.
        keep_alive: whether it stays when the last publisher has ended.
        on_slow: what happens when it falls behind.
        exit_status: what its subscribers exit with when it ends.
        keep: how many of the topic's last bytes to keep for readers that come late.
        linger: seconds for which to keep them after the last publisher.
        at: how many bytes of its stream another member has published.
    """

    __slots__ = (
        "accepted_bytes",
        "accepted_chunks",
        "at",
        "awaited_by",
        "awaits",
        "began",
        "broken",
        "clogged",
        "clogged_since",
        "confirmed",
        "dispatch",
        "dropped_bytes",
        "end_held",
        "ended",
        "ending",
        "exit_status",
        "finishing",
        "group",
        "inherited_status",
        "internal",
        "joined",
        "keep",
        "keep_alive",
        "lag",
        "left_early",
        "linger",
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
        "user",
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
        keep: int = 0,
        linger: float = 0.0,
        at: int = 0,
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
        self.internal = False  # the server's own, and no session
        self.keep = keep
        self.linger = linger
        self.at = at
        self.user = ""  # whose it is, for people to read

        self.joined = False
        self.topic: Topic | None = None  # the one it joined by name
        self.topics: dict[Topic, None] = {}  # the ones it reads: all that its pattern matches

        # As a publisher.
        self.started = False
        self.end_held = False  # its end of file came before it started
        self.ended = False
        self.paused = True  # a source starts paused
        self.group: dict[Member, None] | None = None  # one of its topic's, while it publishes
        self.waiting = 0
        self.reached = 0  # until it has ended, this and left_early are offsets, not counts
        self.left_early = 0
        self.received_bytes = 0
        self.received_chunks = 0
        self.awaits: dict[Member, int] = {}  # after its end: reader -> bytes it has to write

        # As a reader.
        self.clogged = False
        self.clogged_since: float | None = None  # by the router's clock
        self.since = NOT_YET
        self.lag: Lag | None = None  # while it catches up
        self.began: int | None = None  # in the ring, if it goes on where another may have ended
        self.ending: Lag | None = None  # once it is finishing: the end of its stream
        self.finishing = False
        self.confirmed = False  # its client confirmed that it has everything
        self.broken = False  # this and inherited_status are known once it is finishing
        self.inherited_status = 0
        self.accepted_bytes = 0
        self.accepted_chunks = 0
        self.dropped_bytes = 0
        self.awaited_by: dict[Member, None] = {}
        self.waited_in: dict[Topic, None] = {}  # while clogged: topics whose other sinks wait

    @property
    def written_bytes(self) -> int:
        """Bytes that its sink has written to the connection."""
        return self.accepted_bytes - (self.sink.pending if self.sink else 0)

    @property
    def stays(self) -> bool:
        """Whether it stays when the topic's last publisher is gone."""
        return self.keep_alive or (self.source is not None and not self.ended)

    @property
    def outcome(self) -> Outcome:
        """The outcome if its reading ends now."""
        if self.broken:
            return Outcome.BROKEN
        return Outcome.DROPPED if self.dropped_bytes else Outcome.DONE


class Topic:
    """One topic.  Only the router changes it.

    Nothing here is searched when a member comes or goes.  The topic counts what happens to all
    readers or all publishers, and a member compares the counts with those it found on arrival.

    ``sinks`` is a tuple of the readers, so that a fan-out can go on while members come and go;
    `refresh` rebuilds it when it is ``stale``.  ``turn`` is an index into it: whose turn it is.

    A publisher is in one of three groups: ``waiting`` for readers, ``stopped`` by a clogged sink,
    or ``running``.  One that has ended is in none.  ``blocking`` holds the running ones that must
    stop when no reader is left.
    """

    __slots__ = (
        "arrivals",
        "attended",
        "blocking",
        "breaks",
        "clogged",
        "departures",
        "history",
        "hurry",
        "legacy",
        "members",
        "mortals",
        "name",
        "promised",
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
        "watchers",
        "wholes",
    )

    def __init__(self, name: TopicName) -> None:
        self.name = name
        self.members: dict[Member, None] = {}
        self.watchers: dict[Watcher, bool] | None = None  # the router's own, for this name
        self.history: History | None = None  # of late, if a publisher wants it kept
        self.promised = ""  # the identifier of its first stream that is kept, if it was told

        self.readers: dict[Member, None] = {}
        self.mortals: dict[Member, None] = {}  # readers that end with the last publisher
        self.clogged: dict[Member, None] = {}  # readers that publishers wait for
        self.sinks: tuple[Member, ...] = ()
        self.stale = False
        self.turn = 0

        self.publishers: dict[Member, None] = {}
        self.waiting: dict[Member, None] = {}
        self.stopped: dict[Member, None] = {}
        self.running: dict[Member, None] = {}
        self.blocking: dict[Member, None] = {}
        self.wholes: dict[Member, None] = {}  # those that want their stream whole for everybody
        self.started = 0  # how many of the publishers have started
        self.sent_bytes = 0  # what the publishers have published
        self.stream_bytes = 0  # the same without pipes

        # Counts since the topic was opened.
        self.arrivals = 0  # of readers
        self.departures = 0  # of readers, before their end
        self.starts = 0  # of publishers
        self.swept = 0  # the value of starts when the last publisher left
        self.breaks = 0  # publishers that left without an end of file
        self.legacy = Legacy()

        # Work for later, one member at a time.
        self.attended = False  # whether that work is scheduled
        self.unsettled: dict[Member, None] = {}  # publishers to look at
        self.recount = False  # look at all that wait: the number of readers has changed
        self.hurry = NO_HURRY
        self.untold: dict[Member, None] = {}  # clogged readers to tell about it

    @property
    def everybody(self) -> tuple[Member, ...]:
        """All members, whether they joined by name or by pattern."""
        return tuple(dict.fromkeys((*self.members, *self.readers)))

    # -- readers ----------------------------------------------------------------------------------

    def attach(self, reader: Member) -> None:
        """Add a reader."""
        self.readers[reader] = None
        self.stale = True
        self.arrivals += 1
        reader.since = self.since
        if reader.lag and self.history:
            reader.since = reader.lag.stream.since
            self.history.admit(reader)
        if not reader.stays:
            self.mortals[reader] = None
        if reader.clogged:
            self.clog(reader)
        if self.waiting:
            self.recount = True

    def detach(self, reader: Member) -> None:
        """Remove a reader; the turn stays where it is."""
        del self.readers[reader]
        self.stale = True
        if reader.lag and self.history:
            self.history.dismiss(reader)
        self.mortals.pop(reader, None)
        self.unclog(reader)
        if self.waiting or not self.listening:
            self.recount = True

    def clog(self, reader: Member) -> None:
        """Make publishers wait for a reader."""
        self.clogged[reader] = self.untold[reader] = None

    def unclog(self, reader: Member) -> None:
        """Make publishers wait for it no longer."""
        self.clogged.pop(reader, None)
        self.untold.pop(reader, None)
        self._waits_no_more(reader)

    def has_served(self, reader: Member) -> bool:
        """Whether a publisher other than the reader has started or run since the reader came.

        Only for a reader that joined this topic by name.
        """
        return self.starts - reader.started > reader.since.starts

    def refresh(self) -> None:
        """Rebuild ``sinks``; readers that have had their turn stay before ``turn``."""
        if self.turn:
            self.turn = sum(reader in self.readers for reader in self.sinks[: self.turn])
        self.sinks = tuple(self.readers)
        if self.history and self.history.laggards:
            self.sinks = tuple(reader for reader in self.readers if not reader.lag)
        self.stale = False

    # -- publishers -------------------------------------------------------------------------------

    @property
    def begun(self) -> Begun:
        """How far the streams are."""
        return Begun(self.stream_bytes, self.sent_bytes - self.stream_bytes, self.shut)

    @property
    def since(self) -> Since:
        """What it has counted, for a reader that comes now."""
        return Since(self.starts - (self.started > 0), self.breaks, self.legacy)

    @property
    def shut(self) -> bool:
        """Whether a publisher in mid-stream wants all its readers there from the beginning."""
        return any(publisher.received_bytes for publisher in self.wholes)

    def add(self, publisher: Member) -> None:
        """Add a publisher."""
        self.publishers[publisher] = self.unsettled[publisher] = None
        self.move(publisher, self.waiting)
        self.sent_bytes += publisher.at
        self.stream_bytes += publisher.at
        if publisher.whole:
            self.wholes[publisher] = None

    def remove(self, publisher: Member) -> None:
        """Remove a publisher whose stream is over."""
        self.move(publisher, None)
        del self.publishers[publisher]
        self.wholes.pop(publisher, None)
        self.sent_bytes -= publisher.at + publisher.received_bytes
        if publisher.mode is Mode.PUBLISH:
            self.stream_bytes -= publisher.at + publisher.received_bytes

    def readers_of(self, publisher: Member) -> int:
        """How many readers a publisher has, not counting itself."""
        return self.listening - (publisher in self.readers)

    @property
    def listening(self) -> int:
        """How many readers get what is published from now on."""
        return len(self.readers) - (self.history.spent if self.history else 0)

    def missing(self, publisher: Member) -> int:
        """How many more readers a publisher needs; none if 0 or less."""
        wants = min(publisher.wants, 1) if publisher.started else publisher.wants
        return wants - self.readers_of(publisher)

    def start(self, publisher: Member) -> None:
        """Start a publisher that has its readers, and count arrivals and departures from here."""
        publisher.started = True
        publisher.reached = self.readers_of(publisher) - self.arrivals
        publisher.left_early = -self.departures
        self.started += 1
        self.starts += 1

    def finish(self, publisher: Member) -> None:
        """Close the counts of a publisher that had started and is gone."""
        publisher.reached += self.arrivals
        publisher.left_early += self.departures
        self.started -= 1

    def move(self, publisher: Member, group: dict[Member, None] | None) -> None:
        """Move a publisher to the end of another group, or out of all groups."""
        if publisher.group is not None:
            publisher.group.pop(publisher, None)
        self.blocking.pop(publisher, None)
        publisher.group = group
        if group is not None:
            group[publisher] = None
            if group is self.running and publisher.wants:
                self.blocking[publisher] = None

    def must_stop(self, publisher: Member, *, held: bool) -> bool:
        """Whether a publisher must not publish; while ``held`` nobody may."""
        own = publisher in self.clogged and not publisher.replay
        if held or len(self.clogged) > own or not publisher.started:
            return True
        return self.missing(publisher) > 0

    def stop_if_due(self, publisher: Member, *, held: bool) -> bool:
        """Stop a publisher if it must stop, and return whether it must."""
        due = self.must_stop(publisher, held=held)
        if due:
            self.stop(publisher)
        return due

    def stop(self, publisher: Member) -> None:
        """Pause a publisher, and put it into the group for its reason."""
        waits = not publisher.started or self.missing(publisher) > 0
        group = self.waiting if waits else self.stopped
        if publisher.group is not group:
            self.move(publisher, group)
        if publisher.source and not publisher.paused:
            publisher.paused = True
            publisher.source.pause()

    def let_go_on(self, publisher: Member) -> None:
        """Resume a publisher; it may publish at once."""
        self.move(publisher, self.running)
        publisher.paused = False
        if publisher.source:
            publisher.source.resume()

    def next_unsettled(self) -> Member | None:
        """Take a publisher that may be affected by a new number of readers."""
        if not self.unsettled and self.recount:
            self.recount = False
            self.unsettled = self.waiting | ({} if self.listening else self.stopped)
        if not self.unsettled:
            return None
        publisher = next(iter(self.unsettled))
        del self.unsettled[publisher]
        return publisher

    def next_to_go_on(self, *, held: bool) -> Member | None:
        """A publisher that no clogged sink stops any longer, starting with the longest stopped."""
        if self.stopped and not held:
            if not self.clogged:
                return next(iter(self.stopped))
            if len(self.clogged) == 1:
                reader = next(iter(self.clogged))
                if reader in self.stopped and not reader.replay:
                    return reader  # it held up only itself
        return None

    # -- law 4 ------------------------------------------------------------------------------------

    def judge_hurry(self) -> Hurry:
        """Whether clogged sinks stop publishers whose chunks a free sink would get."""
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
        """Tell a clogged reader whether others wait for it, if that has changed."""
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
        """Take the next reader in turn, skipping the publisher itself unless it replays."""
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
        """All readers that may get a publisher's chunks, in turn order."""
        if self.stale:
            self.refresh()
        sinks = self.sinks[self.turn :] + self.sinks[: self.turn]
        return [one for one in sinks if one.joined and (one is not publisher or publisher.replay)]
