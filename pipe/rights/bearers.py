"""Logins by token, while they are alive.

All logins with one token end together: when it is removed, or when it expires.
"""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pipe.rights.callers import Caller

_STALE_ENDS = 64
"""The queue of ends is rebuilt once it has this many entries beyond twice the number of logins."""


class Bearers:
    """The logins by token that are alive, and those of clients that are away, by whatever means."""

    def __init__(self) -> None:
        self._here: dict[str, dict[int, Caller]] = {}
        self._count = 0
        self._ends: list[tuple[float, int, str]] = []

    def add(self, caller: Caller) -> None:
        """Add a login."""
        self._here.setdefault(caller.token, {})[caller.login] = caller
        self._count += 1
        if caller.until is not None:
            heapq.heappush(self._ends, (caller.until, caller.login, caller.token))
        if len(self._ends) > 2 * self._count + _STALE_ENDS:
            self._ends = [
                (one.until, one.login, one.token)
                for logins in self._here.values()
                for one in logins.values()
                if one.until is not None
            ]
            heapq.heapify(self._ends)

    def remove(self, caller: Caller) -> None:
        """Remove a login; calling it again does nothing."""
        logins = self._here.get(caller.token, {})
        if logins.pop(caller.login, None):
            self._count -= 1
            if not logins:
                del self._here[caller.token]

    def of(self, token: str) -> list[Caller]:
        """The logins with one token."""
        return list(self._here.get(token, {}).values())

    def take_ended(self, now: float) -> list[Caller]:
        """Take the logins whose time is over; each is returned once."""
        ended = []
        while self._ends and self._ends[0][0] <= now:
            _, login, token = heapq.heappop(self._ends)
            caller = self._here.get(token, {}).get(login)
            if caller:
                ended.append(caller)
        return ended

    @property
    def next_end(self) -> float | None:
        """When to call `take_ended`, in seconds since 1970; it may find nobody then."""
        return self._ends[0][0] if self._ends else None

    def __len__(self) -> int:
        return self._count
