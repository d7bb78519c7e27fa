"""How many bytes have come within a sliding window.

Exact to a sixtieth of the window, so it takes little memory whatever comes.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

SLOTS = 60
"""Parts of a window that are counted apart."""


class Meter:
    """Bytes by the time that they came.

    Args:
        every: The window, in seconds.
        counts: What `dump` returned.
    """

    __slots__ = ("_counts", "_every")

    def __init__(self, every: float, counts: Iterable[tuple[float, int]] = ()) -> None:
        self._every = every
        # Each slot's newest time and bytes, oldest first.
        self._counts = deque(((when, size) for when, size in counts), maxlen=SLOTS + 1)

    def add(self, now: float, size: int) -> None:
        """Count bytes that came now."""
        counts, slot = self._counts, self._every / SLOTS
        if counts and counts[-1][0] // slot == now // slot:
            counts[-1] = (now, counts[-1][1] + size)
        else:
            counts.append((now, size))
        while counts[0][0] <= now - self._every:
            counts.popleft()

    def total(self, now: float) -> int:
        """The bytes within the window that ends now."""
        return sum(size for when, size in self._counts if when > now - self._every)

    def since(self, need: int) -> float | None:
        """The latest time from which on so many bytes came; None if there never were so many."""
        total = 0
        for when, size in reversed(self._counts):
            total += size
            if total >= need:
                return when
        return None

    def shift(self, seconds: float) -> None:
        """Move everything to a later time, as nobody counted for so long."""
        self._counts = deque(
            ((when + seconds, size) for when, size in self._counts), maxlen=SLOTS + 1
        )

    def dump(self) -> list[tuple[float, int]]:
        """The counts, to make the same meter again."""
        return list(self._counts)
