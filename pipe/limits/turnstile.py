"""Runs each user's commands one at a time.

What all users share, such as the accounts database, serves requests in order.  A user who sends a
thousand commands at once would otherwise delay everybody else, and all logins.
"""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

if TYPE_CHECKING:
    from collections.abc import AsyncIterator


class Turnstile:
    """Lets the commands of each user through one at a time."""

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    def __len__(self) -> int:
        return len(self._locks)

    @asynccontextmanager
    async def turn(self, user: str) -> AsyncIterator[None]:
        """Wait until none of this user's other commands is running.

        Each begins in its own turn of the event loop, as many commands never wait for anything.
        """
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        async with lock:
            await asyncio.sleep(0)
            yield
