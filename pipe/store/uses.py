"""Times of last use: noted in memory, and stored together a little later.

One transaction serves many logins, and no login waits for it.
"""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Generic, TypeVar

from pipe.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Mapping

USES_DELAY = 1.0
"""Seconds until a time of last use is stored, with all others that were noted meanwhile."""

K = TypeVar("K")
V = TypeVar("V")


class Uses(Generic[K, V]):
    """Last uses and their times, until they are stored.

    Args:
        store: stores them; if it raises StoreUnavailable, the next use tries again.
    """

    def __init__(self, store: Callable[[Mapping[K, V]], Awaitable[None]]) -> None:
        self._store = store
        self._noted: dict[K, V] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._task: asyncio.Task[None] | None = None

    def note(self, key: K, use: V) -> None:
        """Note a use; `USES_DELAY` seconds later it is stored."""
        self._noted[key] = use
        if self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(USES_DELAY, self._begin)

    def _begin(self) -> None:
        self._timer = None
        self._task = asyncio.get_running_loop().create_task(self._flush_or_wait())

    async def _flush_or_wait(self) -> None:
        with contextlib.suppress(StoreUnavailable):
            await self.flush()

    async def flush(self) -> None:
        """Store the noted uses now.

        Raises:
            StoreUnavailable: The database cannot be used; nothing is lost.
        """
        if self._timer:
            self._timer.cancel()
            self._timer = None
        noted, self._noted = self._noted, {}
        if not noted:
            return
        try:
            await self._store(noted)
        except StoreUnavailable:
            self._noted = {**noted, **self._noted}
            raise

    async def close(self) -> None:
        """Store what can be stored, and stop noting."""
        if self._task:
            await asyncio.wait({self._task})
        await self._flush_or_wait()
