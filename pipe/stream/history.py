"""What a topic keeps of its past: its last bytes, and how they are numbered.

A *stream* is what a topic carries from its first publisher to its last.  Its bytes are numbered
from 0, and it has an identifier, so that nobody goes on with another stream of the same name.
"""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, NamedTuple, Protocol

from pipe.language.requests import OnSlow
from pipe.language.wording import amount
from pipe.stream.ring import Ring
from pipe.stream.speakers import Speakers

if TYPE_CHECKING:
    from collections.abc import Iterable

ON_ITS_WAY_BYTES = 4 * 1024 * 1024
"""What a reader may have been handed and its client not have: the window of OpenSSH's client is
2 MiB, and `buffer` is 1 MiB.  The ring does not let go of so much before a laggard, nor of half its
bound, so that one whose connection is lost finds there what it did not get."""

ID_BYTES = 6
"""Of an identifier: two streams of a name share one with a probability of 1 in 2**48."""


def new_id() -> str:
    """Make an identifier for a stream."""
    return secrets.token_hex(ID_BYTES)


class Legacy:
    """The exit status that the next publisher to end with one leaves to its readers.

    Each reader keeps the one that was current when it came.  Once it is filled the topic makes a
    new one, so a reader finds the first status after its arrival in one step.
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


class Stream:
    """One stream: where it begins and ends in the ring, and how it ended.

    ``numbered`` says whether each reader that was there from its beginning has seen just the bytes
    that the ring counts.  ``broken`` and ``status`` are known with its ``end``.
    """

    __slots__ = ("broken", "end", "name", "numbered", "since", "start", "status")

    def __init__(self, start: int, since: Since, *, numbered: bool, name: str = "") -> None:
        self.name = name or new_id()
        self.start = start
        self.since = since
        self.numbered = numbered
        self.end: int | None = None  # in the ring, once its last publisher is gone
        self.broken = False
        self.status = 0


class Lag:
    """Where a reader is that has yet to catch up with its topic.

    Args:
        position: in the ring, of the byte that it gets next.
        stream: what it reads; a reader that does not stay ends with it.
        away: whether its client is, so that nothing before that byte is on its way.
    """

    __slots__ = ("away", "due", "position", "stream")

    def __init__(self, position: int, stream: Stream, *, away: bool = False) -> None:
        self.position = position
        self.stream = stream
        self.away = away
        self.due = False  # whether the router is about to see to it


class Reader(Protocol):
    """A member, as far as it matters here."""

    lag: Lag | None
    on_slow: OnSlow

    @property
    def stays(self) -> bool:
        """Whether it goes on when a stream is over."""


class Kept(NamedTuple):
    """What can be had of a stream now: bytes from ``first`` up to, not including, ``end``."""

    stream: str
    first: int
    end: int
    numbered: bool
    over: bool


def describe(kept: Kept) -> str:
    """Say what is kept of a stream."""
    if kept.first == kept.end:
        return f"stream {kept.stream} has sent {amount(kept.end)}, and none of them are kept"
    over = ", and is over" if kept.over else ""
    return f"stream {kept.stream} has bytes {kept.first} to {kept.end}{over}"


class History:
    """The past of one topic.  Only the router changes it.

    Args:
        bound: how many bytes it keeps.
        since: what the topic has counted so far.
        numbered: whether the stream that begins with it has had no bytes before.
        name: the identifier of that stream, if it was told to somebody.
    """

    def __init__(self, bound: int, since: Since, *, numbered: bool, name: str = "") -> None:
        self.ring = Ring(bound)
        self.stream = Stream(0, since, numbered=numbered, name=name)
        self.laggards: dict[Reader, None] = {}
        self.spent = 0  # laggards whose stream is over: they read nothing that comes
        self.linger = 0.0  # seconds after the last publisher
        self.lingers = False  # the topic stays although nobody may be there
        self.speakers: Speakers | None = None  # nobody has asked who they are
        self._before: Stream | None = None
        self._floor: int | None = None  # no laggard is before this position

    # -- the stream -------------------------------------------------------------------------------

    def begin(self, since: Since) -> None:
        """A publisher has come: begin a new stream, unless one is under way."""
        if self.stream.end is not None:
            self._before = self.stream
            self.stream = Stream(self.ring.end, since, numbered=True)

    def take_back(self) -> None:
        """All publishers have gone before one had started: the stream before is the last again."""
        if self._before and self.stream.end is None:
            self.stream, self._before = self._before, None

    def end(self, *, broken: bool, status: int) -> None:
        """The last publisher has gone."""
        stream, self._before = self.stream, None
        stream.end, stream.broken, stream.status = self.ring.end, broken, status
        self.spent = sum(map(self.is_spent, self.laggards))

    @staticmethod
    def is_spent(reader: Reader) -> bool:
        """Whether a reader has yet to read the rest of a stream that is over, and nothing else."""
        return reader.lag is not None and reader.lag.stream.end is not None and not reader.stays

    def attribute(self) -> Speakers:
        """Note from now on who publishes, and return who has."""
        self.speakers = self.speakers or Speakers()
        return self.speakers

    @property
    def kept(self) -> Kept:
        """What can be had of the stream."""
        return self.kept_of(self.stream)

    def kept_of(self, stream: Stream) -> Kept:
        """What can be had of one stream: the last one, or one before that a reader is held on."""
        ring = self.ring
        end = ring.end if stream.end is None else stream.end
        first = max(ring.start, stream.start)
        return Kept(
            stream.name,
            first - stream.start,
            end - stream.start,
            stream.numbered,
            stream.end is not None,
        )

    # -- its bytes --------------------------------------------------------------------------------

    def add(self, data: bytes | memoryview) -> Iterable[Reader]:
        """Add what is published now, and return the laggards that it must not pass."""
        ring = self.ring
        ring.append(data)
        if ring.overfull:
            self.trim()
            if ring.overfull:
                return self.last
        return ()

    def _needed(self, reader: Reader) -> int:
        """From where on the ring must keep what a laggard or its client may lack."""
        position = reader.lag.position if reader.lag else self.ring.end
        if reader.on_slow is not OnSlow.BLOCK or (reader.lag and reader.lag.away):
            return position
        return position - min(ON_ITS_WAY_BYTES, self.ring.bound // 2)

    @property
    def last(self) -> list[Reader]:
        """The laggards that the ring would pass if it dropped what it could."""
        return [reader for reader in self.laggards if self.holds(reader)]

    def holds(self, reader: Reader) -> bool:
        """Whether the ring cannot go on because of this laggard."""
        ring = self.ring
        return ring.overfull and reader.lag is not None and self._needed(reader) < ring.second

    def trim(self) -> None:
        """Drop what need not be kept and nobody has yet to read."""
        ring = self.ring
        ring.trim(self._floor)
        if ring.overfull and self.laggards:
            self._floor = min(map(self._needed, self.laggards))
            ring.trim(self._floor)

    # -- readers that come late -------------------------------------------------------------------

    def admit(self, reader: Reader) -> None:
        """Keep what a reader has yet to read."""
        if reader.lag:
            self.laggards[reader] = None
            self.spent += self.is_spent(reader)
            needed = self._needed(reader)
            self._floor = needed if self._floor is None else min(self._floor, needed)

    def dismiss(self, reader: Reader) -> None:
        """Keep nothing for it any longer."""
        if reader in self.laggards:
            del self.laggards[reader]
            self.spent -= self.is_spent(reader)
        reader.lag = None
        if not self.laggards:
            self._floor = None

    def goal(self, reader: Reader) -> int:
        """Up to where a laggard reads before it is live, or over."""
        end = reader.lag.stream.end if reader.lag else None
        return self.ring.end if end is None or reader.stays else end

    def end_for(self, reader: Reader) -> Lag:
        """The end of the stream that a reader has read to its end."""
        stream = reader.lag.stream if reader.lag else self.stream
        return Lag(self.ring.end if stream.end is None else stream.end, stream)

    def behind(self, reader: Reader) -> int:
        """How many bytes a reader has yet to be handed."""
        return self.goal(reader) - reader.lag.position if reader.lag else 0
