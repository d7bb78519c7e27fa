"""One reader of log lines, which may be slower than they come."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from pipe.events.logs.lines import own_line
from pipe.events.logs.rings import LINE_COST

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.events.logs.filters import Filter
    from pipe.events.logs.lines import Fields

MAX_QUEUE_BYTES = 256 * 1024
"""Lines that wait for one follower, each with what it costs besides; more are dropped.  One line
that is longer waits alone.

What is dropped is counted.  Once lines are dropped, all are until the follower has taken what
waits: then one line says how many, instead of a line between any two that found room.
"""


class Follower:
    """The lines that one reader has yet to take.

    Args:
        user: whose lines it gets; empty for everybody's.
        sees_hidden: whether it gets those too that their user must not see.
        wanted: which of them.
        left: called once with the follower when it is closed.
        clock: seconds since 1970.
    """

    __slots__ = (
        "_clock",
        "_left",
        "_queue",
        "_size",
        "_wake",
        "due",
        "missed",
        "sees_hidden",
        "user",
        "wanted",
    )

    def __init__(
        self,
        user: str,
        wanted: Filter,
        left: Callable[[Follower], None],
        clock: Callable[[], float],
        *,
        sees_hidden: bool = False,
    ) -> None:
        self.user = user
        self.wanted = wanted
        self.sees_hidden = sees_hidden
        self.due = False  # its reader is about to be told
        self.missed = 0
        self._left: Callable[[Follower], None] | None = left
        self._clock = clock
        self._queue: deque[bytes] = deque()
        self._size = 0
        self._wake: Callable[[], None] = _nobody

    def admits(self, line: bytes, fields: Fields) -> bool:
        """Whether it wants a line."""
        return not self.wanted or self.wanted.admits(line, fields)

    def offer(self, line: bytes) -> bool:
        """Queue a line, and return whether there was room for it."""
        size = len(line) + LINE_COST
        if self.missed or (self._queue and self._size + size > MAX_QUEUE_BYTES):
            self.missed += 1
            return False
        self._queue.append(line)
        self._size += size
        return True

    @property
    def crowded(self) -> bool:
        """Whether so much waits that its reader should be told at once."""
        return self._size * 2 > MAX_QUEUE_BYTES

    # -- its reader -------------------------------------------------------------------------------

    def connect(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there may be something to take; it must not raise."""
        self._wake = wake

    def wake(self) -> None:
        """Tell the reader."""
        self.due = False
        self._wake()

    def take(self, most: int) -> bytes:
        """Take whole lines, together some ``most`` bytes, but one at least; empty: there is none.

        Once that is all, a line says how many were dropped.
        """
        queue, lines, size = self._queue, [], 0
        while queue and size < most:
            line = queue.popleft()
            lines.append(line)
            size += len(line)
        self._size -= size + len(lines) * LINE_COST
        if self.missed and not queue:
            lines.append(own_line(self._clock(), "WARN", "lines dropped", {"count": self.missed}))
            self.missed = 0
        return b"".join(lines)

    def close(self) -> None:
        """Get no more; calling this again does nothing."""
        left, self._left = self._left, None
        self._wake = _nobody
        self._queue.clear()
        self._size = 0
        if left:
            left(self)


def _nobody() -> None:
    """Nobody reads."""
