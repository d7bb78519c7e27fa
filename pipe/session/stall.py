"""Law 4: a reader that takes nothing while others wait for it is cut off in the end."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

LOOKS = 4
"""How often to check the reader within the timeout: it is cut at most a quarter late."""


class StallClock:
    """Runs while others wait for a reader; any byte that the reader takes resets it.

    Args:
        timeout: seconds without a byte until ``stalled`` is called.
        progress: returns how many bytes the reader has taken so far.
        stalled: called when the reader has stalled.
    """

    def __init__(
        self, timeout: float, progress: Callable[[], int], stalled: Callable[[], None]
    ) -> None:
        self._interval = timeout / LOOKS
        self._progress = progress
        self._stalled = stalled
        self._timer: asyncio.TimerHandle | None = None
        self._mark = 0
        self._idle_looks = 0

    def start(self) -> None:
        """Start, as others now wait; starting again does nothing."""
        if self._timer is None:
            self._mark = self._progress()
            self._idle_looks = 0
            self._arm()

    def stop(self) -> None:
        """Stop, as nobody waits any longer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(self._interval, self._look)

    def _look(self) -> None:
        self._timer = None
        taken = self._progress()
        self._idle_looks = self._idle_looks + 1 if taken == self._mark else 0
        self._mark = taken
        if self._idle_looks >= LOOKS:
            self._stalled()
        else:
            self._arm()
