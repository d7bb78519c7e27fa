"""How long a publisher waits for its readers, and what its user is told of that."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipe.errors import NobodyLeft
from pipe.session.midstream import what_it_waits_for, why_it_gave_up

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from pipe.language.requests import Publish


class Patience:
    """One publisher's.

    Args:
        loop: keeps the time.
        announce: tells the user a line.
        give_up: called when it has waited for too long, with the reason.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        announce: Callable[[str], None],
        give_up: Callable[[str], None],
    ) -> None:
        self._loop = loop
        self._announce = announce
        self._give_up = give_up
        self._missing = 0
        self._timer: asyncio.TimerHandle | None = None

    def wait(self, request: Publish, missing: int, sent: int, *, gone: bool = False) -> None:
        """Wait for ``missing`` more readers after ``sent`` bytes; 0 ends the wait.

        Args:
            request: what says for how long.
            missing: how many.
            sent: how far the stream is.
            gone: whether its client has hung up, so that nobody would learn of them.

        Raises:
            NobodyLeft: the stream must stay whole, so nobody can be waited for, or nobody waits.
        """
        self.stop()
        was_missing, self._missing = self._missing, missing
        if missing and gone:
            raise NobodyLeft("the last subscriber left, and so has whoever has sent this")
        if missing:
            text = what_it_waits_for(request, missing, sent)
            if not was_missing:
                self._announce(text)
            self._timer = self._loop.call_later(request.timeout, self._lose, request)
        elif was_missing:
            enough = "a subscriber is" if request.min_subscribers == 1 else "enough subscribers are"
            self._announce(f"{enough} here, sending")

    def stop(self) -> None:
        """Wait no more."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def _lose(self, request: Publish) -> None:
        self._give_up(why_it_gave_up(request, self._missing))
