"""Stores what monitors remember, and that the server watches: a little later, and together.

While the database is away, what monitors remember and the newest `MAX_PENDING` changes are kept.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections import deque
from typing import TYPE_CHECKING

import structlog

from pipe.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from pipe.events.monitors.monitor import Monitor
    from pipe.store.monitors import MonitorStore, NewChange

log = structlog.get_logger()

SAVE_SECONDS = 60.0
SOON_SECONDS = 1.0
"""When a monitor's last sign of life is stored, and when a change is."""

MAX_PENDING = 10_000
"""Changes that wait for the database, of some 300 bytes each."""

AT_ONCE = 100
"""Monitors that are written as text in one step, of some milliseconds, and one transaction."""


class Saver:
    """Stores it.

    Args:
        store: Where.
        clock: Seconds since 1970.
        besides: Done before each save; StoreUnavailable leaves the save to the next minute.
        may_save: Whether it is this server that stores; another one's is not replaced.
    """

    def __init__(
        self,
        store: MonitorStore,
        clock: Callable[[], float],
        besides: Callable[[], Awaitable[None]],
        may_save: Callable[[], bool] = lambda: True,
    ) -> None:
        self._store = store
        self._clock = clock
        self._besides = besides
        self._may_save = may_save
        self._unsaved: dict[int, Monitor] = {}
        self._changes: deque[NewChange] = deque(maxlen=MAX_PENDING)
        self._lock = asyncio.Lock()
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None
        self._away = False
        self._closed = False
        self._number: int | None = None
        self._kept = 0.0
        self.began: float | None = None
        """Since when this server watches, in seconds since 1970; None if it does not."""

    def open(self) -> None:
        """Begin, perhaps anew after a `close`."""
        if self._closed:
            self._closed = False
            self._number = self.began = None

    async def begin(self, now: float) -> None:
        """Note that the server watches from now on; do nothing if it does.

        Raises:
            StoreUnavailable: The database is away.
        """
        async with self._lock:
            if self.began is None:
                self._number = await self._store.begin_watch(now)
                self.began = self._kept = now
                self._save_within(SAVE_SECONDS)

    def note(self, number: int, monitor: Monitor, change: NewChange | None = None) -> None:
        """Store what a monitor remembers, soon if there is a change to its history."""
        self._unsaved[number] = monitor
        if change:
            self._changes.append(change)
        self._save_within(SOON_SECONDS if change else SAVE_SECONDS)

    def forget(self, number: int) -> None:
        """A monitor is gone."""
        self._unsaved.pop(number, None)

    async def save(self) -> None:
        """Store everything now.

        Raises:
            StoreUnavailable: The database is away; nothing is lost.
        """
        async with self._lock:
            await self._keep_watch()
            while self._unsaved or self._changes:
                some = [self._unsaved.popitem() for _ in range(min(AT_ONCE, len(self._unsaved)))]
                changes = [self._changes.popleft() for _ in range(min(AT_ONCE, len(self._changes)))]
                memories = {number: json.dumps(monitor.dump()) for number, monitor in some}
                try:
                    await self._store.save(memories, changes)
                except StoreUnavailable:
                    self._unsaved = {**dict(some), **self._unsaved}
                    room = MAX_PENDING - len(self._changes)
                    self._changes.extendleft(reversed(changes[max(0, len(changes) - room) :]))
                    raise

    async def close(self) -> None:
        """Store what can be stored, and store nothing more until `open`."""
        self._closed = True
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._task:
            await asyncio.wait({self._task})
        self._kept = 0.0
        if self._may_save():
            with contextlib.suppress(StoreUnavailable):
                await self.save()
        else:
            self._changes.clear()
        self._unsaved.clear()  # it would replace what others store from now on

    async def _keep_watch(self) -> None:
        now = self._clock()
        if self._number is not None and not 0 <= now - self._kept < SAVE_SECONDS / 2:
            await self._store.keep_watch(self._number, now)
            self._kept = now

    def _save_within(self, seconds: float) -> None:
        if self._closed:
            return
        loop = asyncio.get_running_loop()
        at = loop.time() + seconds
        if self._timer:
            if self._timer.when() <= at:
                return
            self._timer.cancel()
        self._timer = loop.call_at(at, self._begin_save)

    def _begin_save(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._save_or_wait())

    async def _save_or_wait(self) -> None:
        try:
            if self._may_save():
                await self._besides()
                await self.save()
        except StoreUnavailable as error:
            if not self._away:
                log.warning("monitors cannot be stored", error=error.message)
            self._away = True
        except Exception:
            log.exception("monitors cannot be stored")
        else:
            self._away = False
        self._save_within(SAVE_SECONDS)  # that the server watches, at least
