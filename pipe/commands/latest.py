"""A command's answer again and again, for one reader."""

from __future__ import annotations

import abc
import asyncio
from typing import TYPE_CHECKING

from pipe.commands.screen import redraw

if TYPE_CHECKING:
    from collections.abc import Callable

    from pipe.commands.screen import Screen
    from pipe.rights.callers import Caller
    from pipe.service import Service

FOLLOW_SECONDS = 1.0
"""Answers come no more often."""


class Latest(abc.ABC):
    """The last answer, until it is taken: meanwhile no other is made, so a slow reader gets fewer.

    Args:
        service: what all sessions share.
        caller: the reader.
        screen: returns the reader's terminal, if it has one: there an answer replaces the one
            before.
    """

    def __init__(
        self, service: Service, caller: Caller, screen: Callable[[], Screen | None]
    ) -> None:
        self._service = service
        self._caller = caller
        self._screen = screen
        self._text = b""
        self._wake: Callable[[], None] = _nobody

    @abc.abstractmethod
    async def make(self) -> str:
        """Make an answer, in lines."""

    async def look(self) -> None:
        """Make answers until cancelled.

        Raises:
            PipeError: there is none for this reader, or none any more.
        """
        loop = asyncio.get_running_loop()
        while True:
            started = loop.time()
            if not self._text:
                self._service.access.require(self._caller)
                text, screen = await self.make(), self._screen()
                self._text = (redraw(text, screen) if screen else text).encode()
                self._wake()
            await asyncio.sleep(max(0.0, started + FOLLOW_SECONDS - loop.time()))

    def connect(self, wake: Callable[[], None]) -> None:
        """Call ``wake`` whenever there is another answer."""
        self._wake = wake

    def take(self, most: int) -> bytes:  # noqa: ARG002 - an answer is not cut
        """Take the answer, if it was not taken yet."""
        text, self._text = self._text, b""
        return text

    def close(self) -> None:
        """Wake nobody any more."""
        self._wake = _nobody


def _nobody() -> None:
    """Nobody reads."""
