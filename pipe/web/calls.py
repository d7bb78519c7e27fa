"""How often a user may call ``/api/…``."""

from __future__ import annotations

from collections import OrderedDict

from aiohttp import web

from pipe.errors import QuotaExceeded

RATE, BURST = 20.0, 100.0
"""Calls per second of one user, and how many may come at once."""

MAX_USERS = 10_000
"""Whose calls are counted; the oldest goes first."""


class Calls:
    """How many calls each user has left."""

    def __init__(self) -> None:
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def take(self, user: str, now: float) -> None:
        """Count one more.

        Raises:
            QuotaExceeded: it is one too many, for now.
        """
        left, then = self._left.pop(user, (BURST, now))
        left = min(BURST, left + (now - then) * RATE)
        self._left[user] = (max(0.0, left - 1), now)
        if len(self._left) > MAX_USERS:
            self._left.popitem(last=False)
        if left < 1:
            raise QuotaExceeded(f"too many calls: at most {RATE:g} per second", "calls")


CALLS = web.AppKey("calls", Calls)
"""Where a request finds them."""
