"""Who may handle how much in a turn of the event loop, so that a crowd is fair to one who types.

A turn of the loop reads from every connection that has something.  One that may handle a fourth of
a megabyte each time is no burden; a hundred of them would keep everybody else waiting for all
hundred.  So a turn has a budget of seconds.  While there is some left, connections handle what
they have.  After that a connection only sips: it reads a little, enough for a message that
somebody has typed, and where there is more it queues.  Each turn begins with those who queue, in
their order, and gives as many of them a full read as fit the budget, by what theirs took lately.

asyncssh's parser handles all that it is given before it returns, so it is given a slice at a time.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    import asyncio

BUDGET_SECONDS = 0.005
"""Of each turn for all connections together: what a keystroke may wait for, and room for a dozen
full reads, so that fewer busy connections than that never queue."""

SHARE_SECONDS = 0.0005
"""What a full read takes on the lane: 256 KiB from one connection to another."""

TURN_SECONDS = 0.004
"""What one connection may take for packets that go to asyncssh, whose cost varies more."""

SIP_BYTES = 4096
"""What a connection may read where the turn's budget is used up."""

SLICE_BYTES = 8192
"""asyncssh copies its whole buffer for each packet, so it gets its input in slices of at most
this size."""

FIRST_SLICE_BYTES = 1024
MIN_SLICE_BYTES = 256
"""The slices grow while they are quick, and shrink where what is in them takes long, such as small
packets that go to a hundred readers."""

MINOR_SECONDS = 0.001
"""So little use needs no look at where a turn ends: it may be of many turns, with rests between."""


def next_slice(size: int, took: float) -> int:
    """The size of the next slice for asyncssh, where one of ``size`` bytes took so many seconds."""
    if took > TURN_SECONDS / 2:
        return max(size // 2, MIN_SLICE_BYTES)
    return min(size * 2, SLICE_BYTES)


class Queuer(Protocol):
    """A connection that has more to do than it was allowed to."""

    share_seconds: float
    """What a full share is expected to take."""

    def take_turn(self) -> bool:
        """Handle a full share now, or of what is read next; whether it is the latter."""


class Turns:
    """The budget of the loop's turns, and the queue for it.

    Args:
        loop: whose turns they are.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._queue: deque[Queuer] = deque()
        self._used = 0.0
        self._scheduled = False

    @property
    def spent(self) -> bool:
        """Whether this turn's budget is used up."""
        return self._used >= BUDGET_SECONDS

    def use(self, seconds: float) -> None:
        """Some of the budget has been used."""
        self._used += seconds
        if self._used > MINOR_SECONDS and not self._scheduled:
            self._schedule()

    def queue(self, connection: Queuer) -> None:
        """Have a connection's `take_turn` called when its turn has come; it must not queue yet."""
        self._queue.append(connection)
        if not self._scheduled:
            self._schedule()

    def _schedule(self) -> None:
        self._scheduled = True
        self._loop.call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn."""
        self._scheduled = False
        self._used = promised = 0.0
        for _ in range(len(self._queue)):
            if self._used + promised >= BUDGET_SECONDS:
                break
            connection = self._queue.popleft()
            if connection.take_turn():
                promised += connection.share_seconds
        if (self._queue or self._used > 0) and not self._scheduled:
            self._schedule()
