"""Tells that the other end of a wire is silent, and keeps this end from being so."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

SILENCE_SECONDS = 3.0
"""A wire on which nothing comes for so long is lost: its streams break, rather than stand still."""

BEATS = 6
"""Beats within that time, so that one or two may be late."""


class Pulse:
    """The pulse of one wire; it begins at once.

    It counts its own turns and not the time: while this process was stopped nothing could come,
    and that says nothing about the other end.

    Args:
        loop: whose timers it uses.
        beat: sends something, as nothing was sent lately.
        silent: nothing has come for the time of silence; called once.
        seconds: the time of silence.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        beat: Callable[[], None],
        silent: Callable[[], None],
        seconds: float = SILENCE_SECONDS,
    ) -> None:
        self._loop = loop
        self._beat = beat
        self._silent = silent
        self._pause = seconds / BEATS
        self._missed = 0
        self._sent = False
        self._timer: asyncio.TimerHandle | None = loop.call_later(self._pause, self._turn)

    def heard(self) -> None:
        """Something has come."""
        self._missed = 0

    def sent(self) -> None:
        """Something was sent, so no beat is needed."""
        self._sent = True

    def stop(self) -> None:
        """End it; doing so twice does no harm."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _turn(self) -> None:
        self._timer = None
        self._missed += 1
        if self._missed > BEATS:
            self._silent()
            return
        self._timer = self._loop.call_later(self._pause, self._turn)
        if not self._sent:
            self._beat()
        self._sent = False
