"""The last lines of each user, in memory that is bounded whoever writes what.

Every line costs what it holds and `LINE_COST`, and every user with lines `RING_COST`.  If all
together cost too much, the user whose lines were written or read the longest time ago loses them.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from typing import TYPE_CHECKING

from pipe.language.log_requests import MAX_LINES

if TYPE_CHECKING:
    from collections.abc import Iterator

MAX_RING_BYTES = 64 * 1024
"""Kept of one user, besides `MAX_LINES`; a line that is longer is kept alone."""

MAX_BYTES = 16 << 20
"""Kept of all users together."""

LINE_COST = 150
"""Bytes that a line takes in memory besides its own: two objects, a number, a place."""

RING_COST = 1200
"""Bytes that a user's lines take in memory before there is one: a deque has room for 64."""


class Ring:
    """The last lines of one user, each with the time when it came."""

    __slots__ = ("lines", "size", "unsaid", "warned_at")

    def __init__(self) -> None:
        self.lines: deque[tuple[float, bytes]] = deque()
        self.size = 0
        self.warned_at = float("-inf")  # of what others did in the user's name
        self.unsaid = 0  # warnings since, which came too soon

    def append(self, now: float, line: bytes) -> None:
        """Add a line, and drop old ones that are too many now."""
        lines = self.lines
        lines.append((now, line))
        self.size += len(line) + LINE_COST
        while self.size > MAX_RING_BYTES or len(lines) > MAX_LINES:
            if len(lines) == 1:
                return
            self.size -= len(lines.popleft()[1]) + LINE_COST

    def since(self, start: float) -> Iterator[bytes]:
        """The lines that came at ``start`` or later, the newest first."""
        for when, line in reversed(self.lines):
            if when < start:
                return
            yield line


class Rings:
    """The rings of all users."""

    def __init__(self) -> None:
        self._rings: OrderedDict[str, Ring] = OrderedDict()  # least recently used first
        self.size = 0

    def append(self, user: str, now: float, line: bytes) -> None:
        """Add a line of a user."""
        ring = self._rings.get(user)
        if ring is None:
            ring = self._rings[user] = Ring()
            self.size += RING_COST
        else:
            self._rings.move_to_end(user)
        before = ring.size
        ring.append(now, line)
        self.size += ring.size - before
        while self.size > MAX_BYTES:
            _, oldest = self._rings.popitem(last=False)
            self.size -= oldest.size + RING_COST

    def of(self, user: str) -> Ring:
        """The lines of a user."""
        ring = self._rings.get(user)
        if ring is None:
            return Ring()
        self._rings.move_to_end(user)
        return ring

    def peek(self, user: str) -> Ring | None:
        """The lines of a user who has some; that is no use of them."""
        return self._rings.get(user)

    def forget(self, user: str) -> None:
        """Drop the lines of a user who is no more."""
        ring = self._rings.pop(user, None)
        if ring:
            self.size -= ring.size + RING_COST

    def __len__(self) -> int:
        return len(self._rings)
