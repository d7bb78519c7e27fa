"""How much of a span of time a monitor was up, from its history.

What counts is the time when the monitor was up or down and the server watched.  Everything else
(paused, new, unknown, the server away) is left out.
"""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from operator import itemgetter
from typing import TYPE_CHECKING

from pipe.events.monitors.monitor import State
from pipe.language.durations import SECONDS_PER_DAY

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

SPANS = {
    "24h": 1.0 * SECONDS_PER_DAY,
    "7d": 7.0 * SECONDS_PER_DAY,
    "30d": 30.0 * SECONDS_PER_DAY,
    "90d": 90.0 * SECONDS_PER_DAY,
}
"""What is told by default, in seconds up to now."""

DAYS = 90
"""Days that a status page shows one by one."""


@dataclass(frozen=True, slots=True)
class Share:
    """Seconds up and down within a span, and the rest of it."""

    up: float
    down: float
    unknown: float

    @property
    def seconds(self) -> tuple[float, float, float]:
        """All three."""
        return self.up, self.down, self.unknown

    @property
    def ratio(self) -> float | None:
        """From 0 to 1; None if nothing is known."""
        known = self.up + self.down
        return self.up / known if known else None


class History:
    """When a monitor was up and down.

    Args:
        changes: Times and the states from then on.
        watched: When a server watched: begins and ends.
        now: The time.
    """

    def __init__(
        self,
        changes: Iterable[tuple[float, State]],
        watched: Iterable[tuple[float, float]],
        now: float,
    ) -> None:
        # For each kind: the ends of its spans, and the seconds until each; so a span is asked in
        # the time of a bisection.
        self._kinds = {State.UP: _Sums(), State.DOWN: _Sums()}
        for begin, end, state in _overlaps(_spans(changes, now), _joined(watched)):
            self._kinds[state].add(begin, end)

    def share(self, begin: float, end: float) -> Share:
        """How it was from one time to another."""
        up, down = (self._kinds[one].between(begin, end) for one in (State.UP, State.DOWN))
        return Share(up, down, max(0.0, end - begin - up - down))

    def days(self, now: float) -> list[Share]:
        """How it was on each of the last `DAYS` days in UTC, the oldest first, today last."""
        today = now // SECONDS_PER_DAY * SECONDS_PER_DAY
        begins = [today - SECONDS_PER_DAY * (DAYS - 1 - day) for day in range(DAYS)]
        return [self.share(begin, min(now, begin + SECONDS_PER_DAY)) for begin in begins]


class _Sums:
    """Spans that come in order, and their lengths up to any time."""

    def __init__(self) -> None:
        self._begins: list[float] = []
        self._ends: list[float] = []
        self._before: list[float] = []  # seconds in earlier spans
        self._total = 0.0

    def add(self, begin: float, end: float) -> None:
        self._begins.append(begin)
        self._ends.append(end)
        self._before.append(self._total)
        self._total += end - begin

    def between(self, begin: float, end: float) -> float:
        return max(0.0, self._until(end) - self._until(begin))

    def _until(self, when: float) -> float:
        number = bisect_right(self._begins, when) - 1
        if number < 0:
            return 0.0
        return self._before[number] + min(when, self._ends[number]) - self._begins[number]


def _spans(
    changes: Iterable[tuple[float, State]], now: float
) -> Iterator[tuple[float, float, State]]:
    """The times when it was up or down."""
    last: tuple[float, State] | None = None
    in_order = sorted(changes, key=itemgetter(0))  # the clock may have been put back
    for change in (*in_order, (now, State.UNKNOWN)):
        if last and last[1] in {State.UP, State.DOWN} and change[0] > last[0]:
            yield last[0], change[0], last[1]
        last = change


def _joined(spans: Iterable[tuple[float, float]]) -> list[tuple[float, float]]:
    """The same without overlaps, in order."""
    joined: list[tuple[float, float]] = []
    for begin, end in sorted(spans):
        if joined and begin <= joined[-1][1]:
            joined[-1] = joined[-1][0], max(end, joined[-1][1])
        else:
            joined.append((begin, end))
    return joined


def _overlaps(
    spans: Iterable[tuple[float, float, State]], watched: Sequence[tuple[float, float]]
) -> Iterator[tuple[float, float, State]]:
    """What of the spans was watched."""
    first = 0
    for begin, end, state in spans:
        while first < len(watched) and watched[first][1] <= begin:
            first += 1
        number = first
        while number < len(watched) and watched[number][0] < end:
            yield max(begin, watched[number][0]), min(end, watched[number][1]), state
            number += 1
