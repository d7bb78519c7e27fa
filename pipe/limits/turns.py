"""How much work fits in a turn of the event loop, so that a crowd does not delay a keystroke.

A turn of the loop handles everything that happened since the last one.  Reading a quarter of a
megabyte, beginning or ending a session, resuming a publisher: each is cheap, but a crowd of
thousands would keep everybody else waiting.  So each turn has a budget in seconds.  Work runs at
once while some of it is left.  After that it queues, and each turn begins with the queue, in order,
as far as the budget goes.

There are two kinds of work.  A `Queuer` is a connection that may read and handle a full share once
in a turn.  A step is any small piece of work (`Turns.do`).  Steps run in the order in which they
were handed in, including those that run at once.
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
"""The budget of each turn for everybody together: as long as a keystroke may wait, and enough for
a dozen full reads, so that fewer busy connections never queue."""

MINOR_SECONDS = 0.001
"""Less use than this is not tied to one turn: it may add up over many turns with rests between."""


class Queuer(Protocol):
    """A connection that has more to do than it was allowed to."""

    share_seconds: float
    """How long a full share is expected to take."""

    def take_turn(self) -> bool:
        """Handle a full share now, or of what is read next; return True for the latter."""


class Turns:
    """The budget of the loop's turns, and the queue for it.

    Args:
        loop: the event loop; by default the running one.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop | None = None) -> None:
        self._loop = loop
        self._queue: deque[Queuer | Step] = deque()
        self._next: list[Queuer] = []  # waiting for the next turn
        self._used = 0.0
        self._scheduled = False
        self._at_work = False
        self.written: Callable[[], None] = _nothing
        """Called after each step of a turn, to write its output, which counts as its cost too."""

    @property
    def spent(self) -> bool:
        """Whether this turn's budget is used up."""
        return self._used >= BUDGET_SECONDS

    @property
    def used(self) -> float:
        """Seconds used in this turn."""
        return self._used

    def use(self, seconds: float, since: float | None = None) -> None:
        """Charge the budget.

        Args:
            seconds: how much was used.
            since: the value of `used` when that work began, if there were steps within it.
        """
        self._used = max(self._used, (self._used if since is None else since) + seconds)
        if self._used > MINOR_SECONDS and not self._scheduled:
            self._schedule()

    def queue(self, connection: Queuer) -> None:
        """Call a connection's `take_turn` when its turn comes; it must not be queued already."""
        if self._at_work:
            self._next.append(connection)
        else:
            self._queue.append(connection)
        if not self._scheduled:
            self._schedule()

    def do(self, step: Step) -> None:
        """Take a step, repeatedly while it returns True, in this turn or later ones."""
        self._queue.append(step)
        if self._at_work:
            return
        if len(self._queue) == 1 and not self.spent:
            self._go_on()
        elif not self._scheduled:
            self._schedule()

    def finish(self) -> None:
        """Take all steps now, however long that takes: the loop is about to stop."""
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
        """Serve the queue, as far as the budget goes."""
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
        """Take one step, and queue it again if there is more."""
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
    """Write nothing."""
