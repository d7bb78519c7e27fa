"""The log drain: every line goes to the followers of its user and to admins, and to nobody else.

Lines come from the topic that the setting ``log-drain`` names, whose writers are trusted to say
whose a line is, and from this server itself.  A line's bytes wait in a backlog, since they come
from inside the router's fan-out, and are read in the turns that all share.  Nothing here holds up
a publisher: what finds the backlog full is dropped and counted.
"""

from __future__ import annotations

import asyncio
import enum
import time
from collections import Counter, deque
from typing import TYPE_CHECKING

from pipe.events.logs.followers import Follower
from pipe.events.logs.lines import (
    MAX_LINE_BYTES,
    Cutter,
    Kind,
    kind_of,
    own_line,
    read_line,
)
from pipe.events.logs.rings import Ring, Rings
from pipe.language.names import MAX_USER_LENGTH
from pipe.stream.chunks import CHUNK_COST

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from pipe.events.logs.filters import Filter
    from pipe.events.logs.forwarding import OwnLines
    from pipe.events.logs.lines import Fields
    from pipe.stream.chunks import Chunk

MAX_BACKLOG_BYTES = 8 << 20
"""Lines that wait to be read: four of the largest batches that `pipe.events.logs.batches` takes."""

PIECE_BYTES = 16 * 1024
"""How much is cut into lines at a time: it may be nothing but newlines."""

STEP_SECONDS = 0.0005
"""How long lines are read before others have their turn; one line takes 2 ms at most.

What is left of a turn goes to lines as well, so that a flood of them slows down its own publishers,
who share the turns: a smaller part each turn would let the backlog fill, and lose lines.
"""

FLUSH_SECONDS = 0.025
"""Followers are told of new lines no more often, unless many wait: a hundred lines in one write
cost little more than one, and nobody reads faster."""

WARN_SECONDS = 60.0
"""How often a user is told of what strangers do: they could otherwise push out all other lines."""

MAX_SHOWN = 4096
"""Bytes that admins are shown of a line that cannot be read."""

OWN, DROPPED, MISSED = "own", "dropped", "missed"
"""Results besides those of `Kind`: a line of the server's own, one that found the backlog full, and
one that a follower was too slow for."""

RESULTS = (*(kind.value for kind in Kind), OWN, DROPPED, MISSED)

_PLAINTS = {Kind.NOT_JSON: "not a JSON object", Kind.TOO_LONG: "line too long"}


class _Mark(enum.Enum):
    """What stands in the backlog between pieces of the stream."""

    END = enum.auto()
    """The last publisher has gone: what is left is a line."""
    TEAR = enum.auto()
    """Something was dropped here."""


class LogDrain:
    """All log lines of one server.

    Args:
        later: takes a step, repeatedly while it returns True, now or in later turns.
        clock: seconds since 1970.
    """

    def __init__(
        self,
        later: Callable[[Callable[[], bool | None]], None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._later = later
        self._clock = clock
        self._cutter = Cutter()
        self._backlog: deque[memoryview | _Mark] = deque()
        self._backlog_bytes = 0
        self._lines: deque[bytes] = deque()  # cut, to be read
        self._works = False
        self._dropped = 0  # lines that found the backlog full, and admins do not know of yet
        self._rings = Rings()
        self._everything = Ring()
        self._followers: dict[str, dict[Follower, None]] = {}
        self._due: deque[Follower] = deque()
        self._timer: asyncio.TimerHandle | None = None
        self._flushed_at = 0.0
        self.counts = Counter(dict.fromkeys(RESULTS, 0))

    # -- lines come -------------------------------------------------------------------------------

    @property
    def clogged(self) -> bool:
        """Whether it would drop what comes now."""
        return self._backlog_bytes >= MAX_BACKLOG_BYTES

    def take(self, chunk: Chunk) -> None:
        """Take some bytes of the drain's topic; quick, as it is called from inside a fan-out."""
        if self.clogged:
            self._dropped += bytes(chunk.data).count(b"\n")
            if self._backlog[-1] is not _Mark.TEAR:
                self._backlog.append(_Mark.TEAR)
            return
        self._backlog.append(memoryview(chunk.data))
        self._backlog_bytes += chunk.size + CHUNK_COST
        self._work_soon()

    def ended(self, status: int, broken: bool) -> None:  # noqa: ARG002
        """The topic's last publisher has gone."""
        if not (self._backlog and isinstance(self._backlog[-1], _Mark)):
            self._backlog.append(_Mark.END)
            self._work_soon()

    def tell(
        self,
        user: str,
        level: str,
        text: str,
        fields: Mapping[str, object],
        when: float | None = None,
    ) -> None:
        """Take a line of this server's own about a user.

        Args:
            user: whose it is.
            level: ``DEBUG``, ``INFO``, ``WARN`` or ``ERROR``.
            text: what has happened, in the words of the log.
            fields: the rest; values that JSON does not have are written as text.
            when: that was, in seconds since 1970; now, if it is not given.
        """
        now = self._clock()
        values: Fields = {"user": user, **fields}
        self.counts[OWN] += 1
        line = own_line(now if when is None else when, level, text, values)
        self._hand_out(line, {"level": level, "service": "pipe", **values}, Kind.USER, now)

    def take_own(self, lines: OwnLines) -> None:
        """Take such lines from another worker of the service."""
        for one in lines.lines:
            if one.by_stranger:
                self.warn(one.user, one.text, one.fields)
            else:
                self.tell(one.user, one.level, one.text, one.fields, one.time)
        if lines.dropped:
            self._tell_dropped("lines of another worker dropped", lines.dropped, self._clock())

    def warn(self, user: str, text: str, fields: Mapping[str, object]) -> None:
        """Take a line of this server's own about what somebody did in a user's name.

        Whoever did it has not proved to be that user.  So nothing is kept of names that have no
        lines yet, and of others one line per `WARN_SECONDS`, which counts those before it.
        """
        ring = self._rings.peek(user)
        if ring is None:
            return
        now = self._clock()
        if now - ring.warned_at < WARN_SECONDS:
            ring.unsaid += 1
            return
        more = {"more_before": ring.unsaid} if ring.unsaid else {}
        ring.warned_at, ring.unsaid = now, 0
        self.tell(user, "WARN", text, {**fields, **more})

    def forget(self, user: str) -> None:
        """Drop the lines of a user who is no more."""
        self._rings.forget(user)

    def _work_soon(self) -> None:
        if not self._works:
            self._works = True
            # Not at once: a topic's other readers are still to get the chunk.
            asyncio.get_running_loop().call_soon(self._later, self._work)

    def _work(self) -> bool:
        """Read some lines, and return whether there are more."""
        now, deadline = self._clock(), time.monotonic() + STEP_SECONDS
        self._works = False
        while self._lines or self._backlog:
            if self._lines:
                self._read(self._lines.popleft(), now)
            else:
                self._cut(now)
            if time.monotonic() > deadline:
                self._works = True
                return True
        return False

    def _cut(self, now: float) -> None:
        """Cut some of what waits into lines."""
        first = self._backlog.popleft()
        if first is _Mark.TEAR:
            self._cutter.tear()
            count, self._dropped = self._dropped, 0
            self._tell_dropped("log drain is full: lines dropped", count, now)
        elif isinstance(first, _Mark):
            self._lines.extend(self._cutter.end())
        else:
            piece = first
            if len(first) > PIECE_BYTES:
                piece = first[:PIECE_BYTES]
                self._backlog.appendleft(first[PIECE_BYTES:])
            else:
                self._backlog_bytes -= CHUNK_COST
            self._backlog_bytes -= len(piece)
            self._lines.extend(self._cutter.feed(piece))

    def _tell_dropped(self, text: str, count: int, now: float) -> None:
        self.counts[DROPPED] += count
        fields: Fields = {"count": count}
        self._hand_out(own_line(now, "WARN", text, fields), fields, Kind.NOBODY, now)

    def _read(self, raw: bytes, now: float) -> None:
        raw = raw.strip()
        if not raw:
            return
        too_long = len(raw) > MAX_LINE_BYTES
        found = None if too_long else read_line(raw)
        if found:
            line, fields = found
            kind = kind_of(fields)
        else:
            kind = Kind.TOO_LONG if too_long else Kind.NOT_JSON
            fields = {"line": raw[:MAX_SHOWN].decode("utf-8", "replace")}
            line = own_line(now, "WARN", _PLAINTS[kind], fields)
        self.counts[kind.value] += 1
        self._hand_out(line, fields, kind, now)

    # -- lines go ---------------------------------------------------------------------------------

    def _hand_out(self, line: bytes, fields: Fields, kind: Kind, now: float) -> None:
        """Give a line to all who may see it."""
        self._everything.append(now, line)
        if kind is Kind.USER or kind is Kind.HIDDEN:
            user = fields["user"]
            if kind is Kind.USER and len(user) <= MAX_USER_LENGTH:
                self._rings.append(user, now, line)
            for follower in self._followers.get(user, ()):
                if kind is Kind.USER or follower.sees_hidden:
                    self._offer(follower, line, fields)
        for follower in self._followers.get("", ()):
            self._offer(follower, line, fields)

    def _offer(self, follower: Follower, line: bytes, fields: Fields) -> None:
        if not follower.admits(line, fields):
            return
        if not follower.offer(line):
            self.counts[MISSED] += 1
        elif not follower.due:
            follower.due = True
            self._due.append(follower)
            if self._timer is None:
                loop = asyncio.get_running_loop()
                when = max(loop.time(), self._flushed_at + FLUSH_SECONDS)
                self._timer = loop.call_at(when, self._flush)
        elif self._timer and follower.crowded:
            self._timer.cancel()
            self._flush()

    def _flush(self) -> None:
        """Tell all who have something to take, one in a step."""
        self._timer = None
        self._flushed_at = asyncio.get_running_loop().time()
        self._later(self._wake_one)

    def _wake_one(self) -> bool:
        if self._due:
            self._due.popleft().wake()
        return bool(self._due)

    # -- followers --------------------------------------------------------------------------------

    def past(
        self, user: str, wanted: Filter, most: int, seconds: float | None = None
    ) -> list[bytes]:
        """Return lines of late, oldest first.

        Args:
            user: whose; empty for everybody's.
            wanted: which of them.
            most: how many, the newest.
            seconds: how far back, if not as far as there are lines.
        """
        ring = self._rings.of(user) if user else self._everything
        start = 0.0 if seconds is None else self._clock() - seconds
        found: list[bytes] = []
        for line in ring.since(start):
            if len(found) == most:
                break
            if not wanted or wanted.admits(line, _fields_of(line)):
                found.append(line)
        return found[::-1]

    def follow(self, user: str, wanted: Filter, *, sees_hidden: bool = False) -> Follower:
        """Begin to keep new lines for somebody, until the follower is closed.

        Args:
            user: whose lines; empty for everybody's.
            wanted: which of them.
            sees_hidden: whether also those that their user must not see.
        """
        follower = Follower(user, wanted, self._leave, self._clock, sees_hidden=sees_hidden)
        self._followers.setdefault(user, {})[follower] = None
        return follower

    def _leave(self, follower: Follower) -> None:
        there = self._followers[follower.user]
        del there[follower]
        if not there:
            del self._followers[follower.user]


def _fields_of(line: bytes) -> Fields:
    """Read a line again that was read before, for a filter."""
    found = read_line(line[:-1])
    return found[1] if found else {}
