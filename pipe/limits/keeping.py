"""Who has how much kept of topics' pasts, and for how long after the last publisher.

What counts is what a ring may hold, not what it holds now.  All of them together may take half of
the memory at which publishers are paused, so that rings alone never raise that alarm.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING

from pipe.errors import QuotaExceeded
from pipe.language.quantities import format_size

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.language.names import TopicName
    from pipe.rights.callers import Caller

RESOURCE = "keep"
"""The label of refusals in the metrics."""

ALARM_SHARE = 0.5
"""What all rings may take of the memory alarm's threshold."""


class Keeping:
    """All of it.

    Args:
        most: bytes that one ring may hold.
        most_per_user: bytes that all rings of a user may hold.
        most_of_all: bytes that all rings may hold; 0 for no limit.
        let_go: called with a topic whose time after its last publisher is over.
    """

    def __init__(
        self, most: int, most_per_user: int, most_of_all: int, let_go: Callable[[TopicName], None]
    ) -> None:
        self.most = most
        self._most_per_user = most_per_user
        self._most_of_all = most_of_all
        self._let_go = let_go
        self._users: Counter[str] = Counter()
        self._total = 0
        self._topics: dict[TopicName, list[tuple[Caller, int]]] = {}  # who counts for how much
        self._timers: dict[TopicName, asyncio.TimerHandle] = {}

    def take(self, name: TopicName, caller: Caller, size: int) -> None:
        """Count what a topic's ring grows by if it is to hold ``size`` bytes, until `closed`.

        Raises:
            QuotaExceeded: that is too much.
        """
        if size > self.most:
            raise QuotaExceeded(
                f"a topic keeps at most {format_size(self.most)}: use a smaller --keep"
                if self.most
                else "this server keeps nothing of topics: leave out --keep",
                RESOURCE,
            )
        shares = self._topics.get(name, [])
        grows = size - sum(share for _, share in shares)
        if grows <= 0:
            return
        held = self._users[caller.user]
        if self._most_per_user and held + grows > self._most_per_user:
            raise QuotaExceeded(
                f"your topics keep at most {format_size(self._most_per_user)} together:"
                " use a smaller --keep, or end one of them",
                RESOURCE,
            )
        if self._most_of_all and self._total + grows > self._most_of_all:
            raise QuotaExceeded("the server has no memory left for --keep: try later", RESOURCE)
        self._users[caller.user] += grows
        self._total += grows
        self._topics[name] = [*shares, (caller, grows)]

    def closed(self, name: TopicName) -> None:
        """A topic no longer exists."""
        for caller, share in self._topics.pop(name, ()):
            self._users[caller.user] -= share
            self._total -= share
            if not self._users[caller.user]:
                del self._users[caller.user]
        self._stop_timer(name)

    def linger(self, name: TopicName, seconds: float) -> None:
        """Let a topic go after so many seconds, whatever was said before."""
        self._stop_timer(name)
        loop = asyncio.get_running_loop()
        self._timers[name] = loop.call_later(seconds, self._time_is_over, name)

    def _time_is_over(self, name: TopicName) -> None:
        self._timers.pop(name, None)
        self._let_go(name)

    def _stop_timer(self, name: TopicName) -> None:
        timer = self._timers.pop(name, None)
        if timer:
            timer.cancel()

    def forget(self, is_gone: Callable[[Caller], object]) -> None:
        """Let go what lingers and is paid for by users who are gone."""
        for name in list(self._timers):
            if any(is_gone(caller) for caller, _ in self._topics.get(name, ())):
                self._stop_timer(name)
                self._let_go(name)

    def close(self) -> None:
        """Stop all timers, as the server stops."""
        for name in list(self._timers):
            self._stop_timer(name)
