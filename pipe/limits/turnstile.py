"""Whose command is answered when: of each user's, one at a time.

What all have to share, such as the accounts database, goes to whoever asked first.  So somebody who
asks a thousand things at once would stand before all others, and before all logins.
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
        """Wait until none of this user's other commands is at work.

        Each begins in a turn of the event loop of its own, as many never wait for anything.
        """
        lock = self._locks.get(user)
        if lock is None:
            lock = self._locks[user] = asyncio.Lock()
        async with lock:
            await asyncio.sleep(0)
            yield
