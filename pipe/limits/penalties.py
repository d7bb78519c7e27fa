"""Addresses that misbehave before they log in are refused for a while.

This works like sshd's PerSourcePenalties (sshd_config(5)): each offence adds time to the address's
penalty, which then runs down.  A sum below the minimum is never enforced, so one mistake costs
nothing.  Above it, the address is refused until the whole sum has run down.
"""

from __future__ import annotations

import enum
import itertools
from collections import OrderedDict
from typing import TYPE_CHECKING

from pipe.limits.sources import MAX_SOURCES

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


class Offence(enum.Enum):
    """What a connection that never logged in did."""

    REFUSED = enum.auto()
    """It tried to log in, and no key was accepted."""
    NO_LOGIN = enum.auto()
    """It left without trying."""
    TIMEOUT = enum.auto()
    """It used up the time to log in."""


class _Penalty:
    __slots__ = ("enforced", "until")

    def __init__(self, until: float) -> None:
        self.until = until
        self.enforced = False


class Penalties:
    """The penalties of all sources, at most `MAX_SOURCES` of them: the oldest go first.

    Args:
        seconds: what each offence costs.
        least: the sum from which a source is refused.
        most: the largest sum.
        capacity: how many sources to remember.
    """

    def __init__(
        self,
        seconds: Mapping[Offence, float],
        least: float,
        most: float,
        capacity: int = MAX_SOURCES,
    ) -> None:
        self._seconds = seconds
        self._least = least
        self._most = most
        self._capacity = capacity
        self._table: OrderedDict[str, _Penalty] = OrderedDict()

    def add(self, source: str, offence: Offence, now: float) -> None:
        """Charge a source with an offence at ``now``, seconds on any steady clock."""
        seconds = self._seconds.get(offence, 0.0)
        if not seconds:
            return
        penalty = self._take(source, now)
        penalty.until = min(penalty.until + seconds, now + self._most)
        penalty.enforced |= penalty.until - now >= self._least

    def list_newest(self, count: int, now: float) -> Iterator[tuple[str, float, bool]]:
        """The sources that were charged last: how many seconds each has left, whether enforced."""
        for source, penalty in itertools.islice(reversed(self._table.items()), count):
            if penalty.until > now:
                yield source, penalty.until - now, penalty.enforced

    def merge(self, source: str, seconds: float, enforced: bool, now: float) -> None:
        """Take what another process knows of a source: the longer penalty counts."""
        penalty = self._take(source, now)
        penalty.until = max(penalty.until, now + min(seconds, self._most))
        penalty.enforced |= enforced

    def refuses(self, source: str, now: float) -> bool:
        """Whether to refuse a source at ``now``."""
        penalty = self._current(source, now)
        return penalty is not None and penalty.enforced

    def _take(self, source: str, now: float) -> _Penalty:
        """A source's penalty, made if it has none, as the one that is forgotten last."""
        penalty = self._current(source, now)
        if penalty is None:
            penalty = self._table[source] = _Penalty(now)
        self._table.move_to_end(source)
        if len(self._table) > self._capacity:
            self._table.popitem(last=False)
        return penalty

    def _current(self, source: str, now: float) -> _Penalty | None:
        penalty = self._table.get(source)
        if penalty and penalty.until <= now:
            del self._table[source]
            return None
        return penalty

    def __len__(self) -> int:
        return len(self._table)
