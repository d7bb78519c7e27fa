"""Reports that a connection or a channel is closed."""

from __future__ import annotations

import asyncio


class CloseEvent:
    """What asyncssh uses of an `asyncio.Event`, whose empty queue of waiters takes 760 bytes.

    Hardly anything waits for a connection's end, and nothing for a channel's.
    """

    __slots__ = ("_event", "_is_set")

    def __init__(self) -> None:
        self._is_set = False
        self._event: asyncio.Event | None = None  # while somebody waits

    def is_set(self) -> bool:
        """Whether it is closed."""
        return self._is_set

    def set(self) -> None:
        """Mark it closed, and wake all waiters."""
        self._is_set = True
        if self._event:
            self._event.set()

    async def wait(self) -> bool:
        """Wait until it is closed."""
        if not self._is_set:
            self._event = self._event or asyncio.Event()
            await self._event.wait()
        return True
