"""How much of the time monitors were up, from the database, for lists, badges and pages."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from typing import TYPE_CHECKING, NamedTuple

from pipe.events.monitors.monitor import State
from pipe.events.monitors.uptime import SPANS, History, Share
from pipe.limits.turnstile import Turnstile

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.events.monitors.hub import Monitors, Watched
    from pipe.store.monitors import MonitorStore

MAX_AGE = 60.0
"""Seconds that a summary may be old where nobody asks for the latest."""

MAX_USERS = 64
"""Whose summaries are kept: at most some 200 KB each."""


class Summary(NamedTuple):
    """One monitor's."""

    spans: dict[str, Share]
    """By the name of the span, up to now."""
    days: list[float | None]
    """The share of each of the last days that it was up, the oldest first; None: not known."""


class Summaries:
    """Makes summaries, one monitor at a time, so that nobody else waits long.

    Args:
        store: Has the history.
        monitors: Has what is not yet stored.
        clock: Seconds since 1970.
    """

    def __init__(self, store: MonitorStore, monitors: Monitors, clock: Callable[[], float]) -> None:
        self._store = store
        self._monitors = monitors
        self._clock = clock
        # By the numbers of the monitors: a name may get a new holder.
        self._made: OrderedDict[str, tuple[float, dict[int, Summary]]] = OrderedDict()
        self._turnstile = Turnstile()

    async def of(self, user: str, *, latest: bool = False) -> dict[int, Summary]:
        """All of a user's, by the monitors' numbers.

        Args:
            user: Whose.
            latest: Whether they have to be new; else they are at most `MAX_AGE` old, and a monitor
                that was made since is missing.

        Raises:
            StoreUnavailable: The database is away.
        """
        async with self._turnstile.turn(user):
            now = self._clock()
            made, summaries = self._made.get(user, (0.0, {}))
            if latest or not 0 <= now - made < MAX_AGE:
                summaries = await self._make(user)
                self._made[user] = now, summaries
                self._made.move_to_end(user)
                if len(self._made) > MAX_USERS:
                    self._made.popitem(last=False)
            return summaries

    async def _make(self, user: str) -> dict[int, Summary]:
        await self._monitors.save()
        watches = await self._watches()
        summaries = {}
        for watched in self._monitors.of(user):
            history = await self._read(watched, watches)
            await asyncio.sleep(0)  # a history of a thousand changes takes some milliseconds
            now = self._clock()
            summaries[watched.number] = Summary(
                {name: history.share(now - span, now) for name, span in SPANS.items()},
                [share.ratio for share in history.days(now)],
            )
        return summaries

    async def history(self, watched: Watched) -> History:
        """When a monitor was up, to the last moment.

        Raises:
            StoreUnavailable: The database is away.
        """
        await self._monitors.save()
        return await self._read(watched, await self._watches())

    async def _watches(self) -> list[tuple[float, float]]:
        """When a server watched; the last entry is from now, so it ends now."""
        watches = await self._store.watched()
        began = self._monitors.began
        return watches if began is None else [*watches, (began, self._clock())]

    async def _read(self, watched: Watched, watches: list[tuple[float, float]]) -> History:
        rows = await self._store.history(watched.number)
        changes = [(made, State(state)) for made, state in rows]
        return History(changes, watches, self._clock())
