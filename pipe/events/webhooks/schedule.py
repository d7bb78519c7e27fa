"""What waits to be sent by one webhook: which is tried next, when, and when to give up.

Pure: it takes the time as an argument, in seconds of any clock that never goes back.

- Each is tried at once, and again after each of `DELAYS`; then it is given up.
- They are tried in their order.  One that fails lets others pass until it is due again.
- A receiver that says when to come back (``Retry-After``) is left alone until then.
- A webhook on which one is given up `PAUSE_SECONDS` after its last success is to be paused.
"""

from __future__ import annotations

import enum
import heapq
import random
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

DELAYS = (5.0, 30.0, 120.0, 600.0, 3600.0)
"""Seconds after each failure until the next try: a restart, a deployment, an outage."""

SPREAD = 0.2
"""How much longer or shorter a delay may be, so that what failed together does not return so."""

MAX_HOLD = 3600.0
"""Seconds for which a receiver may ask to be left alone at most: the longest delay of our own."""

PAUSE_SECONDS = 86_400.0
"""How long nothing may succeed: nobody seems to miss it."""

MAX_WAITING = 100
MAX_BYTES = 1 << 20
"""How many wait for one webhook at most, and how many bytes: a day of a few alerts, a second of a
busy log.  What comes then is dropped."""


class Fate(enum.Enum):
    """What becomes of one that has failed."""

    AGAIN = "again"
    GIVEN_UP = "given-up"
    PAUSE = "pause"
    """It is given up, and so is the webhook for now."""


@dataclass(slots=True, order=True)
class Waiting:
    """One that waits to be sent."""

    due: float
    number: int
    data: bytes = field(compare=False)
    headers: dict[str, str] = field(compare=False, default_factory=dict)
    tries: int = field(compare=False, default=0)


class Schedule:
    """All that wait for one webhook.

    Args:
        failing_since: when the first try failed after which none has succeeded, if one has.
        spread: a random number from -1 to 1.
    """

    def __init__(
        self,
        failing_since: float | None = None,
        spread: Callable[[], float] = lambda: random.uniform(-1.0, 1.0),  # noqa: S311
    ) -> None:
        self.failing_since = failing_since
        self.bytes = 0
        self._spread = spread
        self._waiting: list[Waiting] = []  # a heap
        self._out: Waiting | None = None
        self._held_until = float("-inf")

    def __len__(self) -> int:
        return len(self._waiting) + (self._out is not None)

    @property
    def has_room(self) -> bool:
        """Whether there is room for a byte more."""
        return len(self) < MAX_WAITING and self.bytes < MAX_BYTES

    def add(self, one: Waiting) -> bool:
        """Let one more wait; return whether there was room.  If none waits there always is."""
        if len(self) and (len(self) >= MAX_WAITING or self.bytes + len(one.data) > MAX_BYTES):
            return False
        self.bytes += len(one.data)
        heapq.heappush(self._waiting, one)
        return True

    def next_time(self) -> float | None:
        """When there is one to try; None while one is being tried, or if there is none."""
        if self._out is not None or not self._waiting:
            return None
        return max(self._waiting[0].due, self._held_until)

    def take(self, now: float) -> Waiting | None:
        """Take the next one to try now; then say with `succeeded` or `failed` what came of it."""
        at = self.next_time()
        if at is None or at > now:
            return None
        self._out = heapq.heappop(self._waiting)
        self._out.tries += 1
        return self._out

    def succeeded(self) -> None:
        """The one that was taken has arrived."""
        self._drop()
        self.failing_since = None

    def failed(self, now: float, hold: float | None = None) -> Fate:
        """The one that was taken has not arrived.

        Args:
            now: the time.
            hold: for how many seconds the receiver asks to be left alone, if it does.
        """
        one = self._out
        if one is None:
            raise AssertionError
        if self.failing_since is None:
            self.failing_since = now
        if hold is not None:
            self._held_until = max(self._held_until, now + min(hold, MAX_HOLD))
        if one.tries <= len(DELAYS):
            one.due = now + DELAYS[one.tries - 1] * (1 + SPREAD * self._spread())
            self._out = None
            heapq.heappush(self._waiting, one)
            return Fate.AGAIN
        self._drop()
        return Fate.PAUSE if now - self.failing_since >= PAUSE_SECONDS else Fate.GIVEN_UP

    def _drop(self) -> None:
        if self._out is None:
            raise AssertionError
        self.bytes -= len(self._out.data)
        self._out = None

    def clear(self) -> int:
        """Drop all, also one that is being tried, and return how many."""
        count = len(self)
        self._waiting.clear()
        self._out = None
        self.bytes = 0
        return count


def parse_retry_after(text: str | None, now: float) -> float | None:
    """Read ``Retry-After`` (RFC 9110, section 10.2.3): a number of seconds, or a date.

    Args:
        text: The header as it came, if it did.
        now: Seconds since 1970.

    Returns:
        Seconds from now; None if it says nothing of use.
    """
    if not text or len(text) > 64 or not text.isascii():
        return None
    if text.strip().isdigit():
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return None
