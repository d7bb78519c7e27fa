"""The database that machines share, and how this one has reached it lately."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, TypeVar

from pipe.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sqlalchemy import Connection

    from pipe.store.database import Database

QUIET_SECONDS = 10.0
"""Without an answer for so long it counts as away: it is asked every two seconds."""

T = TypeVar("T")


class Contact:
    """Passes on what is asked, and notes what came of it.

    Args:
        database: what is asked.

    Attributes:
        errors: how often it could not be used.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._answered = time.monotonic()
        self._failed = False
        self.errors = 0

    @property
    def reachable(self) -> bool:
        """Whether it has answered, and lately."""
        return not self._failed and self.quiet_seconds < QUIET_SECONDS

    @property
    def quiet_seconds(self) -> float:
        """How long ago it answered last."""
        return time.monotonic() - self._answered

    async def read(self, work: Callable[[Connection], T]) -> T:
        """Read in one transaction.

        Raises:
            StoreUnavailable: it cannot be used.
        """
        return await self._note(self._database.read(work))

    async def write(self, work: Callable[[Connection], T]) -> T:
        """Write in one transaction.

        Raises:
            StoreUnavailable: it cannot be used.
        """
        return await self._note(self._database.write(work))

    async def close(self) -> None:
        """Let go of it."""
        await self._database.close()

    async def _note(self, answer: Awaitable[T]) -> T:
        try:
            result = await answer
        except StoreUnavailable:
            self._failed = True
            self.errors += 1
            raise
        self._failed = False
        self._answered = time.monotonic()
        return result
