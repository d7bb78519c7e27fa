"""What came of the last deliveries of each hook, and how many more it may have now.

All of it is in memory, and bounded: `KEPT` deliveries of each of the `MAX_HOOKS` hooks that were
used last.  Times are arguments, by any clock that only goes forward.
"""

from __future__ import annotations

import enum
from collections import OrderedDict, deque
from typing import NamedTuple

from pipe.errors import QuotaExceeded

KEPT = 20
"""Deliveries of one hook that are kept."""

MAX_HOOKS = 2000
"""Hooks of which any are kept: some 6 MiB."""

LIMIT = "hooks"
"""The name of the limit on deliveries, as `pipe.errors.QuotaExceeded` and the metrics have it."""

RATE, BURST = 10.0, 60.0
"""Deliveries per second of one hook, and how many may come at once."""

TELL_SECONDS = 60.0
"""A hook's user is told of the same trouble no more often."""


class Result(enum.Enum):
    """What came of a delivery; the value is what users see, and the metric's label."""

    PUBLISHED = "published"
    HELD = "held"
    """It waits for a reader, or for one that is behind."""
    UNHEARD = "unheard"
    """Nobody listened."""
    REPEAT = "repeat"
    """It was told before."""
    IGNORED = "ignored"
    """It is no event that the hook publishes."""
    UNREADABLE = "unreadable"
    DENIED = "denied"
    """The hook's user may not write there."""
    FULL = "full"
    """Too much waits already."""
    UNANSWERED = "unanswered"
    """The worker where its topic is does not answer: it may be published, or not."""
    LIMITED = "limited"
    """They come too fast."""
    REFUSED = "refused"
    """The proof is wrong."""

    @property
    def is_trouble(self) -> bool:
        """Whether the hook's user should know."""
        return self in _TROUBLES


_TROUBLES = frozenset(
    {
        Result.UNREADABLE,
        Result.DENIED,
        Result.FULL,
        Result.UNANSWERED,
        Result.LIMITED,
        Result.REFUSED,
    }
)


class Delivery(NamedTuple):
    """One delivery, or several refused ones in a row."""

    time: float
    """Seconds since 1970; of several, when the last one came."""
    result: Result
    size: int
    """Bytes of the body."""
    events: int = 0
    """How many were published."""
    readers: int = 0
    """The most that read one of them at once."""
    detail: str = ""
    """What is wrong."""
    times: int = 1


class _Record:
    __slots__ = ("deliveries", "left", "since", "told")

    def __init__(self, now: float) -> None:
        self.deliveries: deque[Delivery] = deque(maxlen=KEPT)
        self.left = BURST
        self.since = now
        self.told: dict[Result, float] = {}


class Deliveries:
    """Those of all hooks."""

    def __init__(self) -> None:
        self._records: OrderedDict[str, _Record] = OrderedDict()

    def __len__(self) -> int:
        return len(self._records)

    def take(self, hook: str, now: float) -> None:
        """Count one more.

        Raises:
            QuotaExceeded: it is one too many, for now.
        """
        record = self._record(hook, now)
        record.left = min(BURST, record.left + (now - record.since) * RATE)
        record.since = now
        if record.left < 1:
            raise QuotaExceeded(f"too many deliveries: at most {RATE:g} per second", LIMIT)
        record.left -= 1

    def note(self, hook: str, delivery: Delivery, now: float) -> bool:
        """Keep what came of one, and return whether to tell the hook's user of it.

        Refused ones in a row are one entry: strangers send them, and could push out all others.
        """
        record = self._record(hook, now)
        kept = record.deliveries
        last = kept[-1] if kept else None
        if last and last.result is delivery.result is Result.REFUSED:
            kept[-1] = delivery._replace(times=last.times + 1)
        else:
            kept.append(delivery)
        result = delivery.result
        told = record.told.get(result)
        if not result.is_trouble or (told is not None and now - told < TELL_SECONDS):
            return False
        record.told[result] = now
        return True

    def of(self, hook: str) -> tuple[Delivery, ...]:
        """The last ones of a hook, the newest first."""
        record = self._records.get(hook)
        return tuple(reversed(record.deliveries)) if record else ()

    def forget(self, hook: str) -> None:
        """Forget a hook that is gone."""
        self._records.pop(hook, None)

    def _record(self, hook: str, now: float) -> _Record:
        record = self._records.get(hook)
        if record is None:
            record = self._records[hook] = _Record(now)
            if len(self._records) > MAX_HOOKS:
                self._records.popitem(last=False)
        self._records.move_to_end(hook)
        return record
