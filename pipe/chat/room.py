"""A room: who talks on a topic, and what is heard there.

Whoever has a `chat` on the topic is a `Person` in its room, and is shown to the others; who reads
and writes by other means is not, until they say something.  The room hears each chunk once,
whoever hands it in first, and tells all its people the same events.

A user says so many lines as `BURST_LINES` and `RATE_LINES` allow, in all sessions together.  Those
in a chat are made to wait (`Room.delay`).  What others publish cannot be slowed for a chat's sake,
so what is too much is left out and counted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from pipe.chat.events import Event, Kind, note
from pipe.chat.wire import Lines, read_line

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.stream.chunks import Chunk
    from pipe.stream.topics import Member

RATE_LINES = 5.0
"""Lines a second that a user says for long: more than anybody reads."""

BURST_LINES = 40.0
"""Lines that a user says at once: twice the most that can be pasted."""

MAX_ANNOUNCED = 50
"""People in a room above which nobody is told who comes and goes: that grows with their square."""

MAX_SPEAKERS = 64
"""Users that are counted above which those who have been quiet are forgotten."""


class Person(Protocol):
    """Somebody in a room."""

    @property
    def user(self) -> str:
        """Whose account it is."""

    @property
    def name(self) -> str:
        """How the person is shown."""

    def tell(self, event: Event) -> None:
        """Take an event; this must be quick, and must not raise."""


class Allowance:
    """What one user may say.

    Args:
        now: seconds on any steady clock, as in all its calls.
    """

    __slots__ = ("_at", "_lines", "missed")

    def __init__(self, now: float) -> None:
        self._at = now
        self._lines = BURST_LINES
        self.missed = 0  # lines since it was used up, if that is so

    def _refill(self, now: float) -> None:
        self._lines = min(BURST_LINES, self._lines + max(0.0, now - self._at) * RATE_LINES)
        self._at = now

    def delay(self, lines: int, now: float) -> float:
        """Take so many lines, or return after how many seconds they may be said."""
        self._refill(now)
        wanted = min(float(lines), BURST_LINES)
        if self._lines >= wanted:
            self._lines -= wanted
            return 0.0
        return (wanted - self._lines) / RATE_LINES

    def hears(self, now: float) -> bool:
        """Take a line, or count it as missed; once that has begun it goes on for a while."""
        self._refill(now)
        if self._lines < (BURST_LINES / 2 if self.missed else 1.0):
            self.missed += 1
            return False
        self._lines -= 1.0
        return True

    def is_full(self, now: float) -> bool:
        """Whether nothing is known of the user that a new allowance would not say."""
        self._refill(now)
        return self._lines >= BURST_LINES and not self.missed


class Room:
    """One of them.

    Args:
        clock: seconds, steady.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._people: dict[Person, None] = {}
        self._sources: dict[Member, None] = {}  # the people's own
        self._lines = Lines()
        self._allowances: dict[str, Allowance] = {}
        self._chunk: Chunk | None = None
        self._events: tuple[Event, ...] = ()  # what was heard in it

    # -- who is there -----------------------------------------------------------------------------

    @property
    def people(self) -> tuple[Person, ...]:
        """Everybody, in the order in which they came."""
        return tuple(self._people)

    def enter(self, person: Person, member: Member) -> None:
        """Let somebody in, and tell the others."""
        self._announce(Event(Kind.CAME, person.user, person.name))
        self._people[person] = None
        self._sources[member] = None

    def leave(self, person: Person, member: Member) -> None:
        """Let somebody out, and tell the others; do nothing if they are not in."""
        if person in self._people:
            del self._people[person], self._sources[member]
            self._announce(Event(Kind.LEFT, person.user, person.name))

    def rename(self, person: Person, old: str) -> None:
        """Tell everybody of somebody's new name."""
        self._announce(Event(Kind.RENAMED, person.user, old, person.name))

    def _announce(self, event: Event) -> None:
        """Tell all of an event, unless there are too many or the user has said enough."""
        if len(self._people) <= MAX_ANNOUNCED and not self.delay(event.user, 1):
            for person in list(self._people):
                person.tell(event)

    @property
    def counted(self) -> int:
        """How many users it counts the lines of."""
        return len(self._allowances)

    # -- what is said -----------------------------------------------------------------------------

    def delay(self, user: str, lines: int) -> float:
        """Let a user say so many lines, or return after how many seconds to ask again."""
        return self._allowance(user).delay(lines, self._clock())

    def _allowance(self, user: str) -> Allowance:
        found = self._allowances.get(user)
        if found is None:
            now = self._clock()
            if len(self._allowances) >= MAX_SPEAKERS:
                self._allowances = {
                    name: one for name, one in self._allowances.items() if not one.is_full(now)
                }
            found = self._allowances[user] = Allowance(now)
        return found

    def hear(self, chunk: Chunk, member: Member | None) -> tuple[Event, ...]:
        """Return what is said in a chunk that a member has published.

        Each person's sink hands in the same chunk, one after the other.
        """
        if chunk is not self._chunk:
            self._chunk = chunk
            self._events = self._read(bytes(chunk.data), member) if member else ()
        return self._events

    def _read(self, data: bytes, member: Member) -> tuple[Event, ...]:
        events = []
        user, paid = member.user, member in self._sources
        lines, more = self._lines.feed(member, data)
        for line in lines:
            if not paid:
                allowance = self._allowance(user)
                missed = allowance.missed
                if not allowance.hears(self._clock()):
                    if not missed:
                        whose = user or "the server"
                        events.append(note(f"{whose} sends too much: lines are left out"))
                    continue
                if missed:
                    allowance.missed = 0
                    events.append(note(f"{missed} lines of {user or 'the server'} were left out"))
            events.append(read_line(user, line))
        if more:
            self._allowance(user).missed += more
        self._lines.prune(member)
        return tuple(events)


class Rooms:
    """All rooms of one server: there is one where somebody is in it.

    Args:
        clock: seconds, steady.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._rooms: dict[TopicName, Room] = {}

    def __len__(self) -> int:
        return len(self._rooms)

    def enter(self, name: TopicName, person: Person, member: Member) -> Room:
        """Let somebody into a topic's room."""
        room = self._rooms.get(name)
        if room is None:
            room = self._rooms[name] = Room(self._clock)
        room.enter(person, member)
        return room

    def leave(self, name: TopicName, person: Person, member: Member) -> None:
        """Let somebody out; calling this again does nothing."""
        room = self._rooms.get(name)
        if room:
            room.leave(person, member)
            if not room.people:
                del self._rooms[name]
