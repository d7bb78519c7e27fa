"""The list of topics again and again, for one reader: each is a line with a JSON array."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from pipe.commands.ls import list_topics
from pipe.language.names import parse_pattern

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.rights.callers import Caller
    from pipe.service import Service

FOLLOW_SECONDS = 1.0
"""Lists come no more often."""


class TopicLists:
    """The newest list, until it is taken: a slow reader misses those between.

    Raises:
        BadName: the pattern is not valid.
    """

    def __init__(self, service: Service, caller: Caller, pattern: str | None) -> None:
        if pattern:
            parse_pattern(pattern, caller=caller.user)
        self._service = service
        self._caller = caller
        self._pattern = pattern
        self._newest = b""
        self._wake: Callable[[], None] = _nobody

    async def look(self) -> None:
        """Make lists until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            found = await list_topics(self._service, self._caller, self._pattern, as_json=True)
            self._newest = f"[{','.join(found.splitlines())}]\n".encode()
            self._wake()
            await asyncio.sleep(max(0.0, started + FOLLOW_SECONDS - loop.time()))

    def connect(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there is another list."""
        self._wake = wake

    def take(self, most: int) -> bytes:  # noqa: ARG002 - a list is not cut
        """Take the newest list, if it was not taken yet."""
        newest, self._newest = self._newest, b""
        return newest

    def close(self) -> None:
        """Wake nobody any more."""
        self._wake = _nobody


def _nobody() -> None:
    """Nobody reads."""
