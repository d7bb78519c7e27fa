"""Who may do how much in a turn of the event loop, so that a crowd is fair to one who types.

A turn of the loop hears of everything that has happened since the last one.  A read of a fourth of
a megabyte, a session that begins or ends, a publisher that goes on: each is no burden, but a crowd
of thousands would keep everybody else waiting for all of it.  So a turn has a budget of seconds.
While there is some left, what comes up is done on the spot.  After that it queues, and each turn
begins with those who queue, in their order, as many as fit the budget.

There are two kinds: a `Queuer` is a connection that may read and handle a full share, once in a
turn; a step is any small piece of work (`Turns.do`).  The order of steps is that in which they were
handed in, also of those that are done on the spot.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    from collections.abc import Callable

    Step: TypeAlias = Callable[[], bool | None]

BUDGET_SECONDS = 0.005
"""Of each turn for everybody together: what a keystroke may wait for, and room for a dozen full
reads, so that fewer busy connections than that never queue."""

MINOR_SECONDS = 0.001
"""So little use needs no look at where a turn ends: it may be of many turns, with rests between."""


class Queuer(Protocol):
    """A connection that has more to do than it was allowed to."""

    share_seconds: float
    """What a full share is expected to take."""

    def take_turn(self) -> bool:
        """Handle a full share now, or of what is read next; whether it is the latter."""


class Turns:
    """The budget of the loop's turns, and the queue for it.

    Args:
        loop: whose turns they are; the running one where none is given.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._queue: deque[Queuer | Step] = deque()
        self._next: list[Queuer] = []  # that wait for the next turn
        self._used = 0.0
        self._scheduled = False
        self._at_work = False
        self.written: Callable[[], None] = _nothing
        """Called after each step of a turn, to write what came of it: that is its cost too."""

    @property
    def spent(self) -> bool:
        """Whether this turn's budget is used up."""
        return self._used >= BUDGET_SECONDS

    @property
    def used(self) -> float:
        """Seconds of this turn that are used up."""
        return self._used

    def use(self, seconds: float, since: float | None = None) -> None:
        """Some of the budget has been used.

        Args:
            seconds: so much.
            since: what `used` was when it began, if there were steps within it.
        """
        self._used = max(self._used, (self._used if since is None else since) + seconds)
        if self._used > MINOR_SECONDS and not self._scheduled:
            self._schedule()

    def queue(self, connection: Queuer) -> None:
        """Have a connection's `take_turn` called when its turn has come; it must not queue yet."""
        if self._at_work:
            self._next.append(connection)
        else:
            self._queue.append(connection)
        if not self._scheduled:
            self._schedule()

    def do(self, step: Step) -> None:
        """Take a step, and again as long as it says that there is more, in this turn or others."""
        self._queue.append(step)
        if self._at_work:
            return
        if len(self._queue) == 1 and not self.spent:
            self._go_on()
        elif not self._scheduled:
            self._schedule()

    def finish(self) -> None:
        """Take all steps now, however long it takes: the loop is about to stop."""
        while not self._at_work and any(callable(one) for one in self._queue):
            self._used = 0.0
            self._go_on()

    def _schedule(self) -> None:
        self._scheduled = True
        (self._loop or asyncio.get_running_loop()).call_soon(self._begin)

    def _begin(self) -> None:
        """Begin a turn."""
        self._scheduled = False
        self._used = 0.0
        self._go_on()
        if self._used > 0 and not self._scheduled:
            self._schedule()

    def _go_on(self) -> None:
        """Serve those who queue, as far as the budget goes."""
        promised = 0.0
        self._at_work = True
        try:
            while self._queue and self._used + promised < BUDGET_SECONDS:
                first = self._queue.popleft()
                if callable(first):
                    self._take(first)
                elif first.take_turn():
                    promised += first.share_seconds
        finally:
            self._at_work = False
            self._queue.extend(self._next)
            self._next.clear()
            if self._queue and not self._scheduled:
                self._schedule()

    def _take(self, step: Step) -> None:
        """Take one step; where there is more of it, it queues again."""
        started = time.monotonic()
        try:
            if step():
                self._queue.append(step)
            self.written()
        except Exception as error:  # noqa: BLE001 - it keeps none of the others from theirs
            loop = self._loop or asyncio.get_running_loop()
            loop.call_exception_handler({"message": "a step failed", "exception": error})
        self._used += time.monotonic() - started


def _nothing() -> None:
    """Where there is nothing to write."""
