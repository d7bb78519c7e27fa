"""What came on a watched topic since somebody looked: the router's side of monitors.

However many users watch a topic, the router tells one watcher, and that only adds up.  It is looked
at a moment after something came, and then not before the next thing comes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from collections.abc import Callable


class Wake(Protocol):
    """Says that something has come."""

    def __call__(self, *, ends: bool) -> None:
        """It was bytes, or the end of a publisher."""


class End(NamedTuple):
    """How a publisher ended."""

    status: int
    broken: bool


class Activity(NamedTuple):
    """What came."""

    size: int
    last: float
    """When the last bytes came."""
    end: End | None
    """How the last publisher ended that did."""


class Watch:
    """One watched topic: a `pipe.stream.ports.Watcher`.

    Args:
        clock: Seconds since 1970.
        wake: Called once until `collect` when bytes have come, and once when a publisher has ended.
    """

    __slots__ = ("_clock", "_end", "_last", "_size", "_wake")

    def __init__(self, clock: Callable[[], float], wake: Wake) -> None:
        self._clock = clock
        self._wake = wake
        self._size = 0
        self._last = 0.0
        self._end: End | None = None

    def published(self, size: int) -> None:
        """Bytes have come."""
        before, self._size = self._size, self._size + size
        self._last = self._clock()
        if not before and not self._end:
            self._wake(ends=False)

    def ended(self, status: int, broken: bool) -> None:
        """A publisher is gone."""
        before, self._end = self._end, End(status, broken)
        if not before:
            self._wake(ends=True)

    def idle(self) -> None:
        """Nothing has ended that had begun."""

    def collect(self) -> Activity:
        """Take what has come."""
        activity = Activity(self._size, self._last, self._end)
        self._size, self._end = 0, None
        return activity
